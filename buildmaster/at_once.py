"""Several things at the same time, none of which goes on alone."""

from collections.abc import Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure


async def together(calls: Iterable[Coroutine[Deferred[Any], Any, None]]) -> None:
    """Make calls at the same time. When one fails the others are cancelled, and when all have ended, that is raised."""
    failures: list[Failure] = []
    running = [Deferred.fromCoroutine(call) for call in calls]

    def failed(failure: Failure) -> None:
        failures.append(failure)
        if len(failures) == 1:  # Or each that is cancelled would cancel all, from within the one before it.
            for one in running:
                one.cancel()

    for one in running:
        one.addErrback(failed)
    await DeferredList(running)
    if failures:
        failures[0].raiseException()
