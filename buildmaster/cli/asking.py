"""Asking a build daemon what it is, before it is added to a farm, and what else commands ask one. The answer is a
stranger's: bounded and checked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit
from xmlrpc.client import dumps

from buildd.protocol import PROTOCOL_VERSION, ProtocolError, parse_architecture
from buildmaster.builder_answers import BadAnswer, BuilderFault, parse_answer
from buildmaster.cli.group import Refusal
from buildmaster.cli.text import one_line

TIMEOUT_S = 10.0
ANSWER_LIMIT_BYTES = 1 << 16  # That of info() has some 500.


@dataclass(frozen=True)
class BuilderInfo:
    """What info() of a daemon says."""

    architecture: str
    build_types: tuple[str, ...]


class NoAnswer(Refusal):
    """Nothing answers at a URL."""


def ask_info(url: str, timeout_s: float = TIMEOUT_S) -> BuilderInfo:
    """Call info() of the daemon at a URL.

    :raises Refusal: it does not answer, is no build daemon, or speaks another version of the protocol.
    """
    try:
        answer = call(f"{url.rstrip('/').removesuffix('/rpc')}/rpc", "info", timeout_s)
    except NoAnswer as error:
        advice = "Start the daemon there; or add the builder unasked, with --offline --architecture ARCH"
        raise Refusal(f"{error.message}. {advice}") from error
    except BuilderFault as fault:
        raise Refusal(f"{url} answers info() with {fault}") from fault
    except BadAnswer as error:
        raise Refusal(f"{url} is no build daemon: it does not answer in XML-RPC ({error})") from error
    match answer:
        case [str(version), architecture, [*types]]:
            pass
        case _:
            raise Refusal(f"{url} is no build daemon: its answer to info() makes no sense")
    if version != PROTOCOL_VERSION:
        raise Refusal(
            f"{url} speaks version {version!r:.40} of the builder protocol; this master needs {PROTOCOL_VERSION}"
        )
    try:
        return BuilderInfo(parse_architecture(architecture), tuple(str(each) for each in types))
    except ProtocolError as error:
        raise Refusal(f"{url} does not say which architecture it has: {error}") from error


def call(url: str, method: str, timeout_s: float = TIMEOUT_S, limit_bytes: int = ANSWER_LIMIT_BYTES) -> object:
    """Call a method that takes nothing of the daemon at a URL, which ends in /rpc.

    :param limit_bytes: how long its answer may be.
    :raises NoAnswer: there is none.
    :raises Refusal: what answers is no daemon.
    :raises BuilderFault, BadAnswer: see parse_answer().
    """
    body = dumps((), method, allow_none=True).encode()
    with answer_of(url, timeout_s, "POST", body, {"Content-Type": "text/xml"}) as response:
        if response.status != 200:
            raise Refusal(f"{url} is no build daemon: it answers {response.status} {one_line(response.reason)}")
        return parse_answer(_read_bounded(response, url, time.monotonic() + timeout_s, limit_bytes))


@contextmanager
def answer_of(
    url: str, timeout_s: float, method: str, body: bytes | None, headers: dict[str, str]
) -> Iterator[HTTPResponse]:
    """What is answered at a URL, whatever its status. No proxy is asked: the master asks directly, too.

    :raises NoAnswer: nothing is, or it breaks off.
    """
    try:
        parts = urlsplit(url)
        make = {"http": HTTPConnection, "https": HTTPSConnection}[parts.scheme]
        if not parts.hostname:
            raise ValueError
        connection = make(parts.hostname, parts.port, timeout=timeout_s)
    except (ValueError, KeyError) as error:
        raise Refusal(f"{url!r} is no URL of a builder, such as http://HOST:8221/") from error
    try:
        connection.request(method, parts.path, body, headers)
        yield connection.getresponse()
    except (OSError, HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswer(f"{url} does not answer ({one_line(why)})") from error
    finally:
        connection.close()


def _read_bounded(response: HTTPResponse, url: str, deadline: float, limit_bytes: int) -> bytes:
    answer = bytearray()
    while chunk := response.read1(1 << 16):
        answer += chunk
        if len(answer) > limit_bytes or time.monotonic() > deadline:
            raise Refusal(f"{url} is no build daemon: its answer does not end")
    return bytes(answer)
