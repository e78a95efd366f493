"""Somebody's turn, again and again, for as long as a master runs."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from buildmaster.database import DatabaseLost

DATABASE_AGAIN_S = 1.0  # When it was lost.


class Turns:
    """Calls turn(), and rests; one at a time. What goes wrong in a turn is told, and does not end it."""

    def __init__(
        self,
        reactor: IReactorTime,
        log: Logger,
        what: str,
        turn: Callable[[], Awaitable[None]],
        *,
        least_s: float,
        most_s: float,
        after_error_s: float,
    ) -> None:
        """:param what: what is done in a turn, as the subject of a sentence.
        :param least_s: how long to rest, however often it is called for, and
        :param most_s: though nobody calls; and
        :param after_error_s: after an error of our own.
        """
        self._reactor = reactor
        self._log = log
        self._what = what
        self._turn = turn
        self._least_s, self._most_s, self._after_error_s = least_s, most_s, after_error_s
        self._running: Deferred[None] | None = None
        self._sleep: Deferred[None] | None = None
        self._called = False
        self._stopping = False

    def start(self) -> None:
        """Begin, at once."""
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End, in the middle of a turn if need be."""
        self._stopping = True
        if self._running is not None:
            self._running.cancel()
            await self._running

    def call(self) -> None:
        """There is something to do: the next turn comes soon."""
        self._called = True
        if self._sleep is not None:
            self._sleep.cancel()

    async def _run(self) -> None:
        while not self._stopping:
            self._called = False
            pause_s = self._least_s
            try:
                await self._turn()
            except CancelledError:
                return
            except DatabaseLost:  # Told once, where it is found.
                pause_s = DATABASE_AGAIN_S
            except Exception:
                self._log.failure("{what} ended by an error of the master's own; trying again", what=self._what)
                pause_s = self._after_error_s
            try:
                await deferLater(self._reactor, pause_s)
            except CancelledError:
                return
            if not self._called and pause_s < self._most_s:
                await self._wait(self._most_s - pause_s)

    async def _wait(self, seconds: float) -> None:
        """Until somebody calls, for so long at most."""
        self._sleep = deferLater(self._reactor, seconds)
        try:
            await self._sleep
        except CancelledError:
            pass  # By call(), or by stop(), which has left word.
        finally:
            self._sleep = None
