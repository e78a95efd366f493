"""What is in the suites of archives that we publish, from acceptance on."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import update

from buildd.protocol import FileName
from buildmaster import copying, distributions, entering, packages, publications, repositories
from buildmaster.binaries import Deb
from buildmaster.entering import PoolConflict
from buildmaster.farm import Farm
from buildmaster.publications import Publication, State, Suite
from buildmaster.repositories import Settings
from buildmaster.scoring import Pocket
from buildmaster.tables import suite
from buildmaster.tests.factories import make_repository, make_series, write_source


@pytest.fixture
def mine(farm: Farm) -> int:
    """The id of an archive that we publish."""
    make_series(farm)
    return make_repository(farm, "mine")


def settings(farm: Farm, archive_id: int, **words: float) -> None:
    farm.write(repositories.change, archive_id, Settings(**words))  # type: ignore[arg-type]


def accept(
    farm: Farm, version: str = "1.0", name: str = "hello", archive: str = "mine", architectures: str = "any"
) -> packages.Accepted:
    dsc = write_source(farm.directory / f"sources-{archive}", name, version, architectures)
    return packages.accept(farm, dsc, time.time(), distribution="debian", series_name="bookworm", archive_name=archive)


def deb(
    farm: Farm,
    name: str = "hello",
    version: str = "1.0",
    content: str = "",
    *,
    architecture: str = "amd64",
    debug: bool = False,
) -> Deb:
    """As a .deb would say it."""
    return Deb(
        name=name,
        version=version,
        architecture=architecture,
        source=name,
        source_version=version,
        section="misc",
        debug=debug,
        control=f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n",
        file_name=FileName(f"{name}_{version.partition(':')[2] or version}_{architecture}.deb"),
        file=farm.store.add([f"{name} {version} {content}".encode()]),
        contents=None,
    )


def of(farm: Farm, source_id: int) -> list[tuple[str, str, str, State]]:
    with farm.reading() as connection:
        found = publications.of_source(connection, source_id)
    return [(each.name, each.architecture, each.component, each.state) for each in found]


def read(farm: Farm, function: Callable[..., list[Publication]], *arguments: object) -> set[tuple[str, str, str]]:
    with farm.reading() as connection:
        return {(each.name, each.version, each.architecture) for each in function(connection, *arguments)}


def test_an_accepted_source_is_to_be_published(farm: Farm, mine: int) -> None:
    """And its suite has work, and is there from now on."""
    accepted = accept(farm)
    assert of(farm, accepted.source_id) == [("hello", "source", "main", State.PENDING)]
    with farm.reading() as connection:
        (where,) = publications.suites_with_work(connection, 0.0)
        assert (where.archive_id, where.pocket) == (mine, Pocket.RELEASE)
        (found,) = publications.changes(connection, where)
    assert (found.source, found.version) == ("hello", "1.0")


def test_an_archive_that_others_publish(farm: Farm) -> None:
    """Nothing is written of it."""
    make_series(farm)
    assert of(farm, accept(farm, archive=distributions.PRIMARY).source_id) == []


def test_binaries_come_to_their_source(farm: Farm, mine: int) -> None:
    """In its suite; debug symbols in a component of their own; the same ones once."""
    accepted = accept(farm)
    debs = [deb(farm), deb(farm, "hello-dbgsym", debug=True)]
    for _ in range(2):
        farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], debs, time.time())
    assert of(farm, accepted.source_id) == [
        ("hello", "source", "main", State.PENDING),
        ("hello", "amd64", "main", State.PENDING),
        ("hello-dbgsym", "amd64", "main/debug", State.PENDING),
    ]


def test_binaries_of_a_source_that_was_deleted(farm: Farm, mine: int) -> None:
    """They are not published."""
    accepted = accept(farm)
    with farm.reading() as connection:
        ids = [each.id for each in publications.of_source(connection, accepted.source_id)]
    assert farm.write(publications.leave, ids, "deleted", time.time()) == 1
    farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], [deb(farm)], time.time())
    assert of(farm, accepted.source_id) == [("hello", "source", "main", State.LEAVING)]


def test_one_name_one_content(farm: Farm, mine: int) -> None:
    """Another .deb of the same name is refused by name, and nothing of it stays; so is a source file of another series;
    in another archive it is welcome."""
    accepted = accept(farm)
    farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], [deb(farm)], time.time())
    with pytest.raises(PoolConflict, match=r"hello_1.0_amd64.deb"):
        others = [deb(farm, "hello-doc"), deb(farm, content="other")]
        farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], others, time.time())
    assert len(of(farm, accepted.source_id)) == 2
    make_series(farm, series="trixie")
    dsc = write_source(farm.directory / "others", relations="Build-Depends: other")
    with pytest.raises(packages.SourceRefused, match=r"hello_1.0.dsc; give the package a new version"):
        packages.accept(farm, dsc, time.time(), distribution="debian", series_name="trixie", archive_name="mine")
    make_repository(farm, "yours")
    packages.accept(farm, dsc, time.time(), distribution="debian", series_name="trixie", archive_name="yours")


def test_held(farm: Farm, mine: int) -> None:
    """By the archive's word, or by that of the source; its binaries with it; what is held goes at once when deleted."""
    settings(farm, mine, hold=True)
    farm.write(repositories.set_hold, mine, "other", False)
    accepted = accept(farm)
    farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], [deb(farm)], time.time())
    assert [each[3] for each in of(farm, accepted.source_id)] == [State.HELD] * 2
    assert [each[3] for each in of(farm, accept(farm, name="other").source_id)] == [State.PENDING]
    with farm.reading() as connection:
        ids = [each.id for each in publications.named(connection, mine, "hello")]
    assert farm.write(publications.leave, ids, "deleted", 5.0) == 2
    assert [each[3] for each in of(farm, accepted.source_id)] == [State.GONE] * 2


