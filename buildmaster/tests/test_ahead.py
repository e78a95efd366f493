"""What a builder is likely to be given next."""

import pytest

from buildmaster.ahead import CHEAP_BYTES, MOST_TURNS, Running, budget, turn


def test_who_ends_first_takes_first() -> None:
    """Each has the place of its expected end; at the same time the older builder comes first."""
    running = [Running(1, 50, 100), Running(2, 90, 100), Running(3, 0, 10), Running(4, 240, 250)]
    assert [turn(each, running) for each in running] == [3, 0, 1, 2]


def test_nobody_knows_when_it_ends() -> None:
    """One that takes much longer than expected has no place, and is in nobody's way."""
    stuck, other = Running(1, 1000, 100), Running(2, 50, 100)
    assert turn(stuck, [stuck, other]) is None
    assert turn(other, [stuck, other]) == 0


def test_nobody_comes_before_itself() -> None:
    """Time goes on between two looks at the clock."""
    mine, other = Running(1, 50, 100), Running(2, 60, 100)
    assert turn(mine, [Running(1, 50.01, 100), other]) == 1
    assert turn(mine, [Running(1, 50.01, 100)]) == 0


def test_a_little_late() -> None:
    """One that is a little late may end at any moment: it has the first place."""
    late, other = Running(2, 120, 100), Running(1, 99, 100)
    assert turn(late, [other, late]) == 0


def test_who_comes_too_late() -> None:
    """A guess that far down the queue is not worth it."""
    running = [Running(number, 0, 100 + number) for number in range(MOST_TURNS + 1)]
    assert [turn(running[-2], running), turn(running[-1], running)] == [MOST_TURNS - 1, None]


def test_who_comes_too_late_knows_soon() -> None:
    """On a farm of thousands not all others are looked at for that, each time."""
    others = (Running(number, 0, 100) for number in range(10_000))
    assert turn(Running(10_000, 0, 200), others) is None
    assert next(others).builder_id == MOST_TURNS


@pytest.mark.parametrize(
    ("near_end", "has_wait", "expected"),
    [(True, True, 1 << 30), (True, False, CHEAP_BYTES), (False, True, CHEAP_BYTES), (False, False, CHEAP_BYTES)],
)
def test_how_much(near_end: bool, has_wait: bool, expected: int) -> None:
    """Much near the end, and to our own daemon only, which does other things meanwhile."""
    assert budget(near_end, has_wait, 1 << 30) == expected
    assert budget(near_end, has_wait, 0) == 0
