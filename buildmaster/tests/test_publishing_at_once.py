"""Several who change at the same time what is published of a source, where a database lets them."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from buildmaster import (
    builders,
    builds,
    copying,
    distributions,
    entering,
    gathering,
    holding,
    packages,
    publications,
    repositories,
)
from buildmaster.binaries import Deb
from buildmaster.copying import NotThere
from buildmaster.farm import Farm
from buildmaster.gathering import Gatherer, _Ending
from buildmaster.lifecycle import BuildState, Event
from buildmaster.publications import State, Suite
from buildmaster.repositories import Settings
from buildmaster.scoring import Pocket
from buildmaster.tests import databases
from buildmaster.tests.factories import make_builder, make_repository, make_series
from buildmaster.tests.test_postgresql import meanwhile, transacted, wait_for
from buildmaster.tests.test_publications import accept, deb

pytestmark = pytest.mark.skipif(not databases.on_postgresql(), reason="$DEBFARM_TEST_DATABASE is not postgresql")
NOW = 1000.0
ARCHITECTURES = ("amd64", "armhf")


@pytest.fixture
def mine(farm: Farm) -> int:
    """An archive that we publish, for two architectures."""
    for architecture in ARCHITECTURES:
        make_series(farm, architecture=architecture)
    return make_repository(farm, "mine")


def hold(farm: Farm, mine: int) -> None:
    farm.write(repositories.change, mine, Settings(hold=True))


def ending(farm: Farm, accepted: packages.Accepted, number: int) -> Callable[[Connection], BuildState]:
    """The transaction at the end of a build that has ended well: all of it is here."""
    build_id, architecture = accepted.build_ids[number], ARCHITECTURES[number]
    builder_id = make_builder(farm, f"builder-{build_id}", f"http://localhost:{build_id}/")
    farm.write(builds.claim, build_id, builder_id, NOW)
    source = farm.write(gathering._begin, build_id, NOW)
    found: Deb = deb(farm, accepted.name, accepted.version, architecture, architecture=architecture)
    with farm.reading() as connection:
        vitals = builders.find(connection, f"builder-{build_id}")
        job = builders.job_of(connection, builder_id)
        assert job is not None
    end = _Ending(vitals, job, Event.GATHERED, None, results={}, source=source, debs=[found])
    gatherer = Gatherer(farm, None, None, None, limit_bytes=1, now=lambda: NOW)  # type: ignore[arg-type]
    return lambda connection: gatherer._record(connection, end)


def states(farm: Farm, accepted: packages.Accepted) -> dict[tuple[str, Pocket], State]:
    with farm.reading() as connection:
        found = publications.of_source(connection, accepted.source_id)
    return {(each.architecture, each.suite.pocket): each.state for each in found}


def test_the_last_two_builds(farm: Farm, mine: int) -> None:
    """A version that is held goes when the last two builds of it end at the same time."""
    hold(farm, mine)
    accepted = accept(farm)
    one, other = ending(farm, accepted, 0), ending(farm, accepted, 1)
    with farm.transaction() as connection:
        assert one(connection) is BuildState.BUILT
        with meanwhile(farm, transacted(farm, other)) as results:
            pass
    assert wait_for(results) == [BuildState.BUILT]
    assert set(states(farm, accepted).values()) == {State.PENDING} and len(states(farm, accepted)) == 3


def test_let_go_while_a_build_ends(farm: Farm, mine: int) -> None:
    """What the build brings goes as well."""
    hold(farm, mine)
    accepted = accept(farm)
    end = ending(farm, accepted, 0)
    with farm.transaction() as connection:
        assert holding.let_go(connection, accepted.source_id, NOW)
        with meanwhile(farm, transacted(farm, end)) as results:
            pass
    assert wait_for(results) == [BuildState.BUILT]
    assert set(states(farm, accepted).values()) == {State.PENDING} and len(states(farm, accepted)) == 2


def test_an_older_version_ends_while_a_newer_one_is_let_go(farm: Farm, mine: int) -> None:
    """Nothing of the older one stays held."""
    hold(farm, mine)
    old, new = accept(farm), accept(farm, "1.1")
    farm.write(builds.retry, old.build_ids[0], time.time())  # A person wants it, in spite of the newer one.
    end = ending(farm, old, 0)
    with farm.transaction() as connection:
        holding.let_go(connection, new.source_id, NOW)
        with meanwhile(farm, transacted(farm, end)) as results:
            pass
    assert wait_for(results) == [BuildState.BUILT]
    assert State.HELD not in states(farm, old).values()


def test_promoted_while_a_build_ends(farm: Farm, mine: int) -> None:
    """The build's packages are where the source is now, whichever comes first."""
    accepted = accept(farm)
    first, second = ending(farm, accepted, 0), ending(farm, accepted, 1)
    with farm.reading() as connection:
        what = copying.find(connection, mine, "hello")
        updates = Suite(mine, distributions.find_series(connection, "debian", "bookworm"), Pocket.UPDATES)
    with farm.transaction() as connection:
        first(connection)
        with meanwhile(farm, transacted(farm, copying.promote, what, updates, NOW)) as results:
            pass
    assert wait_for(results)[0].packages == 2
    with farm.reading() as connection:
        what = copying.find(connection, mine, "hello")
    with farm.transaction() as connection:
        copying.promote(connection, what, Suite(mine, updates.series_id, Pocket.RELEASE), NOW)
        with meanwhile(farm, transacted(farm, second)) as results:
            pass
    assert wait_for(results) == [BuildState.BUILT]
    with farm.reading() as connection:
        found = copying.find(connection, mine, "hello")
    assert {(each.architecture, each.suite.pocket) for each in found} == {
        (name, Pocket.RELEASE) for name in ("source", *ARCHITECTURES)
    }


def test_deleted_while_a_build_ends(farm: Farm, mine: int) -> None:
    """Nothing of it is published, whichever comes first; and it is deleted once."""
    accepted = accept(farm)
    first, second = ending(farm, accepted, 0), ending(farm, accepted, 1)
    with farm.reading() as connection:
        what = copying.find(connection, mine, "hello")
    with farm.transaction() as connection:
        first(connection)
        with meanwhile(farm, transacted(farm, copying.delete, what, "a bug", NOW)) as results:
            pass
        copying.delete(connection, what, "a bug", NOW)
    (told,) = wait_for(results)
    assert isinstance(told, NotThere)
    farm.write(second)
    assert set(states(farm, accepted).values()) == {State.LEAVING} and len(states(farm, accepted)) == 2


def test_files_of_one_name(farm: Farm, mine: int) -> None:
    """Of two builds that have made different files of one name one is published, and the other refused."""
    accepted = accept(farm)
    one, two = deb(farm, content="one"), deb(farm, content="two")
    with farm.transaction() as connection:
        entering.add_binaries(connection, accepted.source_id, accepted.build_ids[0], [one], NOW)
        add = transacted(farm, entering.add_binaries, accepted.source_id, accepted.build_ids[0], [two], NOW)
        with meanwhile(farm, add) as results:
            pass
    (told,) = wait_for(results)
    assert isinstance(told, entering.PoolConflict)
