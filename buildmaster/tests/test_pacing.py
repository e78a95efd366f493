"""When a builder is looked at again."""

from math import inf

from buildmaster.pacing import Allowance, Pace, Progress, Watch, pause_s, until_near_end_s

PACE = Pace(fastest_s=1.0, slowest_s=15.0)


def test_at_once_after_a_step() -> None:
    """After a step that changed something the next follows at once."""
    assert pause_s(Progress.CHANGED, 0, inf, PACE) == 0


def test_backing_off() -> None:
    """While nothing new is seen the pauses grow to 15 s."""
    pauses = [pause_s(Progress.RUNNING, quiet, inf, PACE) for quiet in range(50)]
    assert pauses[0] == 1 and pauses[-1] == 15 and pauses == sorted(pauses)


def test_near_the_end() -> None:
    """Near the end that is expected, the pauses are of 1 to 1.5 s: so 19 of 20 ends are noticed within 1.5 s."""
    assert {pause_s(Progress.RUNNING, quiet, 0, PACE) for quiet in range(50)} == {1, 1.5}


def test_before_the_end() -> None:
    """A long pause does not last beyond the moment from which on the end is near."""
    assert [pause_s(Progress.RUNNING, 40, to_end_s, PACE) for to_end_s in (0.3, 7, 100)] == [1, 7, 15]


def test_when_the_end_is_near() -> None:
    """From 0.8 of the time that a build should take; after 1.5 of it nobody knows."""
    assert [until_near_end_s(elapsed_s, 100) for elapsed_s in (0, 79, 80, 150)] == [80, 1, 0, 0]
    assert until_near_end_s(151, 100) == inf


def test_idle() -> None:
    """An idle builder is asked every 15 s whether it is still there; what is queued wakes its scan."""
    assert pause_s(Progress.IDLE, 0, inf, PACE) == 15


def test_failing() -> None:
    """The fifteen answers of nonsense after which a build moves elsewhere take 45 s."""
    assert 15 * pause_s(Progress.FAILED, 9, inf, PACE, has_job=True) == 45


def test_failing_without_a_build() -> None:
    """A builder without a build that is away is asked ever more rarely: it may be so for five minutes."""
    pauses = [pause_s(Progress.FAILED, quiet, inf, PACE) for quiet in range(25)]
    assert pauses[0] == 3 and pauses[-1] == 15 and pauses == sorted(pauses) and sum(pauses) > 300


def test_never_longer_than_the_slowest() -> None:
    """However it is set, no pause is longer than the longest."""
    pace = Pace(fastest_s=10.0, slowest_s=10.0)
    assert max(pause_s(each, quiet, inf, pace) for each in Progress for quiet in (0, 9)) == 10


def test_an_allowance() -> None:
    """A drip uses up the time that is free; what comes at a rate earns its own."""
    drip, stream = Allowance(800), Allowance(800)
    for second in range(800):
        for allowance, count in ((drip, 50), (stream, 2 << 20)):
            allowance.begin(second)
            allowance.end(second + 1)
            allowance.earn(count)
    assert -0.1 < drip.left_s < 0.1
    assert stream.left_s == 1600


def test_two_who_wait() -> None:
    """They wait no longer than one; what passes while nobody waits is nobody's."""
    allowance = Allowance(100)
    allowance.begin(10.0)
    allowance.begin(15.0)
    assert allowance.left_s == 95
    allowance.end(20.0)
    allowance.end(22.0)
    assert allowance.left_s == 88
    allowance.begin(50.0)
    allowance.end(51.0)
    allowance.earn(1 << 20)
    assert allowance.left_s == 88


def test_for_how_long_something_goes_on() -> None:
    """What goes on is timed from the first look on, what was before it included; what comes next begins anew."""
    watch = Watch()
    assert watch.elapsed_s("a", 100.0, before_s=50.0) == 50.0
    assert watch.elapsed_s("a", 110.0, before_s=1e9) == 60.0  # Somebody has set the farm's clock.
    assert watch.elapsed_s("b", 111.0) == 0.0
    assert watch.elapsed_s("b", 113.0) == 2.0


def test_a_clock_that_was_set_back() -> None:
    """What began in the future has just begun."""
    assert Watch().elapsed_s("a", 100.0, before_s=-1e9) == 0.0
