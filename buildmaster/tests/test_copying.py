"""Versions that are copied, promoted and deleted while builds of them go on."""

import time

import pytest
from sqlalchemy import update

from buildmaster import copying, distributions, entering, packages
from buildmaster.copying import CannotCopy, NotThere
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.publications import Publication, State, Suite
from buildmaster.scoring import Pocket
from buildmaster.superseding import Superseded
from buildmaster.tables import build
from buildmaster.tests.factories import make_repository, make_series, write_source
from buildmaster.tests.test_publications import deb

NOW = 1000.0
ARCHITECTURES = ("amd64", "armhf")


@pytest.fixture
def mine(farm: Farm) -> int:
    """An archive that we publish, for two architectures."""
    for architecture in ARCHITECTURES:
        make_series(farm, architecture=architecture)
    return make_repository(farm, "mine")


def accept(
    farm: Farm, version: str = "1.0", pocket: Pocket = Pocket.PROPOSED, *, rebuild: bool = False
) -> packages.Accepted:
    dsc = write_source(farm.directory / "sources", "hello", version, "any")
    where = {"distribution": "debian", "series_name": "bookworm", "archive_name": "mine"}
    return packages.accept(farm, dsc, time.time(), pocket=pocket, rebuild=rebuild, **where)  # type: ignore[arg-type]


def built(farm: Farm, accepted: packages.Accepted, number: int) -> None:
    build_id, found = accepted.build_ids[number], deb(farm, architecture=ARCHITECTURES[number])
    with farm.transaction() as connection:
        connection.execute(update(build).where(build.c.id == build_id).values(state=BuildState.BUILT))
        entering.add_binaries(connection, accepted.source_id, build_id, [found], NOW)


def found(farm: Farm, archive_id: int, version: str = "1.0") -> list[Publication]:
    with farm.reading() as connection:
        return copying.find(connection, archive_id, "hello", version=version)


def suite_of(farm: Farm, archive_id: int, pocket: Pocket) -> Suite:
    with farm.reading() as connection:
        return Suite(archive_id, distributions.find_series(connection, "debian", "bookworm"), pocket)


def test_promoted_to_another_archive_while_it_is_built(farm: Farm, mine: int) -> None:
    """It is refused, since what is built of it comes to its own archive; copied it may be, and promoted at the end."""
    stable = suite_of(farm, make_repository(farm, "stable"), Pocket.RELEASE)
    accepted = accept(farm)
    built(farm, accepted, 0)
    with pytest.raises(CannotCopy, match=r"hello 1\.0 is still being built for armhf"):
        farm.write(copying.promote, found(farm, mine), stable, NOW)
    assert len(found(farm, mine)) == 2  # Nothing has changed.
    farm.write(copying.copy, found(farm, mine), stable, NOW)
    built(farm, accepted, 1)
    assert farm.write(copying.promote, found(farm, mine), stable, NOW).packages == 1
    assert {each.architecture for each in found(farm, stable.archive_id)} == {"source", *ARCHITECTURES}


def test_a_copy_is_promoted_while_its_source_is_built(farm: Farm, mine: int) -> None:
    """From an archive that the builds do not come to: nothing is lost by that."""
    stable = suite_of(farm, make_repository(farm, "stable"), Pocket.RELEASE)
    other = suite_of(farm, make_repository(farm, "other"), Pocket.RELEASE)
    accepted = accept(farm)
    farm.write(copying.copy, found(farm, mine), stable, NOW)
    farm.write(copying.promote, found(farm, stable.archive_id), other, NOW)
    built(farm, accepted, 1)
    assert [each.architecture for each in found(farm, mine)] == ["source", "armhf"]


def test_promoted_and_then_a_newer_version_where_it_was(farm: Farm, mine: int) -> None:
    """The builds of a version that is in another suite by now go on: they come to that one."""
    old = accept(farm)
    built(farm, old, 0)
    farm.write(copying.promote, found(farm, mine), suite_of(farm, mine, Pocket.RELEASE), NOW)
    new = accept(farm, "1.1")
    assert new.superseded == Superseded()
    built(farm, old, 1)
    there = {(each.architecture, each.suite.pocket, each.state) for each in found(farm, mine)}
    assert there == {(name, Pocket.RELEASE, State.PENDING) for name in ("source", *ARCHITECTURES)}


def test_superseded_where_it_is(farm: Farm, mine: int) -> None:
    """A version that is in no other suite gives way, also when it was copied to another archive."""
    stable = suite_of(farm, make_repository(farm, "stable"), Pocket.RELEASE)
    old = accept(farm)
    farm.write(copying.copy, found(farm, mine), stable, NOW)
    assert accept(farm, "1.1").superseded.build_ids == old.build_ids


def test_deleted_by_mistake(farm: Farm, mine: int) -> None:
    """Submitted and built once more, the very same version is there again."""
    accepted = accept(farm)
    built(farm, accepted, 0)
    farm.write(copying.delete, found(farm, mine), "a mistake", NOW)
    again = accept(farm, rebuild=True)
    assert again.source_id == accepted.source_id
    built(farm, again, 0)
    there = [(each.architecture, each.state) for each in found(farm, mine)]
    assert there == [("source", State.PENDING), ("amd64", State.PENDING)]
    accept(farm, rebuild=True)
    assert len(found(farm, mine)) == 2  # It is there once.


def test_deleted_long_ago(farm: Farm, mine: int) -> None:
    """A version that is older than what is there by now may be built once more, but is not published."""
    accept(farm)
    farm.write(copying.delete, found(farm, mine), "too old", NOW)
    accept(farm, "1.1")
    accept(farm, rebuild=True)
    with pytest.raises(NotThere):
        found(farm, mine)
