"""Several things at the same time: all have ended when the first mistake is told."""

from twisted.internet.defer import CancelledError, Deferred

from buildmaster.at_once import together


class Task:
    """Waits, and says how it ended."""

    def __init__(self, ending: Deferred[None] | None = None) -> None:
        self.waits = Deferred[None]()
        self.ended = ""
        self._ending = ending  # What it waits for when it was cancelled.

    async def run(self) -> None:
        try:
            await self.waits
            self.ended = "well"
        except CancelledError:
            if self._ending is not None:
                await self._ending
            self.ended = "cancelled"
            raise
        except OSError:
            self.ended = "badly"
            raise


def begun(*tasks: Task) -> tuple[Deferred[None], list[object]]:
    """All of them, and what came of that."""
    found: list[object] = []
    running = Deferred.fromCoroutine(together(task.run() for task in tasks))
    running.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return running, found


def test_all_end_well() -> None:
    """It ends with the last of them."""
    first, second = Task(), Task()
    _, found = begun(first, second)
    second.waits.callback(None)
    assert not found
    first.waits.callback(None)
    assert found == [None] and (first.ended, second.ended) == ("well", "well")


def test_one_fails() -> None:
    """The others are cancelled; until they have tidied up, nobody hears of it."""
    tidy = Deferred[None]()
    first, second, third = Task(tidy), Task(), Task()
    _, found = begun(first, second, third)
    third.waits.callback(None)
    error = OSError("the disk is full")
    second.waits.errback(error)
    assert not found and second.ended == "badly"
    tidy.callback(None)
    assert found == [error] and (first.ended, third.ended) == ("cancelled", "well")


def test_one_of_many_fails() -> None:
    """A build may have thousands of results: each is cancelled once."""
    tasks = [Task() for _ in range(3000)]
    _, found = begun(*tasks)
    error = OSError("the disk is full")
    tasks[-1].waits.errback(error)
    assert found == [error] and [task.ended for task in tasks] == ["cancelled"] * 2999 + ["badly"]


def test_one_fails_at_once() -> None:
    """Before the others have begun."""
    first, second = Task(), Task()
    first.waits.errback(OSError("no disk"))
    _, found = begun(first, second)
    assert isinstance(found[0], OSError) and second.ended == "cancelled"


def test_cancelled() -> None:
    """Who is cancelled meanwhile cancels all."""
    first, second = Task(), Task()
    running, found = begun(first, second)
    running.cancel()
    assert isinstance(found[0], CancelledError) and (first.ended, second.ended) == ("cancelled", "cancelled")


def test_nothing() -> None:
    """Nothing is done at once."""
    assert begun()[1] == [None]
