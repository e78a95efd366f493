"""Calls that have an effect on a builder: made only while the master may, and not broken off on their way.

A call that is given up in the middle may still take effect. The next master, who has the builder at once, would find it
idle and, a moment later, not.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater


class Acts:
    """The calls of one master that are under way."""

    def __init__(self) -> None:
        self._going: set[Deferred[object]] = set()

    def outlive(self, call: Coroutine[Deferred[Any], Any, object]) -> Deferred[object]:
        """Make a call that goes on when who waits for it is cancelled."""
        going = Deferred.fromCoroutine(call)
        heard: Deferred[object] = Deferred()
        self._going.add(going)

        def ended(result: Any) -> None:
            self._going.discard(going)
            if not heard.called:
                heard.callback(result)

        going.addBoth(ended)
        return heard

    async def ended(self, clock: IReactorTime, seconds: float) -> None:
        """Wait until none is under way, but no longer than this."""
        deadline = clock.seconds() + seconds
        while self._going and clock.seconds() < deadline:
            await deferLater(clock, 0.02)


Allowed = Callable[[], None]  # Raises LeaseLost when the master may not act any more.
