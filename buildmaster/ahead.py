"""What a builder is likely to be given next, guessed while it builds, so that the files can be there before. Pure.

The queue is in order; who ends first takes first. So a builder gets what stands in the queue at the place that it has
among those that will end before it. A guess that is wrong costs some bandwidth, and no more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from buildmaster.pacing import until_near_end_s

MOST_TURNS = 20  # Who comes later has too long to go for a guess.
ORDERS = 2  # So many builds are prepared for: somebody else may take the first.
CHEAP_BYTES = 8 << 20  # So much is sent when a build has just begun: nobody knows when a build ends that is a new one.
LOOK_EVERY_S = 10.0  # At most, near the end, when the queue has changed.


@dataclass(frozen=True, slots=True)
class Running:
    """A builder with a build."""

    builder_id: int
    elapsed_s: float
    expected_s: float

    @property
    def near_end(self) -> bool:
        """Whether the build should be about to end."""
        return until_near_end_s(self.elapsed_s, self.expected_s) == 0

    @property
    def left_s(self) -> float:
        """How long it should still take; less than 0 for one that takes longer than it should."""
        return self.expected_s - self.elapsed_s


def turn(mine: Running, others: Iterable[Running]) -> int | None:
    """How many builders should take from the queue before this one does; None: too many, or its own end is not known.

    :param others: that take the same builds; this one may be among them, as it was a moment later. No more of them are
        looked at than it needs: most builders of a large farm come too late, and that shows soon.
    """
    if _is_overdue(mine):
        return None
    own = _order(mine)
    before = (
        each for each in others if _order(each) < own and each.builder_id != mine.builder_id and not _is_overdue(each)
    )
    place = sum(1 for _ in islice(before, MOST_TURNS))
    return place if place < MOST_TURNS else None


def _order(running: Running) -> tuple[float, int]:
    return running.left_s, running.builder_id


def _is_overdue(running: Running) -> bool:
    """It takes so much longer than expected that nobody knows when it ends."""
    return not running.near_end and running.left_s < 0


def budget(near_end: bool, has_wait: bool, limit_bytes: int) -> int:
    """How much may be sent now.

    :param has_wait: it is our own daemon: a stock one does nothing else while it fetches, not even read what the build
        writes, so that it is asked for little.
    """
    return limit_bytes if near_end and has_wait else min(CHEAP_BYTES, limit_bytes)