def test_related(farm: Farm, mine: int) -> None:
    """What domination looks at: all of a source's, and what has the name of a package, and nothing else."""
    for name in ("hello", "other", "third"):
        accepted = accept(farm, name=name)
        debs = [deb(farm, name), deb(farm, f"{name}-doc", architecture="all")]
        farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], debs, time.time())
    with farm.reading() as connection:
        (where,) = publications.suites_with_work(connection, 0.0)
    assert len(read(farm, publications.listed, where)) == 9
    assert read(farm, publications.related, where, ["hello"], ["third-doc"]) == {
        ("hello", "1.0", "source"),
        ("hello", "1.0", "amd64"),
        ("hello-doc", "1.0", "all"),
        ("third-doc", "1.0", "all"),
    }


def test_copied(farm: Farm, mine: int) -> None:
    """As it is, once; refused where the name of a file is taken."""
    yours = make_repository(farm, "yours")
    accepted = accept(farm)
    farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], [deb(farm)], time.time())
    with farm.reading() as connection:
        what = publications.named(connection, mine, "hello")
    there = Suite(yours, what[0].suite.series_id, Pocket.PROPOSED)
    assert farm.write(copying.copy_to, what, there, time.time()) == 2
    assert farm.write(copying.copy_to, what, there, time.time()) == 0
    other = accept(farm, archive="yours", name="bye")
    with pytest.raises(PoolConflict):
        others = [deb(farm, content="other")]
        farm.write(entering.add_binaries, other.source_id, other.build_ids[0], others, time.time())


def test_a_new_architecture(farm: Farm, mine: int) -> None:
    """An archive has a suite for each series of its distribution, and publishes it anew for a new architecture."""

    def due() -> set[tuple[str, int]]:
        with farm.reading() as connection:
            return {(each.pocket, each.series_id) for each in publications.suites_with_work(connection, 1.0)}

    with farm.transaction() as connection:
        connection.execute(update(suite).values(refresh_at=None))
    assert not due()
    make_series(farm, architecture="riscv64")
    with farm.reading() as connection:
        first = distributions.find_series(connection, "debian", "bookworm")
    assert due() == {("RELEASE", first)}
    with farm.transaction() as connection:
        connection.execute(update(suite).values(refresh_at=None))
    make_series(farm, architecture="riscv64")
    assert not due()
    make_series(farm, series="trixie")
    with farm.reading() as connection:
        assert {each.name for each in publications.suites_of(connection, mine)} >= {"trixie"}
    assert len(due()) == 1
