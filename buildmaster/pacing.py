"""When a builder is looked at again, and for how long it may hold us up. Pure."""

import math
from dataclasses import dataclass
from enum import StrEnum


class Progress(StrEnum):
    """What a scan led to."""

    CHANGED = "changed"  # A step was taken: the next one may follow at once.
    RUNNING = "running"  # A build runs.
    STOPPING = "stopping"  # A build is being stopped.
    IDLE = "idle"  # Nothing is to be done before somebody changes something.
    FAILED = "failed"  # The builder could not be asked, or failed.


@dataclass(frozen=True)
class Pace:
    """The shortest and the longest pause, in seconds."""

    fastest_s: float = 1.0
    slowest_s: float = 15.0


def pause_s(progress: Progress, quiet: int, to_end_s: float, pace: Pace, *, has_job: bool = False) -> float:
    """How long to leave a builder alone.

    :param quiet: how many scans in a row have found nothing new, not even a longer log.
    :param to_end_s: how long it is until the build should be about to end, see `until_near_end_s`.
    :param has_job: the builder has a build.
    """
    match progress:
        case Progress.CHANGED:
            return 0.0
        case Progress.IDLE:
            return pace.slowest_s
        case Progress.FAILED if not has_job:  # Nothing waits for it: a restart of it should not count as failures.
            return min(3 * pace.fastest_s * 1.5 ** min(quiet, 20), pace.slowest_s)
        case Progress.FAILED:  # So that 15 of them, which cost a builder that talks nonsense its build, take 45 s.
            return min(3 * pace.fastest_s, pace.slowest_s)
        case Progress.RUNNING if to_end_s > 0:
            return min(pace.fastest_s * 1.5 ** min(quiet, 20), pace.slowest_s, max(pace.fastest_s, to_end_s))
        case Progress.RUNNING | Progress.STOPPING:
            return min(pace.fastest_s * 1.5 ** min(quiet, 1), pace.slowest_s)


def until_near_end_s(elapsed_s: float, expected_s: float) -> float:
    """How long it is until a build should be about to end: 0 from then on, until it takes so much longer than expected
    that nobody knows; then infinite."""
    if elapsed_s > 1.5 * expected_s:
        return math.inf
    return max(0.0, 0.8 * expected_s - elapsed_s)


class Watch:
    """For how long something has gone on, by a clock that nobody can set."""

    def __init__(self) -> None:
        self._of: object = None
        self._since = 0.0

    def elapsed_s(self, of: object, clock_s: float, before_s: float = 0.0) -> float:
        """:param of: what goes on; another than at the last look has just begun.
        :param before_s: for how long it had gone on before the first look at it. What the farm's time tells of that is
            good enough, as long as it is asked once: who sets that later changes nothing.
        """
        if self._of != of:
            self._of, self._since = of, clock_s - max(0.0, before_s)
        return clock_s - self._since


_SLOWEST_BYTES_PER_S = 1 << 20


class Allowance:
    """How long a builder may be waited for while the files of one build are fetched, all attempts at all of them.

    There is a while for free; beyond that, as long as what has come takes at the slowest rate. What a builder announces
    counts for nothing: one that drips has the while, however large a file it speaks of. Times are of any clock.
    """

    def __init__(self, free_s: float) -> None:
        self.left_s = free_s  # Seconds, as of the last begin() or end(); below 0 when it is used up.
        self._waiting = 0  # So many wait: no longer than one of them.
        self._since = 0.0

    def begin(self, now: float) -> None:
        """Somebody begins to wait."""
        self._pass(now)
        self._waiting += 1

    def end(self, now: float) -> None:
        """Somebody has waited."""
        self._pass(now)
        self._waiting -= 1

    def earn(self, count: int) -> None:
        """So many bytes have come."""
        self.left_s += count / _SLOWEST_BYTES_PER_S

    def _pass(self, now: float) -> None:
        if self._waiting:
            self.left_s -= now - self._since
        self._since = now
