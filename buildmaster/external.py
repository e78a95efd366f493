"""Commands of the operator's: run under the reactor, with a time limit, and what they say kept within bounds.

Each is a vector of arguments; no shell looks at it. It is begun in a session of its own, so that what it started ends
with it when its time is over, or when the master ends.
"""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from buildmaster.ports import IMasterReactor

SAID_BYTES = 2_000  # Of the end of what a command says are kept.
_LINGER_S = 0.5  # For what is said to arrive.


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    trouble: str  # In words; "": it ended by itself with status 0.
    said: str  # The end of its output, both streams, harmless for a log.


async def run(reactor: IMasterReactor, command: Sequence[str], timeout_s: float, told: bytes = b"") -> Ended:
    """Run a command to its end. Cancelling kills it.

    :param told: what it reads on its standard input.
    """
    child = _Child(reactor, told)
    transport: IProcessTransport = reactor.spawnProcess(child, "setsid", ["setsid", "--", *command], env=None)
    over = reactor.callLater(timeout_s, child.kill)
    try:
        how = await child.ended
        timed_out = not over.active()
    except BaseException:
        child.kill()
        raise
    finally:
        if over.active():
            over.cancel()
        transport.loseConnection()
    said = _harmless(bytes(child.said))
    return Ended(f"it took longer than {timeout_s:g} s" if timed_out else _trouble(how), said)


class _Child(ProcessProtocol):
    """A command that runs."""

    def __init__(self, reactor: IReactorTime, told: bytes) -> None:
        self._reactor = reactor
        self.said = bytearray()
        self.ended: Deferred[BaseException | None] = Deferred(lambda _: None)
        self._told = told
        self._linger: IDelayedCall | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._told)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self.said += data
        del self.said[:-SAID_BYTES]

    def errReceived(self, data: bytes) -> None:
        self.outReceived(data)

    def processExited(self, reason: Failure) -> None:
        """It is over soon after the command itself is: what that left running in the background may hold its output."""
        self._linger = self._reactor.callLater(_LINGER_S, self.processEnded, reason)

    def processEnded(self, reason: Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        if not self.ended.called:
            self.ended.callback(reason.value)

    def kill(self) -> None:
        """End it, and all that it started in its session."""
        pid = getattr(self.transport, "pid", None)
        if pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            with suppress(ProcessLookupError):  # It may not have its session yet.
                os.kill(pid, signal.SIGKILL)


def _trouble(ended: BaseException | None) -> str:
    if not isinstance(ended, ProcessTerminated):
        return ""
    if ended.signal is not None:
        return f"it was ended by {signal.Signals(ended.signal).name}"
    return f"it ended with status {ended.status if ended.exitCode is None else ended.exitCode}"


def _harmless(said: bytes) -> str:
    text = said.decode("utf-8", "replace").strip()
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)
