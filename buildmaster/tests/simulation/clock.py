"""Simulated time, and a reactor that dies, and stands still, with its master."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReactorTime)
class SimClock:
    """Time that passes when it is told to. (Twisted's own Clock sorts all that is due at each call: too slow here.)"""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: list[tuple[float, int, DelayedCall, MasterReactor | None]] = []
        self._number = itertools.count()

    def seconds(self) -> float:
        return self._now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:
        return self.call_for(None, delay, callable, *args, **kw)

    def call_for(
        self, owner: "MasterReactor | None", delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> DelayedCall:
        """The same for a master; while that one stands still, nothing of this happens."""

        def push(call: DelayedCall) -> None:
            self._push(call.getTime(), call, owner)

        call = DelayedCall(self._now + delay, callable, args, kw, lambda _: None, push, self.seconds)
        push(call)
        return call

    def _push(self, time: float, call: DelayedCall, owner: "MasterReactor | None") -> None:
        heapq.heappush(self._due, (time, next(self._number), call, owner))

    def getDelayedCalls(self) -> list[DelayedCall]:
        return [call for _, _, call, _ in self._due if call.active()]

    def clear(self) -> None:
        """Forget all that is due."""
        self._due.clear()

    def run(self, until: float) -> None:
        """Let all happen that is due by then."""
        while self._due and self._due[0][0] <= until:
            time, _, call, owner = heapq.heappop(self._due)
            if not call.active():
                continue
            if call.getTime() > time:  # It was put off.
                self._push(call.getTime(), call, owner)
                continue
            if owner is not None and owner.still_until > time:
                self._push(owner.still_until, call, owner)
                continue
            self._now, call.called = time, 1
            call.func(*call.args, **call.kw)
        self._now = until


@implementer(IReactorTime)
class MasterReactor:
    """What one master has of a reactor. Once it is dead nothing of it happens any more: no line, no `finally`.

    Threads' work is done at once.
    """

    def __init__(self, clock: SimClock, is_last: Callable[[str], bool]) -> None:
        """:param is_last: asked at each point whether the master dies there; see point()."""
        self.clock = clock
        self._is_last = is_last
        self._kept: list[object] = []  # What a dead master waited for: if Python threw it away, `finally` would run.
        self.alive = True
        self.still_until = 0.0  # By the clock: until then nothing of it happens.
        self.on_death: Callable[[str], None] = lambda where: None

    def seconds(self) -> float:
        return self.clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:
        return self.clock.call_for(self, delay, self._call, callable, args, kw)

    def _call(self, function: Callable[..., Any], args: Any, kw: Any) -> None:
        if self.alive:
            function(*args, **kw)
        else:
            self._kept.append((function, args, kw))

    def getDelayedCalls(self) -> list[DelayedCall]:
        return self.clock.getDelayedCalls()

    def getThreadPool(self) -> "MasterReactor":
        return self

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], Any], function: Callable[..., Any], *args: object, **kw: object
    ) -> None:
        try:
            result = function(*args, **kw)
        except Exception:
            on_result(False, Failure())  # type: ignore[no-untyped-call]
        else:
            on_result(True, result)

    def callFromThread(self, function: Callable[..., Any], *args: object, **kw: object) -> None:
        function(*args, **kw)

    async def point(self, where: str) -> None:
        """A place where the master may die, or stand still: before and after each commit and each call to a builder."""
        if self.alive and self._is_last(where):
            self.die(where)
        if not self.alive:
            await self.for_ever()
        if self.still_until > self.seconds():
            await self.sleep(0)

    def stand_still(self, seconds: float) -> None:
        """As a process that is stopped, or a machine that is put to sleep, and goes on after that."""
        self.still_until = max(self.still_until, self.seconds() + seconds)

    def die(self, where: str) -> None:
        self.alive = False
        self.on_death(where)

    async def for_ever(self) -> Any:
        """Wait for what never comes."""
        never: Deferred[None] = Deferred()
        self._kept.append(never)
        await never

    async def sleep(self, seconds: float) -> None:
        await deferLater(self, seconds)
