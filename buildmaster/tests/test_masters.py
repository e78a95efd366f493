"""Masters in the database: who has which builders."""

import pytest

from buildmaster import masters
from buildmaster.farm import Farm
from buildmaster.leasing import Beat
from buildmaster.masters import LeaseLost, Taken
from buildmaster.tests.factories import make_builder


def make_builders(farm: Farm, count: int) -> list[int]:
    return [make_builder(farm, f"b{number}", f"http://b{number}:8221/") for number in range(count)]


def join(farm: Farm, name: str = "host:1") -> int:
    with farm.transaction() as connection:
        return masters.join(connection, name, 5.0)


def beat(farm: Farm, me: int) -> list[Beat]:
    with farm.transaction() as connection:
        return masters.beat(connection, me)


def bury(farm: Farm, silent: Beat) -> bool:
    with farm.transaction() as connection:
        return masters.bury(connection, silent)


def take(farm: Farm, me: int, limit: int) -> list[Taken]:
    with farm.transaction() as connection:
        return masters.take(connection, me, limit)


def confirm(farm: Farm, me: int, builder_id: int) -> None:
    with farm.transaction() as connection:
        masters.confirm(connection, me, builder_id)


def test_who_takes_first(farm: Farm) -> None:
    """What one master has taken another does not get; each has what it took, and only that."""
    ids = make_builders(farm, 5)
    one, other = join(farm), join(farm)
    assert take(farm, one, 3) == [Taken(each, inherited=False) for each in ids[:3]]
    assert take(farm, other, 3) == [Taken(each, inherited=False) for each in ids[3:]]
    confirm(farm, one, ids[0])
    with pytest.raises(LeaseLost):
        confirm(farm, other, ids[0])


def test_one_that_leaves(farm: Farm) -> None:
    """A master that ends leaves its builders to others at once; it cannot come back under its number."""
    ids = make_builders(farm, 2)
    one, other = join(farm), join(farm)
    take(farm, one, 2)
    with farm.transaction() as connection:
        masters.leave(connection, one)
    assert take(farm, other, 2) == [Taken(each, inherited=False) for each in ids]
    with pytest.raises(LeaseLost):
        beat(farm, one)


def test_one_that_is_buried(farm: Farm) -> None:
    """The builders of a master that was buried are free, and known to be inherited; it can write no more once they are
    taken, and hears at its next beat what has become of it."""
    ids = make_builders(farm, 2)
    one, other = join(farm), join(farm)
    take(farm, one, 2)
    assert bury(farm, next(each for each in beat(farm, other) if each.master_id == one))
    assert take(farm, other, 2) == [Taken(each, inherited=True) for each in ids]
    with pytest.raises(LeaseLost):
        confirm(farm, one, ids[0])
    with pytest.raises(LeaseLost, match="not heard"):
        beat(farm, one)


def test_one_that_was_heard_meanwhile(farm: Farm) -> None:
    """A master that was heard after it was looked at is not buried."""
    make_builders(farm, 1)
    one, other = join(farm), join(farm)
    take(farm, one, 1)
    seen = next(each for each in beat(farm, other) if each.master_id == one)
    beat(farm, one)
    assert not bury(farm, seen)
    assert take(farm, other, 1) == []


def test_numbers_are_not_used_again(farm: Farm) -> None:
    """A new master never has the number of one that is gone: it would have that one's builders."""
    one = join(farm)
    with farm.transaction() as connection:
        masters.leave(connection, one)
    assert join(farm) > one


def test_handing_over(farm: Farm) -> None:
    """A master gives away what is its own, and nothing else."""
    ids = make_builders(farm, 3)
    one, other = join(farm), join(farm)
    take(farm, one, 2)
    take(farm, other, 1)
    with farm.transaction() as connection:
        masters.release(connection, one, ids)
    assert [each.builder_id for each in take(farm, other, 3)] == ids[:2]


def test_one_that_knows_itself_alone(farm: Farm) -> None:
    """Who knows that no other runs need not wait for the dead ones."""
    ids = make_builders(farm, 1)
    dead = join(farm)
    take(farm, dead, 1)
    with farm.transaction() as connection:
        me = masters.join(connection, "host:2", 5.0, alone=True)
    assert take(farm, me, 1) == [Taken(ids[0], inherited=True)]
    assert [each.master_id for each in beat(farm, me)] == [me]
