"""Children of the daemon: run under the reactor, their output in the build's log, ended when a limit is reached.

Every child here is the `unshare` of a pid namespace (isolation/), so ending it is simple and certain: kill the
namespace's first process, and the kernel ends all the others before it reports the first as gone. There is no SIGTERM
first: what runs inside has nothing to save.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from buildd.buildlog import BuildLog
from buildd.limits import Limit

_KILL_EVERY_S = 0.05
_CHILDLESS_KILLS = 20  # After a second without a child to be killed, it is stuck before it made one, or because of it.
_KILLS_BEFORE_GUARD = 20  # After a second, whatever there is to end it with.
_SAID_BYTES = 1 << 16  # Of the end of the log are looked at for the reason of a failure.


class Reactor(IReactorProcess, IReactorTime):
    """What we need of a reactor."""


@dataclass(frozen=True)
class Exit:
    """How a child ended."""

    code: int | None  # None: by a signal.
    signal: int | None
    limit: Limit | None  # Not None: we ended it for this, or it failed for this.
    allowed: str = ""  # How much the limit allows, where that is a number.

    @property
    def ok(self) -> bool:
        """It ended by itself, with status 0."""
        return self.code == 0 and self.limit is None

    def __str__(self) -> str:
        if self.limit is not None:
            return f"{self.limit} ({self.allowed})" if self.allowed else self.limit
        return f"exit status {self.code}" if self.signal is None else f"signal {signal.Signals(self.signal).name}"


class Guard(Protocol):
    """Holds the children of one build to limits beyond those of time and output."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs another one under these limits."""
        ...

    def watch(self, pid: int, end: Callable[[Limit], None]) -> Callable[[], None]:
        """Watch a child, whose process this is, from now on; what is returned stops that.

        :param end: to be called when it has to be ended.
        """
        ...

    def verdict(self, ended: Exit, said: bytes) -> Limit | None:
        """The limit because of which the child that was watched last has ended, if any.

        :param said: the end of its log.
        """
        ...

    def allowed(self, limit: Limit) -> str:
        """How much a limit allows, in words; empty where there is no number."""
        ...

    def kill(self) -> None:
        """End all that runs of the build."""
        ...


class Children:
    """Runs the children of one build, one after another, under that build's limits."""

    def __init__(
        self, reactor: Reactor, log: BuildLog, timeout_s: float, silence_s: float, guard: Guard | None = None
    ) -> None:
        """
        :param timeout_s: wall time for all of them together, from now.
        :param silence_s: longest time without output.
        :param guard: None for the daemon's own commands.
        """
        self._reactor = reactor
        self._log = log
        self._deadline = reactor.seconds() + timeout_s
        self._silence_s = silence_s
        self._guard = guard

    def say(self, line: str) -> None:
        """Write a line to the build's log."""
        self._log.say(line)

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: bytes = b"",
        output: Callable[[bytes], None] | None = None,
        fds: Mapping[int, int] | None = None,
    ) -> Exit:
        """Run a command and wait for its end. When cancelled, it is killed, and gone before CancelledError goes on.

        :param output: takes what it writes to standard output; None: the log, where standard error always goes.
        :param fds: what it inherits besides, its number there and here; all others are closed.
        """
        guard = self._guard
        argv = guard.command(argv) if guard is not None else list(argv)
        out = output or self._log.write
        child = _Child(self._reactor, self._log, out, stdin=stdin, silence_s=self._silence_s, guard=guard)
        stop = self._reactor.callLater(max(0, self._deadline - self._reactor.seconds()), child.end, Limit.WALL_TIME)
        fds_there: Mapping[int, int | str] = {0: "w", 1: "r", 2: "r", **(fds or {})}
        self._reactor.spawnProcess(child, argv[0], argv, env=dict(env), path=str(cwd), childFDs=fds_there)
        unwatch = guard.watch(child.transport.pid, child.end) if guard is not None and child.transport.pid else None
        try:
            return self._judged(await child.ended)
        finally:
            if unwatch is not None:
                unwatch()
            if stop.active():
                stop.cancel()
            await child.gone

    def _judged(self, ended: Exit) -> Exit:
        """How it ended, with the limit that explains it."""
        if self._guard is None:
            return ended
        limit = self._guard.verdict(ended, self._log.tail(_SAID_BYTES))
        return ended if limit is None else replace(ended, limit=limit, allowed=self._guard.allowed(limit))


