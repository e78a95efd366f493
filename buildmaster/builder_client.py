"""The protocol, version 1.0, as the master speaks it to one builder; builder_answers.py parses what that says."""

import math
import time
import xmlrpc.client
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from buildd.protocol import BuildAnswer, BuilderStatus, BuildId, FileName, Sha1
from buildmaster.acts import Acts, Allowed
from buildmaster.blame import Patience, Unheard
from buildmaster.builder_answers import BadAnswer, BuilderFault, Status, pair, parse_answer, parse_status, text
from buildmaster.builder_http import BodyReader, BuilderError, BuilderHttp, BuilderSilent, BuilderUnreachable

ANSWER_LIMIT_BYTES = 4 << 20  # The longest honest one is the filemap of a build with some thousand results.
_LONG_BYTES = 64 << 10  # A longer answer is parsed in a thread: one of 4 MB would have the reactor for 0.7 s.
_TRANSFERS = 2  # At once.
UNKNOWN_METHOD = 8001  # The fault that twisted.web answers.

T = TypeVar("T")


class CutShort(Exception):
    """A transfer was ended by us, since nobody wants it any more. Nothing failed."""


class TooSlow(BuilderError):
    """A file comes from a builder, but not in the time that it may take."""


class BuildRefused(BuilderError):
    """A builder did not take a build: it lacks a file, or does not know the build type."""


class FilesMissing(BuildRefused):
    """A builder lacks a file that a build needs."""


@dataclass(frozen=True)
class Timeouts:
    """How long calls may take, in seconds."""

    rpc_s: float = 40.0
    fetch_s: float = 800.0  # One ensurepresent.
    silence_s: float = 60.0  # Without a byte, in a download.
    look_s: float = 5.0  # One look at the log of a running build.
    patience: Patience = field(default_factory=Patience)  # No call ends long after a builder counts as lost.


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
        self.has_wait: bool | None = None  # A stock daemon has no wait(). None: it was not asked yet.
        self._heard_at = self.now()  # When anything last came from the builder.
        self._tries = 0  # Requests since that failed for that nothing did, one after the other.
        self._failed_at = -math.inf  # When the last of these did.
        self.line = DeferredSemaphore(_TRANSFERS)  # Of those who fetch the files of a build.
        self._transfers: set[Deferred[Any]] = set()  # That go on.
        self._is_cut = False

    @property
    def waits(self) -> bool:
        """Whether the builder has wait(), as far as we know."""
        return self.has_wait is not False

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
            self.has_wait = False
            return None
        self.has_wait = True
        return parse_status(answer)

    async def ensure_present(self, sha1: Sha1, url: str) -> None:
        """Make the builder fetch a file, unless it has it.

        :raises BuilderError: it could not.
        :raises CutShort: cut() was called.
        """
        extra_s = self.timeouts.fetch_s - self.timeouts.rpc_s
        answer = await self._unless_cut(lambda: self._call("ensurepresent", sha1, url, "", "", extra_s=extra_s))
        present, why = pair(answer, "ensurepresent")
        if present is not True:
            place, _, secret = url.partition("?")  # With which anybody could fetch it.
            words = text(why).replace(f"?{secret}", "").replace(secret, "...") if secret else text(why)
            raise BuilderError(f"it could not fetch {place}: {words}")

    async def build(
        self, build_id: BuildId, build_type: str, chroot: Sha1, filemap: Mapping[FileName, Sha1], arguments: object
    ) -> None:
        """Begin a build.

        :raises FilesMissing: it lacks some of the files.
        :raises BuildRefused: the answer was not BUILDING.
        """
        answer = await self._act("build", build_id, build_type, chroot, dict(filemap), arguments)
        code, why = pair(answer, "build")
        if code != BuildAnswer.BUILDING:
            refused = FilesMissing if code == BuildAnswer.UNKNOWN_SUM else BuildRefused
            raise refused(f"build() answered {text(code)}: {text(why)}")

    async def abort(self) -> None:
        """Begin to stop the build."""
        await self._act("abort")

    async def clean(self) -> bool:
        """Forget the build that ended, and its files. Returns whether there is no doubt that the builder is idle now:
        our own daemon, which is known by its wait(), answers so when it is. Others always do."""
        answer = await self._act("clean")
        return self.has_wait is True and answer == BuilderStatus.IDLE

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
        :param deadline: by when to be there, which takes long where it knows no ranges; None: in a short while.
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
        code, body = await self._in_time(deadline, lambda seconds: self._http.get(url, seconds, offset or None))
        if code == (206 if offset else 200):
            return body
        if code == 200:  # It does not know ranges: what is known already is skipped.
            try:
                await self._skip(body, offset, self.now() + self.timeouts.look_s if deadline is None else deadline)
            except BaseException:
                body.drop()
                raise
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
        return await self._in_time(deadline, lambda seconds: self._http.within(seconds, body.read()))

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

    async def _in_time(self, deadline: float | None, step: Callable[[float], Coroutine[Any, Any, T]]) -> T:
        """Await one step of a file's transfer, which is told how many seconds it may take; see read()."""
        seconds = self._patience_s(self.timeouts.silence_s)
        if deadline is not None:
            seconds = min(seconds, deadline - self.now())
            if seconds <= 0:
                raise TooSlow("the file did not come in time")
        try:
            return await self._hear(self._unless_cut(lambda: step(seconds)))
        except BuilderSilent as error:
            if deadline is not None and self.now() >= deadline:
                raise TooSlow("the file did not come in time") from error
            raise

    async def _unless_cut(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await one step of a transfer, which may be cut short. It is not even made when that has been: a coroutine
        inside another that is never begun would be left over."""
        if self._is_cut:
            raise CutShort
        transfer = Deferred.fromCoroutine(step())
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
        """Await what a builder answers, and remember whether it did; an answer that is wrong is one, too. Of requests
        that go on at the same time and all fail one counts."""
        began = self.now()
        try:
            answer = await coroutine
        except BuilderUnreachable:
            if began >= self._failed_at:
                self._tries += 1
                self._failed_at = self.now()
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
