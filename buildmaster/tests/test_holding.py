"""Versions that are published when all architectures have them."""

import pytest
from sqlalchemy import update

from buildmaster import entering, holding, packages, publications, repositories
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.publications import State
from buildmaster.repositories import Settings
from buildmaster.tables import build
from buildmaster.tests.factories import make_repository, make_series
from buildmaster.tests.test_publications import accept, deb

H, P = State.HELD, State.PENDING
NOW = 1000.0


@pytest.fixture
def held(farm: Farm) -> packages.Accepted:
    """A source that is held for two architectures."""
    make_series(farm)
    make_series(farm, architecture="armhf")
    mine = make_repository(farm, "mine")
    farm.write(repositories.change, mine, Settings(hold=True))
    return accept(farm)


def built(farm: Farm, accepted: packages.Accepted, *architectures: str) -> None:
    """Builds end well, as the master records it."""
    for build_id, architecture in zip(accepted.build_ids, ("amd64", "armhf"), strict=True):
        if architecture in architectures:
            with farm.transaction() as connection:
                connection.execute(update(build).where(build.c.id == build_id).values(state=BuildState.BUILT))
            own = [deb(farm, version=accepted.version, architecture=architecture)]
            farm.write(entering.add_binaries, accepted.source_id, build_id, own, NOW)
            farm.write(holding.look, accepted.source_id, NOW)


def states(farm: Farm, accepted: packages.Accepted) -> list[State]:
    with farm.reading() as connection:
        return [each.state for each in publications.of_source(connection, accepted.source_id)]


def test_it_goes_with_the_last(farm: Farm, held: packages.Accepted) -> None:
    """All of it at once; until then it is known what it lacks."""
    built(farm, held, "amd64")
    assert states(farm, held) == [H, H]
    with farm.reading() as connection:
        assert holding.lacking(connection, held.source_id) == ["armhf"]
    built(farm, held, "armhf")
    assert states(farm, held) == [P, P, P]


def test_an_architecture_that_fails(farm: Farm, held: packages.Accepted) -> None:
    """It is not waited for when somebody says so, before the others are built or after; what it brings later comes as
    it is."""
    assert not farm.write(holding.waive, held.source_id, ["armhf"], NOW)
    assert states(farm, held) == [H]
    built(farm, held, "amd64")
    assert states(farm, held) == [P, P]
    built(farm, held, "armhf")
    assert states(farm, held) == [P, P, P]
    second = accept(farm, "1.1")
    built(farm, second, "amd64")
    assert farm.write(holding.waive, second.source_id, ["armhf"], NOW)
    assert states(farm, second) == [P, P]


def test_by_hand(farm: Farm, held: packages.Accepted) -> None:
    """What there is goes, whatever is lacking."""
    built(farm, held, "amd64")
    assert farm.write(holding.let_go, held.source_id, NOW)
    assert states(farm, held) == [P, P]
    assert not farm.write(holding.let_go, held.source_id, NOW)


def test_a_deadline(farm: Farm, held: packages.Accepted) -> None:
    """When it is over, what there is goes."""
    with farm.reading() as connection:
        (found,) = publications.of_source(connection, held.source_id)
    farm.write(repositories.change, found.suite.archive_id, Settings(hold_deadline_s=3600.0))
    second = accept(farm, "1.1")
    with farm.reading() as connection:
        (found,) = publications.of_source(connection, second.source_id)
        over = found.created_at + 3600
        assert not holding.is_over(connection, over - 1) and holding.is_over(connection, over)
    built(farm, second, "amd64")
    assert farm.write(holding.let_go_by_time, over - 1) == 0
    assert farm.write(holding.let_go_by_time, over) == 1
    assert states(farm, second) == [P, P]
    assert states(farm, held) == [State.GONE]  # Nobody waits for what is older.


def test_a_newer_version_that_goes_first(farm: Farm, held: packages.Accepted) -> None:
    """What was held of the older one is gone, with the reason."""
    built(farm, held, "amd64")
    newer = accept(farm, "1.1")
    built(farm, newer, "amd64", "armhf")
    assert states(farm, newer) == [P, P, P]
    with farm.reading() as connection:
        found = publications.of_source(connection, held.source_id)
    assert {(each.state, each.reason) for each in found} == {(State.GONE, "hello 1.1 took its place")}
