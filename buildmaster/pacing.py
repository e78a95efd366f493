"""When a builder is looked at again. Pure."""

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


def pause_s(progress: Progress, quiet: int, near_end: bool, pace: Pace, *, has_job: bool = False) -> float:
    """How long to leave a builder alone.

    :param quiet: how many scans in a row have found nothing new, not even a longer log.
    :param near_end: the build should be about to end.
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
        case Progress.RUNNING if not near_end:
            return min(pace.fastest_s * 1.5 ** min(quiet, 20), pace.slowest_s)
        case Progress.RUNNING | Progress.STOPPING:
            return min(pace.fastest_s * 1.5 ** min(quiet, 2), pace.slowest_s)


def is_near_end(elapsed_s: float, expected_s: float) -> bool:
    """Whether a build should be about to end; one that takes much longer than expected no longer should."""
    return 0.8 * expected_s <= elapsed_s <= 1.5 * expected_s
