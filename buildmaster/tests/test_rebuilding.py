"""Binary rebuilds."""

import time
from dataclasses import replace

import pytest

from buildd.protocol import FileName
from buildmaster import builds, copying, distributions, entering, listings, orders, publications, rebuilding
from buildmaster.binaries import Deb
from buildmaster.farm import Farm
from buildmaster.rebuilding import Rebuild, RebuildRefused, Where, Why
from buildmaster.scoring import Pocket
from buildmaster.tests.factories import make_build, make_repository, make_series
from buildmaster.wishes import Wishes, WishesRefused

WHY = Why("Rebuild against libfoo2", "Ada <ada@example.org>")


@pytest.fixture
def where(farm: Farm) -> Where:
    """debian/primary, which the farm publishes, for two architectures."""
    make_series(farm)
    make_series(farm, architecture="arm64")
    archive_id = make_repository(farm)
    with farm.reading() as connection:
        return Where(archive_id, distributions.find_series(connection, "debian", "bookworm"), Pocket.RELEASE)


def rebuild(farm: Farm, where: Where, name: str = "hello", why: Why = WHY) -> Rebuild:
    return farm.write(rebuilding.rebuild, where, name, why, time.time())


def publish(farm: Farm, build_id: int, package: str, version: str = "1.0", depends: str = "") -> None:
    """Let a build have made a package that is to be published."""
    control = f"Package: {package}\nVersion: {version}\n" + (f"Depends: {depends}\n" if depends else "")
    stored = farm.store.add([control.encode()])
    with farm.transaction() as connection:
        row = builds.find(connection, build_id)
        file_name = f"{package}_{version}_amd64.deb"
        of = (row.source_name, row.source_version)
        deb = Deb(package, version, "amd64", *of, "misc", False, control, FileName(file_name), stored, None)
        entering.add_binaries(connection, row.source_id, build_id, [deb], time.time())


def test_all_architectures(farm: Farm, where: Where) -> None:
    """A source is rebuilt on all its architectures, under one number that counts up, and without packages for all."""
    make_build(farm, architectures="any all", wishes=Wishes(options=("nocheck",)), needs="large")
    first, second = rebuild(farm, where), rebuild(farm, where)
    assert (first.number, second.number, len(first.build_ids)) == (1, 2, 2)
    with farm.reading() as connection:
        rows = [builds.find(connection, build_id) for build_id in second.build_ids]
        order = orders.find(connection, second.build_ids[0])
    assert {row.architecture for row in rows} == {"amd64", "arm64"} and not any(row.arch_indep for row in rows)
    assert {row.tags for row in rows} == {"large"}
    wire = order.wire_arguments()
    assert wire["binnmu"] == {"number": 2, "changelog": WHY.reason, "maintainer": WHY.maintainer}
    assert wire["build_options"] == ["nocheck"] and "arch_indep" not in {k for k, v in wire.items() if v}


def test_numbers_that_are_there(farm: Farm, where: Where) -> None:
    """What was published as +b4 is rebuilt as +b5, whoever built it."""
    build_id = make_build(farm)
    publish(farm, build_id, "hello", "1.0+b4")
    assert rebuild(farm, where).number == 5


def test_what_cannot_be(farm: Farm, where: Where) -> None:
    """What makes packages for all architectures only, what is not there, and what is no reason, is refused."""
    make_build(farm, "doc", architectures="all")
    with pytest.raises(RebuildRefused, match=r"doc 1\.0 makes packages for all architectures only.*new version"):
        rebuild(farm, where, "doc")
    with pytest.raises(RebuildRefused, match="no source 'nothing'"):
        rebuild(farm, where, "nothing")
    make_build(farm)
    for bad in (Why("", "Ada <a@b>"), Why("x", "Ada"), Why("x", "Ada <a@b>\n -- Eve <e@b>")):
        with pytest.raises(WishesRefused):
            rebuild(farm, where, why=bad)
    with farm.reading() as connection:
        assert len(listings.builds(connection)) == 3  # What was there.


