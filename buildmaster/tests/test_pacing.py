"""When a builder is looked at again."""

from buildmaster.pacing import Pace, Progress, is_near_end, pause_s

PACE = Pace(fastest_s=1.0, slowest_s=15.0)


def test_at_once_after_a_step() -> None:
    """After a step that changed something the next follows at once."""
    assert pause_s(Progress.CHANGED, 0, False, PACE) == 0


def test_backing_off() -> None:
    """While nothing new is seen the pauses grow to 15 s."""
    pauses = [pause_s(Progress.RUNNING, quiet, False, PACE) for quiet in range(50)]
    assert pauses[0] == 1 and pauses[-1] == 15 and pauses == sorted(pauses)


def test_near_the_end() -> None:
    """Near the end that is expected, the pauses are of 1 to 2.25 s."""
    assert {pause_s(Progress.RUNNING, quiet, True, PACE) for quiet in range(50)} == {1, 1.5, 2.25}
    assert not is_near_end(79, 100) and is_near_end(80, 100) and is_near_end(150, 100) and not is_near_end(151, 100)


def test_idle() -> None:
    """An idle builder is asked every 15 s whether it is still there; what is queued wakes its scan."""
    assert pause_s(Progress.IDLE, 0, False, PACE) == 15


def test_failing() -> None:
    """The fifteen answers of nonsense after which a build moves elsewhere take 45 s."""
    assert 15 * pause_s(Progress.FAILED, 9, False, PACE, has_job=True) == 45


def test_failing_without_a_build() -> None:
    """A builder without a build that is away is asked ever more rarely: it may be so for five minutes."""
    pauses = [pause_s(Progress.FAILED, quiet, False, PACE) for quiet in range(25)]
    assert pauses[0] == 3 and pauses[-1] == 15 and pauses == sorted(pauses) and sum(pauses) > 300


def test_never_longer_than_the_slowest() -> None:
    """However it is set, no pause is longer than the longest."""
    pace = Pace(fastest_s=10.0, slowest_s=10.0)
    assert max(pause_s(each, quiet, False, pace) for each in Progress for quiet in (0, 9)) == 10
