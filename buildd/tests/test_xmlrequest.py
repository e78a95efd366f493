"""Tests of buildd.xmlrequest."""

import xmlrpc.client
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildd.protocol import ProtocolError
from buildd.xmlrequest import ELEMENTS_MAX, parse_call, sendable, write_answer


def _call(value: str) -> bytes:
    return (
        f"<?xml version='1.0'?><methodCall><methodName>echo</methodName>"
        f"<params><param><value>{value}</value></param></params></methodCall>"
    ).encode()


def _nested(depth: int) -> str:
    return "<array><data><value>" * depth + "x" + "</value></data></array>" * depth


def test_what_a_client_sends_is_parsed() -> None:
    """Every type of XML-RPC, nil included, comes through."""
    arguments = (1, "zwei", 3.0, True, None, [1, [2]], {"a": {"b": "c"}}, "<&>\u20ac")
    assert parse_call(xmlrpc.client.dumps(arguments, "echo", allow_none=True).encode()) == ("echo", arguments)


@settings(deadline=None)  # The machine may have other things to do.
@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text("ab<&>é\n"), st.lists))
def test_what_is_written_can_be_read(value: Any) -> None:
    """An answer is what a client's library reads."""
    assert xmlrpc.client.loads(write_answer(value).decode())[0] == (value,)


def test_dates_and_binary_values_come_back() -> None:
    """Dates and binary values can be echoed."""
    arguments = (xmlrpc.client.DateTime("20261122T01:02:03"), xmlrpc.client.Binary(b"\0\xff"))
    _, parsed = parse_call(xmlrpc.client.dumps(arguments, "echo").encode())
    assert xmlrpc.client.loads(write_answer(list(parsed)).decode())[0] == (list(arguments),)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not well-formed XML"),
        (b"hello", "not well-formed XML"),
        (b"\0" * 100, "not well-formed XML"),
        (_call("a\0b"), "not well-formed XML"),
        (_call("&#0;"), "not well-formed XML"),
        (_call("x")[:-5], "not well-formed XML"),
        (b"<?xml version='1.0' encoding='rot13'?><a/>", "not a method call"),
        (b"<a/>", "not a method call"),
        (b"<methodCall/>", "not a method call"),
        (b"<methodCall><params/></methodCall>", "names no method"),
        (b"<methodResponse><params/></methodResponse>", "names no method"),
        (xmlrpc.client.dumps(xmlrpc.client.Fault(1, "x")).encode(), "not a method call"),
        (_call("<int>x</int>"), "not a method call"),
        (_call("<int>" + "9" * 5000 + "</int>"), "not a method call"),
        (_call("<boolean>2</boolean>"), "not a method call"),
        (_call("<base64>é</base64>"), "not a method call"),
        (_call("<nonsense/>"), "not a method call"),
        (_call("<dateTime.iso8601>&lt;/value&gt;</dateTime.iso8601>"), "not a date"),
        (_call("<struct><member><name>a</name></member></struct>"), "not a method call"),
        (_call("</array>"), "not well-formed XML"),
        (b"<!DOCTYPE a><methodCall/>", "document type or entities"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><methodCall><methodName>&b;</methodName></methodCall>", "document type"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><methodCall/>", "document type"),
        (_call(_nested(200_000)), "nested deeper than"),
        (b"<a>" * 200_000, "nested deeper than"),
        (_call("<array><data>" + "<value/>" * ELEMENTS_MAX + "</data></array>"), "elements of XML"),
    ],
)
def test_what_is_no_call_is_refused(body: bytes, complaint: str) -> None:
    """What is no method call, or goes beyond the limits, is told in a sentence."""
    with pytest.raises(ProtocolError, match=complaint):
        parse_call(body)


def test_reasonable_nesting_is_fine() -> None:
    """Fifty arrays in one another are parsed, and can be answered."""
    _, arguments = parse_call(_call(_nested(50)))
    assert b"x" in write_answer(arguments[0])


@settings(deadline=None)  # The machine may have other things to do.
@given(st.binary())
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    """Nothing but ProtocolError comes of any bytes."""
    with pytest.raises(ProtocolError):
        parse_call(body)


@pytest.mark.parametrize("answer", [2**31, object(), "\ud800", {1: 2}])
def test_answer_that_cannot_be_sent(answer: object) -> None:
    """An answer that XML-RPC cannot carry is an error of ours with a reason, not half an answer."""
    with pytest.raises(ProtocolError, match="cannot be sent"):
        write_answer(answer)


@settings(deadline=None)  # The machine may have other things to do.
@given(st.text())
def test_any_text_can_be_made_sendable(text: str) -> None:
    """What goes through sendable() comes out of a client's parser; carriage returns apart, as XML has it."""
    (received,), _ = xmlrpc.client.loads(write_answer(sendable(text)).decode())
    assert received == sendable(text).replace("\r\n", "\n").replace("\r", "\n")
