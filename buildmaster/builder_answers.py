"""What builders answer, parsed. It is hostile until then: whatever has not the right shape is one error, BadAnswer.

What comes out is a frozen value.
"""

import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

from defusedxml.xmlrpc import DefusedExpatParser

from buildd.protocol import (
    ERROR_MAX,
    LOG_TAIL_BYTES,
    STATUSES_WITH_FILES,
    BuilderStatus,
    BuildId,
    BuildStatus,
    Cause,
    FileName,
    Sha1,
    parse_build_id,
    parse_cause,
    parse_filemap,
)
from buildmaster.builder_http import BuilderError

DEPTH_LIMIT = 8  # Arrays and structs inside each other; the protocol needs three.
FILES_LIMIT = 20_000  # In one filemap.
TEXT_LIMIT = 8_192  # Characters; a longer text is cut.
WORD_LIMIT = 255  # Of a text that has a word or two; what its column takes.
LINES_LIMIT = 40  # Of a text that has several.


class BuilderFault(BuilderError):
    """A builder answered with a fault."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"fault {code}: {text}")
        self.code = code
        self.text = text


class BadAnswer(BuilderError):
    """A builder's answer is not what the protocol allows."""


@dataclass(frozen=True)
class Status:
    """What status() said."""

    builder_status: BuilderStatus
    version: str = ""
    build_id: BuildId | None = None  # None when IDLE.
    log_tail: bytes = b""
    stage: str = ""
    build_status: BuildStatus | None = None  # While WAITING.
    filemap: Mapping[FileName, Sha1] | None = None  # While WAITING, for STATUSES_WITH_FILES.
    dependencies: str = ""
    reason: str = ""
    cause: Cause | None = None  # Of a failure; a stock daemon tells none.
    error: str = ""  # Lines of the log that tell what went wrong.


def parse_answer(body: bytes) -> object:
    """The value in an answer. No entity is expanded.

    :raises BuilderFault: the answer is a fault.
    :raises BadAnswer: it is not XML-RPC, or nested too deeply.
    """
    unmarshaller = xmlrpc.client.Unmarshaller()
    parser = DefusedExpatParser(unmarshaller, forbid_dtd=True)
    try:
        parser.feed(body)
        parser.close()
        values = unmarshaller.close()
    except xmlrpc.client.Fault as fault:
        raise BuilderFault(_fault_code(fault), text(fault.faultString)) from None
    except (ExpatError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise BadAnswer(f"not an XML-RPC answer: {type(error).__name__}: {text(str(error))}") from error
    except xmlrpc.client.Error as error:
        raise BadAnswer("not an XML-RPC answer") from error
    if len(values) != 1:
        raise BadAnswer(f"an XML-RPC answer with {len(values)} values")
    _check_depth(values[0], DEPTH_LIMIT)
    return values[0]


def _fault_code(fault: xmlrpc.client.Fault) -> int:
    return fault.faultCode if isinstance(fault.faultCode, int) else 0


def _check_depth(value: object, limit: int) -> None:
    if not isinstance(value, list | dict):
        return
    if limit == 0:
        raise BadAnswer(f"arrays or structs nested more than {DEPTH_LIMIT} deep")
    for part in value.values() if isinstance(value, dict) else value:
        _check_depth(part, limit - 1)


def pair(answer: object, method: str) -> tuple[object, object]:
    if not isinstance(answer, list) or len(answer) != 2:
        raise BadAnswer(f"{method}() answered something else than a pair")
    return answer[0], answer[1]


def parse_status(answer: object) -> Status:
    """What status() and wait() answer.

    :raises BadAnswer: a word in it is unknown, or a value is no such thing.
    """
    if not isinstance(answer, dict):
        raise BadAnswer("status() answered something else than a struct")
    try:
        builder_status = BuilderStatus(_word(answer, "builder_status"))
        version, stage = (text(answer.get(key, ""))[:WORD_LIMIT] for key in ("builder_version", "stage"))
        if builder_status is BuilderStatus.IDLE:
            return Status(builder_status, version)
        build_id = parse_build_id(answer.get("build_id"))
        if builder_status is not BuilderStatus.WAITING:
            return Status(builder_status, version, build_id, _log_tail(answer), stage)
        return _parse_waiting(answer, version, build_id)
    except ValueError as error:  # ProtocolError is one; so is an unknown word.
        raise BadAnswer(f"status(): {text(str(error))}") from error


def _parse_waiting(answer: Mapping[object, object], version: str, build_id: BuildId) -> Status:
    build_status = BuildStatus(_word(answer, "build_status"))
    filemap = None
    if build_status in STATUSES_WITH_FILES:
        filemap = parse_filemap(answer.get("filemap", {}))
        if len(filemap) > FILES_LIMIT:
            raise BadAnswer(f"a filemap of {len(filemap)} files")
    return Status(
        BuilderStatus.WAITING,
        version,
        build_id,
        build_status=build_status,
        filemap=filemap,
        dependencies=text(answer.get("dependencies", "")),
        reason=text(answer.get("reason", "")),
        cause=parse_cause(answer.get("cause")),
        error=_lines(answer.get("error", "")),
    )


def _word(answer: Mapping[object, object], key: str) -> str:
    value = answer.get(key)
    if not isinstance(value, str):
        raise BadAnswer(f"status(): {key} is no string")
    return value


def _log_tail(answer: Mapping[object, object]) -> bytes:
    tail = answer.get("logtail", b"")
    if isinstance(tail, xmlrpc.client.Binary):
        return tail.data[-LOG_TAIL_BYTES:]
    return tail[-LOG_TAIL_BYTES:].encode()[-LOG_TAIL_BYTES:] if isinstance(tail, str) else b""


def text(value: object) -> str:
    """A builder's words, as one line that can be shown and stored: nothing unprintable, and not too long."""
    if not isinstance(value, str):
        return "" if value is None else f"a {type(value).__name__}"
    return "".join(c if c.isprintable() else " " for c in value[:TEXT_LIMIT]).strip()


def _lines(value: object) -> str:
    """A builder's words, as lines that can be shown and stored."""
    if not isinstance(value, str):
        return ""
    lines = value[:ERROR_MAX].split("\n")[:LINES_LIMIT]
    return "\n".join("".join(c if c.isprintable() else " " for c in line).rstrip() for line in lines).strip("\n")