def test_the_newest_counts(farm: Farm, where: Where) -> None:
    """A source that was deleted, or that a newer one took the place of, is not rebuilt."""
    make_build(farm, version="1.9")
    make_build(farm, version="1.10")
    assert rebuild(farm, where).version == "1.10"
    with farm.transaction() as connection:
        ids = [each.id for each in publications.named(connection, where.archive_id, "hello")]
        publications.leave(connection, ids, "deleted", time.time())
    with pytest.raises(RebuildRefused, match="no source"):
        rebuild(farm, where)


def test_an_archive_elsewhere(farm: Farm) -> None:
    """What is built for others to publish is rebuilt as well."""
    make_series(farm)
    make_build(farm)
    with farm.reading() as connection:
        series = distributions.find_series(connection, "debian", "bookworm")
        where = Where(distributions.find_archive(connection, "debian"), series, Pocket.RELEASE)
    assert rebuild(farm, where).number == 1


def test_dependants(farm: Farm, where: Where) -> None:
    """Sources of which a package depends on one, in any version or as an alternative; not the one that makes it."""
    foo = make_build(farm, "foo")
    publish(farm, foo, "libfoo1")
    publish(farm, foo, "libfoo-dev", depends="libfoo1 (= 1.0)")
    publish(farm, make_build(farm, "user"), "user", depends="libc6 (>= 2.36), libfoo1 (>= 0.9)")
    publish(farm, make_build(farm, "either"), "either", depends="libbar1 | libfoo1")
    publish(farm, make_build(farm, "other"), "other", depends="libfoo1x, xlibfoo1, libfoo")
    gone = make_build(farm, "gone")
    publish(farm, gone, "gone", depends="libfoo1")
    with farm.transaction() as connection:
        ids = [each.id for each in publications.named(connection, where.archive_id, "gone")]
        publications.leave(connection, ids, "deleted", time.time())
        assert rebuilding.dependants(connection, where, "libfoo1") == ["either", "user"]
        for nonsense in ("%", "_ibfoo1", "", "lib", "libfoo1 | x"):
            assert rebuilding.dependants(connection, where, nonsense) == []


def test_build_dependants(farm: Farm, where: Where) -> None:
    """Sources that build-depend on a package, whatever the conditions, in their newest versions."""
    conditions = "Build-Depends: debhelper-compat (= 13),\n libfoo-dev (>= 1) [linux-any] <!nocheck>"
    make_build(farm, "uses", relations=conditions)
    make_build(farm, "indep", relations="Build-Depends-Indep: a | libfoo-dev:native")
    make_build(farm, "conflicts", relations="Build-Conflicts: libfoo-dev")
    make_build(farm, "once", "1.0", relations="Build-Depends: libfoo-dev")
    make_build(farm, "once", "2.0", relations="Build-Depends: libfoo-dev-bin")
    with farm.reading() as connection:
        assert rebuilding.build_dependants(connection, where, "libfoo-dev") == ["indep", "uses"]


def test_what_was_promoted(farm: Farm, where: Where) -> None:
    """A source is rebuilt where it is published, be that not where it was accepted."""
    relations = "Build-Depends: libfoo-dev"
    build_id = make_build(farm, pocket=Pocket.PROPOSED, relations=relations)
    with farm.transaction() as connection:
        own = publications.home(connection, builds.find(connection, build_id).source_id)
        copying.copy_to(connection, own, publications.Suite(**vars(where)), time.time())
        publications.leave(connection, [each.id for each in own], "promoted", time.time())
        assert rebuilding.build_dependants(connection, where, "libfoo-dev") == ["hello"]
    assert rebuild(farm, where).number == 1
    with pytest.raises(RebuildRefused, match="no source"):
        rebuild(farm, replace(where, pocket=Pocket.PROPOSED))


def test_what_was_copied(farm: Farm, where: Where) -> None:
    """What belongs to another archive is rebuilt there, which is said."""
    make_build(farm)
    other = replace(where, archive_id=make_repository(farm, "other"))
    with farm.transaction() as connection:
        own = publications.named(connection, where.archive_id, "hello")
        copying.copy_to(connection, own, publications.Suite(**vars(other)), time.time())
    with pytest.raises(RebuildRefused, match=r"hello 1\.0 was copied to this archive: rebuild it in the one"):
        rebuild(farm, other)
    with pytest.raises(RebuildRefused, match="no source"):
        rebuild(farm, replace(other, pocket=Pocket.PROPOSED))