class _Child(ProcessProtocol):
    """One child; `ended` may be cancelled, `gone` fires when nothing of it is left."""

    transport: IProcessTransport

    def __init__(
        self,
        reactor: Reactor,
        log: BuildLog,
        output: Callable[[bytes], None],
        *,
        stdin: bytes,
        silence_s: float,
        guard: Guard | None,
    ) -> None:
        self.ended: Deferred[Exit] = Deferred(lambda _: self._kill())
        self.gone: Deferred[None] = Deferred()
        self._reactor = reactor
        self._log = log
        self._output = output
        self._stdin = stdin
        self._silence_s = silence_s
        self._guard = guard
        self._limit: Limit | None = None
        self._silence: IDelayedCall | None = None
        self._kills = 0
        self._again: IDelayedCall | None = None  # The next kill.

    def connectionMade(self) -> None:
        """Feed standard input, and begin to listen for silence."""
        if self._stdin:
            self.transport.write(self._stdin)
        self.transport.closeStdin()
        self._silence = self._reactor.callLater(self._silence_s, self.end, Limit.SILENCE)

    def outReceived(self, data: bytes) -> None:
        """Standard output."""
        self._output(data)
        self._heard()

    def errReceived(self, data: bytes) -> None:
        """Standard error."""
        self._log.write(data)
        self._heard()

    def end(self, limit: Limit) -> None:
        """End it, for this reason; the first reason given counts."""
        if self._limit is None:
            self._limit = limit
            self._kill()

    def processEnded(self, reason: Failure) -> None:
        """All is over, and all output has arrived."""
        for later in (self._silence, self._again):
            if later is not None and later.active():
                later.cancel()
        how = reason.value
        if isinstance(how, ProcessTerminated):
            ended = Exit(how.exitCode, how.signal, self._limit)
        else:
            ended = Exit(0, None, self._limit)
        self.gone.callback(None)
        if not self.ended.called:
            self.ended.callback(ended)

    def _heard(self) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.reset(self._silence_s)
        if self._log.full:
            self.end(Limit.LOG_SIZE)
        elif self._log.error is not None:
            self.end(Limit.LOG_ERROR)

    def _kill(self) -> None:
        """Kill the namespace's first process, again and again until the child has ended.

        Once is not enough: while unshare sets its namespaces up, its child is the helper that writes the id maps.
        """
        if self.gone.called or self.transport.pid is None:
            return
        self._kills += 1
        if not _kill_children(self.transport.pid) and self._kills > _CHILDLESS_KILLS:
            with contextlib.suppress(OSError, ProcessExitedAlready):
                self.transport.signalProcess("KILL")
        if self._guard is not None and self._kills > _KILLS_BEFORE_GUARD:
            self._guard.kill()
        self._again = self._reactor.callLater(_KILL_EVERY_S, self._kill)


def _kill_children(pid: int) -> bool:
    """Whether a process has a child that could be killed.

    One may be a helper that is somebody else's by now, such as newuidmap, which is setuid root: when that hangs, its
    parent has to be killed, or nothing is ever going to be.
    """
    killed = False
    with contextlib.suppress(OSError):  # It ended meanwhile, which is what was wanted.
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            with contextlib.suppress(OSError):
                os.kill(int(child), signal.SIGKILL)
                killed = True
    return killed


def end_leftovers(directory: Path) -> None:
    """Kill what an earlier daemon of this directory may have left.

    That is processes of this user, in another pid namespace, that name the directory on their command line. Children
    die with their daemon, but for one that unshare forks in the very microseconds in which the daemon is killed.
    """
    ours = Path("/proc/self/ns/pid").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It is another user's, or has ended.
            elsewhere = (process / "ns/pid_for_children").readlink() != ours
            if elsewhere and os.fsencode(f"{directory}/") in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
