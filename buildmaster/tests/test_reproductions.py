"""Builds that repeat others: what they take packages from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from buildd.protocol import FileName
from buildmaster import builds, distributions, files, orders, reproductions, snapshots
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, Event
from buildmaster.publications import State
from buildmaster.reproductions import How
from buildmaster.tables import binary, build, build_queue, publication, source, suite
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_farm, make_repository, make_series

BEGAN = 1000.0
BUILDINFO = f"""Source: hello
Version: 1.0
Build-Architecture: amd64
Checksums-Sha256: {"0" * 64} 1 x
Installed-Build-Depends: gcc (= 12), libc6:i386 (= 2)
Environment: SOURCE_DATE_EPOCH="7"
""".encode()
NOW = "deb http://here/debian/primary bookworm main"
THEN = "deb [check-valid-until=no] http://here/debian/primary/snapshot/{} bookworm main"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm that publishes its one archive, with lines for another; build 1 began there at BEGAN, and ended well."""
    made = make_farm(tmp_path)
    make_series(made)
    make_builder(made)
    build_id = make_build(made)
    make_repository(made)
    make_busy(made, "x86", build_id)
    with made.transaction() as connection:
        builds.record(connection, build_id, Event.SUCCEEDED, BEGAN)
        builds.keep_results(connection, build_id, {FileName("a.deb"): made.store.add([b"a"])}, BEGAN)
        assert builds.record(connection, build_id, Event.GATHERED, BEGAN) is BuildState.BUILT
        connection.execute(build.update().values(started_at=BEGAN))
        connection.execute(suite.delete())
        series = distributions.find_series(connection, "debian", "bookworm")
        values = {"archive_id": archive(made), "series_id": series, "pocket": "RELEASE", "generation": 3}
        connection.execute(suite.insert().values(components="main", **values))
        distributions.set_apt_lines(connection, "debian", "primary", "deb http://elsewhere/ SERIES main")
    yield made
    made.close()


def archive(farm: Farm) -> int:
    with farm.reading() as connection:
        return distributions.find_archive(connection, "debian")


def published(farm: Farm, *, came: float, went: float | None = None, is_source: bool = False) -> None:
    """Let a package have come into the archive, and gone again."""
    content = farm.store.add([f"{came}".encode()])
    with farm.transaction() as connection:
        row = connection.execute(select(source)).first()
        assert row is not None
        of_binary = {"source_id": row.id, "name": "a", "version": "1", "architecture": "amd64", "file_name": "a.deb"}
        of_binary |= {"stored_file_id": files.keep(connection, content, 1.0), "control": ""}
        binary_id = connection.execute(binary.insert().values(**of_binary).returning(binary.c.id)).scalar_one()
        values = {"archive_id": archive(farm), "series_id": row.series_id, "pocket": "RELEASE", "component": "main"}
        values |= {"binary_id": None if is_source else binary_id}
        values |= {"source_id": row.id, "state": State.PUBLISHED, "created_at": came}
        connection.execute(publication.insert().values(**values, published_at=came, gone_at=went))


def taken(farm: Farm, name: str, at: float) -> None:
    with farm.transaction() as connection:
        snapshots.add(connection, archive(farm), name, at)


def line_of_ours(farm: Farm) -> str:
    """What a repetition of build 1 is told of our archive."""
    again = reproductions.order(farm, 1, 5000.0)
    with farm.reading() as connection:
        ours, other = orders.find(connection, again).sources.at("http://here")
        looked = connection.execute(select(build_queue.c.looked_at).where(build_queue.c.build_id == again)).scalar()
    assert other == "deb http://elsewhere/ bookworm main"
    assert (looked is None) == (ours == NOW)  # Nobody asks the archive of now whether that of then will do.
    return ours


@pytest.mark.parametrize("newest", [False, True])
def test_versions(farm: Farm, newest: bool) -> None:
    """A builder is told what was installed the first time, and when that was; not if the newest will do."""
    name = FileName("hello_1.0_amd64.buildinfo")
    with farm.transaction() as connection:
        builds.keep_results(connection, 1, {name: farm.store.add([BUILDINFO])}, BEGAN)
    again = reproductions.order(farm, 1, 5000.0, How(newest=newest))
    with farm.reading() as connection:
        wire = orders.find(connection, again).wire_arguments()
    assert wire["source_date_epoch"] == 7
    assert wire.get("package_versions") == (None if newest else ["gcc=12", "libc6:i386=2"])


def test_there_is_no_snapshot(farm: Farm) -> None:
    """It takes packages from where any build would."""
    assert line_of_ours(farm) == NOW


@pytest.mark.parametrize("at", [900.0, 1100.0])
def test_a_snapshot_of_what_was_there(farm: Farm, at: float) -> None:
    """One that has what was there when the first began is used, be it from before or from after that."""
    published(farm, came=800.0)
    published(farm, came=2000.0)
    published(farm, came=950.0, is_source=True)  # As that of the build itself.
    published(farm, came=1050.0, is_source=True)
    taken(farm, "20260101T000000Z", 700.0)
    taken(farm, "20260102T000000Z", at)
    taken(farm, "20260103T000000Z", 2100.0)
    assert line_of_ours(farm) == THEN.format("20260102T000000Z")


@pytest.mark.parametrize("came, went", [(950.0, None), (800.0, 950.0), (900.1, None), (1000.0, None)])
def test_a_snapshot_of_something_else(farm: Farm, came: float, went: float | None) -> None:
    """One is of no use when a package came or went between it and the beginning of the first."""
    published(farm, came=came, went=went)
    taken(farm, "20260101T000000Z", 900.0)
    assert line_of_ours(farm) == NOW
