"""Who of several masters is alive, and how many builders each has."""

import math
import random

import pytest

from buildmaster.leasing import Beat, Watch, acts_until, beat_every_s, share


def beat(count: int, master_id: int = 1) -> Beat:
    return Beat(master_id, count, lease_s=5.0)


def test_a_master_that_beats() -> None:
    """A master whose count goes up is alive, however long it goes on."""
    watch = Watch()
    assert not any(watch.silent([beat(count)], count * 4.9) for count in range(100))


def test_a_master_that_stands_still() -> None:
    """One whose count stands still has lost its lease when that is over, counted from when its last beat was seen."""
    watch = Watch()
    assert watch.silent([beat(1)], 100.0) == []
    assert watch.silent([beat(2)], 104.0) == []
    assert watch.silent([beat(2)], 108.9) == []
    assert watch.silent([beat(2)], 109.1) == [beat(2)]


def test_each_by_its_own_lease() -> None:
    """A master that has promised to be heard more rarely is waited for."""
    watch = Watch()
    slow = Beat(2, 7, lease_s=60.0)
    assert watch.silent([beat(1), slow], 0.0) == []
    assert watch.silent([beat(1), slow], 59.0) == [beat(1)]


def test_a_newcomer_accuses_nobody() -> None:
    """Who has just begun to look knows of nobody that he is silent."""
    assert Watch().silent([beat(1)], 1e9) == []


def test_when_to_look_next() -> None:
    """Who looks when the first lease is over, by what was seen, finds that master silent then; one that is silent
    already is no reason to look again and again."""
    watch = Watch()
    assert watch.next_over() == math.inf
    slow = Beat(2, 7, lease_s=60.0)
    watch.silent([beat(1), slow], 100.0)
    assert watch.next_over() == 105.0
    watch.silent([beat(2), slow], 104.0)
    assert watch.next_over() == 109.0
    assert watch.silent([beat(2), slow], 109.02) == [beat(2)]
    assert watch.next_over() == 160.0


def test_it_stops_acting_before_others_take_over() -> None:
    """Whatever the delays, nobody finds a master silent while that one may still act."""
    dice = random.Random(7)
    for _ in range(2000):
        asked = 1000.0
        committed = asked + dice.uniform(0.0, 3.0)
        seen = committed + dice.uniform(0.0, 3.0)
        watch = Watch()
        watch.silent([beat(1)], seen - 2.0)
        watch.silent([beat(2)], seen)
        now = seen
        while not watch.silent([beat(2)], now):
            now += dice.uniform(0.01, 2.0)
        assert acts_until(asked, 5.0) <= now - 1.0


def test_a_lease_is_renewed_in_time() -> None:
    """A beat may come late or fail, and the master still may act."""
    assert 2 * beat_every_s(5.0) < acts_until(0.0, 5.0)


@pytest.mark.parametrize("masters", [[3], [3, 8], [8, 3, 9], list(range(40))])
@pytest.mark.parametrize("builders", [0, 1, 2, 7, 100, 1000])
def test_shares(masters: list[int], builders: int) -> None:
    """The shares are all builders, and no two differ by more than one; it does not matter who reckons."""
    shares = [share(me, set(masters) - {me}, builders) for me in masters]
    assert sum(shares) == builders and max(shares) - min(shares) <= 1
    assert shares == [share(me, masters, builders) for me in masters]
