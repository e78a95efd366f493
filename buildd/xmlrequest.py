"""XML-RPC requests from anyone: parsed with limits, and answers written so that they can be read."""

import re
import xmlrpc.client
from typing import Any, Final
from xml.parsers.expat import ExpatError
from xmlrpc.client import Fault, Unmarshaller

from defusedxml import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

from buildd.protocol import ProtocolError

DEPTH_MAX: Final = 200  # Elements; an array in an array is three of them.
ELEMENTS_MAX: Final = 300_000  # A value that is parsed takes up to a hundred times its length.

_DATE = re.compile(r"[0-9TZ:+.-]{1,40}", re.ASCII)
# What XML 1.0 cannot carry, not even escaped.
_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _BoundedUnmarshaller(Unmarshaller):
    """Stops at the first element too many: the base class takes any number, at any depth."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: Any) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > DEPTH_MAX:
            raise ProtocolError(f"values are nested deeper than {DEPTH_MAX} elements of XML")
        if self._elements > ELEMENTS_MAX:
            raise ProtocolError(f"more than {ELEMENTS_MAX} elements of XML")
        super().start(tag, attrs)

    def end(self, tag: str) -> None:
        self._depth -= 1
        super().end(tag)


def parse_call(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """The method's name and its arguments.

    :raises ProtocolError: it is no well-formed method call, or goes beyond the limits.
    """
    target = _BoundedUnmarshaller()
    try:
        parser = DefusedExpatParser(target, forbid_dtd=True)
        parser.feed(body)
        parser.close()
        arguments = target.close()
        name = target.getmethodname()
    except ProtocolError:
        raise
    except ExpatError as exc:
        raise ProtocolError(f"the request is not well-formed XML: {exc}") from exc
    except DefusedXmlException as exc:
        raise ProtocolError("the request has a document type or entities, which are not allowed") from exc
    # The library was not written for what is no XML-RPC, and falls over it in many ways.
    except Exception as exc:
        raise ProtocolError(f"the request is not a method call of XML-RPC ({type(exc).__name__})") from exc
    if not isinstance(name, str):
        raise ProtocolError("the request is not a method call of XML-RPC: it names no method")
    _check_dates(arguments)
    return name, tuple(arguments)


def _check_dates(value: Any) -> None:
    """Dates are not looked at by the library, and would be written into an answer as they are."""
    if isinstance(value, xmlrpc.client.DateTime) and not _DATE.fullmatch(value.value):
        raise ProtocolError("a dateTime.iso8601 is not a date")
    if isinstance(value, list | tuple):
        for item in value:
            _check_dates(item)
    elif isinstance(value, dict):
        for item in value.values():
            _check_dates(item)


def write_answer(answer: object) -> bytes:
    """A method's answer, or a Fault, on the wire.

    :raises ProtocolError: the answer has something in it that XML-RPC cannot carry.
    """
    content: Any = answer if isinstance(answer, Fault) else (answer,)
    try:
        text = xmlrpc.client.dumps(content, methodresponse=True, allow_none=True)
        return text.encode()
    except (TypeError, OverflowError, UnicodeError) as exc:
        raise ProtocolError(f"the answer cannot be sent by XML-RPC: {exc}") from exc


def sendable(text: str) -> str:
    """Text without the characters that XML cannot carry."""
    return _UNSENDABLE.sub("\ufffd", text)
