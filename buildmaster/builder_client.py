"""The protocol, version 1.0, as the master speaks it to one builder.

What a builder says is hostile until it is parsed: whatever has not the right shape is one BuilderError, and what comes
out of here is a frozen value.
"""

import time
import xmlrpc.client
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

from defusedxml.xmlrpc import DefusedExpatParser
from twisted.internet.defer import CancelledError, Deferred

from buildd.protocol import (
    ERROR_MAX,
    STATUSES_WITH_FILES,
    BuildAnswer,
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
from buildmaster.acts import Acts, Allowed
from buildmaster.blame import Patience, Unheard
from buildmaster.builder_http import BodyReader, BuilderError, BuilderHttp, BuilderSilent, BuilderUnreachable

ANSWER_LIMIT_BYTES = 4 << 20  # The longest honest one is the filemap of a build with some thousand results.
DEPTH_LIMIT = 8  # Arrays and structs inside each other; the protocol needs three.
FILES_LIMIT = 20_000  # In one filemap.
TEXT_LIMIT = 8_192  # Characters; a longer text is cut.
LINES_LIMIT = 40  # Of a text that has several.
_LONG_BYTES = 64 << 10  # A longer answer is parsed in a thread: one of 4 MB would have the reactor for 0.7 s.
UNKNOWN_METHOD = 8001  # The fault that twisted.web answers.

T = TypeVar("T")


class BuilderFault(BuilderError):
    """A builder answered with a fault."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"fault {code}: {text}")
        self.code = code
        self.text = text


class BadAnswer(BuilderError):
    """A builder's answer is not what the protocol allows."""


class CutShort(Exception):
    """A transfer was ended by us, since nobody wants it any more. Nothing failed."""


class TooSlow(BuilderError):
    """A file comes from a builder, but not in the time that it may take."""


class BuildRefused(BuilderError):
    """A builder did not take a build: it lacks a file, or does not know the build type."""


@dataclass(frozen=True)
class Timeouts:
    """How long calls may take, in seconds."""

    rpc_s: float = 40.0
    fetch_s: float = 800.0  # One ensurepresent.
    silence_s: float = 60.0  # Without a byte, in a download.
    look_s: float = 5.0  # One look at the log of a running build.
    patience: Patience = field(default_factory=Patience)  # No call ends long after a builder counts as lost.


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


class BuilderClient:
    """Calls to one builder. Any of them may raise BuilderError."""

    def __init__(
        self,
        url: str,
        http: BuilderHttp,
        timeouts: Timeouts,
        clock: Callable[[], float] = time.monotonic,
        *,
        allowed: Allowed = lambda: None,
        acts: Acts | None = None,
    ) -> None:
        """:param url: http://HOST:PORT/, with the slash.
        :param clock: seconds; not the reactor's, whose time anybody can set.
        :param allowed: asked when a call that has an effect is written to the network; what it raises comes out.
        :param acts: where such calls go on when who waits for them is cancelled.
        """
        self.url = url
        self._clock = clock
        self.timeouts = timeouts
        self._http = http
        self.allowed = allowed
        self._acts = acts or Acts()
        self._waits = True  # Until it says that it knows no wait().
        self._heard_at = self.now()  # When anything last came from the builder.
        self._tries = 0  # Requests since that failed for that nothing did.
        self._transfers: set[Deferred[Any]] = set()  # That go on.
        self._is_cut = False

    @property
    def waits(self) -> bool:
        """Whether the builder may have wait(), which a stock daemon has not."""
        return self._waits

    @property
    def unheard(self) -> Unheard:
        """For how long nothing has been heard of the builder."""
        return Unheard(self.now() - self._heard_at, self._tries)

    async def status(self) -> Status:
        """What the builder is doing."""
        return parse_status(await self._call("status"))

    async def echo(self, word: str) -> None:
        """See whether the builder answers at all."""
        if await self._call("echo", word) != [word]:
            raise BadAnswer("echo() answers with something else than it was told")

    async def wait(self, status: Status, timeout_s: float) -> Status | None:
        """Its status, as soon as it is another than this or the time is over. None: it has no wait()."""
        try:
            known = (str(status.builder_status), status.build_id or "")
            answer = await self._call("wait", *known, timeout_s, extra_s=timeout_s)
        except BuilderFault as fault:
            if fault.code != UNKNOWN_METHOD:
                raise
            self._waits = False
            return None
        return parse_status(answer)

    async def ensure_present(self, sha1: Sha1, url: str) -> None:
        """Make the builder fetch a file, unless it has it.

        :raises BuilderError: it could not.
        :raises CutShort: cut() was called.
        """
        extra_s = self.timeouts.fetch_s - self.timeouts.rpc_s
        answer = await self._unless_cut(self._call("ensurepresent", sha1, url, "", "", extra_s=extra_s))
        present, text = _pair(answer, "ensurepresent")
        if present is not True:
            place, _, secret = url.partition("?")  # With which anybody could fetch it.
            why = _text(text).replace(f"?{secret}", "").replace(secret, "...") if secret else _text(text)
            raise BuilderError(f"it could not fetch {place}: {why}")

    async def build(
        self, build_id: BuildId, build_type: str, chroot: Sha1, filemap: Mapping[FileName, Sha1], arguments: object
    ) -> None:
        """Begin a build.

        :raises BuildRefused: the answer was not BUILDING.
        """
        answer = await self._act("build", build_id, build_type, chroot, dict(filemap), arguments)
        code, text = _pair(answer, "build")
        if code != BuildAnswer.BUILDING:
            raise BuildRefused(f"build() answered {_text(code)}: {_text(text)}")

    async def abort(self) -> None:
        """Begin to stop the build."""
        await self._act("abort")

    async def clean(self) -> None:
        """Forget the build that ended, and its files."""
        await self._act("clean")

    def cut(self) -> None:
        """Let no transfer go on, nor begin, until go_on(): it raises CutShort."""
        self._is_cut = True
        for transfer in tuple(self._transfers):
            transfer.cancel()

    def go_on(self) -> None:
        """Let transfers be made again."""
        self._is_cut = False

    async def file(self, sha1: Sha1, offset: int = 0, deadline: float | None = None) -> BodyReader | None:
        """Begin to fetch a file from the builder's cache.

        :param offset: where to begin, in bytes.
        :param deadline: by when to be there, where the builder knows no ranges; None: in a short while.
        :returns: None when there is nothing behind the offset, or no such file.
        :raises TooSlow: it did not get there.
        :raises CutShort: cut() was called.
        """
        try:
            return await self._file(sha1, offset, deadline)
        except _NothingThere:
            return None

    async def log(self, offset: int = 0, deadline: float | None = None) -> BodyReader | None:
        """Begin to fetch the log of the current or last build; as file()."""
        try:
            return await self._file("buildlog", offset, deadline)
        except _NothingThere:
            return None

    async def _file(self, name: str, offset: int, deadline: float | None) -> BodyReader:
        url = f"{self.url}filecache/{name}"
        request = self._http.get(url, self._patience_s(self.timeouts.silence_s), offset or None)
        code, body = await self._hear(self._unless_cut(request))
        if code == (206 if offset else 200):
            return body
        if code == 200:  # It does not know ranges: what is known already is skipped.
            await self._skip(body, offset, deadline or self.now() + self.timeouts.look_s)
            return body
        body.drop()
        if code in (404, 416):
            raise _NothingThere(f"HTTP status {code} for {url}")
        raise BuilderError(f"HTTP status {code} for {url}")

    async def _skip(self, body: BodyReader, count: int, deadline: float) -> None:
        while count > 0:
            data = await self.read(body, deadline)
            if not data:
                return
            count -= len(data)
            if count < 0:
                body.put_back(data[count:])

    async def read(self, body: BodyReader, deadline: float | None = None) -> bytes:
        """The next piece of a file; b"" at its end.

        :param deadline: by now(): the silence limit alone would let a builder that drips bytes hold us for ever.
        :raises BuilderUnreachable: it broke off; BuilderSilent, nothing came for too long.
        :raises TooSlow: the deadline is over.
        :raises CutShort: cut() was called.
        """
        seconds = self._patience_s(self.timeouts.silence_s)
        if deadline is not None:
            seconds = min(seconds, deadline - self.now())
            if seconds <= 0:
                raise TooSlow("the file did not come in time")
        try:
            return await self._hear(self._unless_cut(self._http.within(seconds, body.read())))
        except BuilderSilent as error:
            if deadline is not None and self.now() >= deadline:
                raise TooSlow("the file did not come in time") from error
            raise

    def now(self) -> float:
        """The time that deadlines are told in; seconds."""
        return self._clock()

    async def _act(self, method: str, *arguments: object) -> object:
        """A call that has an effect.

        :raises LeaseLost: this master may not; nothing was called.
        """
        self.allowed()
        return await self._acts.outlive(self._call(method, *arguments, allowed=self.allowed))

    async def _call(
        self, method: str, *arguments: object, extra_s: float = 0.0, allowed: Allowed = lambda: None
    ) -> object:
        request = xmlrpc.client.dumps(arguments, method, allow_none=True)  # type: ignore[arg-type]
        timeout_s = self.timeouts.rpc_s + extra_s if extra_s else self._patience_s(self.timeouts.rpc_s)
        url = f"{self.url}rpc"
        answer = self._http.post(url, request.encode(), ANSWER_LIMIT_BYTES, timeout_s, allowed)
        body = await self._hear(answer)
        if len(body) <= _LONG_BYTES:
            return parse_answer(body)
        return await self._http.in_thread(parse_answer, body)

    async def _unless_cut(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await one step of a transfer, which may be cut short."""
        if self._is_cut:
            coroutine.close()
            raise CutShort
        transfer = Deferred.fromCoroutine(coroutine)
        self._transfers.add(transfer)
        try:
            return await transfer
        except CancelledError:
            if self._is_cut:
                raise CutShort from None
            raise
        finally:
            self._transfers.discard(transfer)

    async def _hear(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await what a builder answers, and remember whether it did; an answer that is wrong is one, too."""
        try:
            answer = await coroutine
        except BuilderUnreachable:
            self._tries += 1
            raise
        except BuilderError:
            self._heard()
            raise
        self._heard()
        return answer

    def _heard(self) -> None:
        self._heard_at, self._tries = self.now(), 0

    def _patience_s(self, seconds: float) -> float:
        """A timeout, cut to what is left until the builder counts as lost, once it began to be silent."""
        left = self.timeouts.patience.silent_s - self.unheard.seconds
        return min(seconds, left) if self._tries and left > 0 else seconds


class _NothingThere(BuilderError):
    """The builder does not have this file, or not as much of it."""


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
        raise BuilderFault(_fault_code(fault), _text(fault.faultString)) from None
    except (ExpatError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise BadAnswer(f"not an XML-RPC answer: {type(error).__name__}: {_text(str(error))}") from error
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


def _pair(answer: object, method: str) -> tuple[object, object]:
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
        version, stage = _text(answer.get("builder_version", "")), _text(answer.get("stage", ""))[:255]
        if builder_status is BuilderStatus.IDLE:
            return Status(builder_status, version)
        build_id = parse_build_id(answer.get("build_id"))
        if builder_status is not BuilderStatus.WAITING:
            return Status(builder_status, version, build_id, _log_tail(answer), stage)
        return _parse_waiting(answer, version, build_id)
    except ValueError as error:  # ProtocolError is one; so is an unknown word.
        raise BadAnswer(f"status(): {_text(str(error))}") from error


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
        dependencies=_text(answer.get("dependencies", "")),
        reason=_text(answer.get("reason", "")),
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
        return tail.data
    return tail.encode() if isinstance(tail, str) else b""


def _text(value: object) -> str:
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
