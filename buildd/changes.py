"""Waiting for something to become so."""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class Delayed(Protocol):
    """What callLater() returns."""

    def cancel(self) -> None: ...
    def active(self) -> bool: ...


class Clock(Protocol):
    """What of a reactor, or of a test's clock, is needed to tell the time."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: object) -> Delayed: ...


class Changes:
    """Someone says that something has changed; others wait until what they are after is so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[Deferred[None]] = []

    def tell(self) -> None:
        """Something has changed."""
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            change.callback(None)

    async def until(self, met: Callable[[], bool], timeout_s: float = float("inf")) -> None:
        """Return when something is so, or when the time is over."""
        end = self._clock.seconds() + timeout_s
        while not met() and self._clock.seconds() < end:
            change: Deferred[None] = Deferred()
            self._waiting.append(change)
            left_s = end - self._clock.seconds()
            timer = self._clock.callLater(left_s, self._expire, change) if timeout_s != float("inf") else None
            try:
                await change
            finally:
                if change in self._waiting:  # Whoever waited has gone.
                    self._waiting.remove(change)
                if timer and timer.active():
                    timer.cancel()

    def _expire(self, change: Deferred[None]) -> None:
        self._waiting.remove(change)
        change.callback(None)
