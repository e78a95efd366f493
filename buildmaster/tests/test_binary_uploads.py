"""Binary packages that are uploaded: with their source, or for one that the archive has."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from buildmaster import builds, copying, holding, publications, repositories, uploads
from buildmaster.lifecycle import BuildState
from buildmaster.publications import State
from buildmaster.scoring import Pocket
from buildmaster.tables import binary, build
from buildmaster.tests.factories import make_builder, make_busy, make_series, write_deb
from buildmaster.tests.test_acceptance import World
from buildmaster.tests.uploading import Upload
from buildmaster.uploading.acceptance import Verdict
from buildmaster.uploads import Source


class BinaryWorld(World):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        with self.farm.transaction() as connection:
            repositories.change(connection, self.place.archive_id, repositories.Settings(binaries=True))
            found = uploads.place_of(connection, self.place.archive_id)
        assert found is not None and found.binaries
        self.place = found

    def deb(self, *words: str, fields: str = "") -> dict[str, bytes]:
        """A .deb, by its name: name, version and architecture."""
        path = write_deb(self.directory / "debs", *words, fields=fields)
        return {path.name: path.read_bytes()}

    def alone(
        self, debs: dict[str, bytes], architectures: str = "amd64", version: str = "1.0", suite: str = "bookworm"
    ) -> Verdict:
        """Upload packages without their source."""
        fields = {"Architecture": architectures, "Distribution": suite}
        upload = Upload(version=version, more=debs, changes_fields=fields)
        upload.edit_changes = _without_source
        return self.send(upload)

    def binaries(self) -> list[tuple[str, str, str, State]]:
        with self.farm.reading() as connection:
            found = publications.named(connection, self.place.archive_id, "hello")
        return [
            (each.name, each.version, each.architecture, each.state) for each in found if each.binary_id is not None
        ]

    def builds(self) -> list[tuple[str, bool]]:
        with self.farm.reading() as connection:
            rows = connection.execute(select(build.c.state, build.c.arch_indep).order_by(build.c.id))
            return [(str(row.state), bool(row.arch_indep)) for row in rows]


def _without_source(text: bytes) -> bytes:
    keep = [line for line in text.splitlines(keepends=True) if b".dsc" not in line and b".tar.xz" not in line]
    return b"".join(keep)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[BinaryWorld]:
    made = BinaryWorld(tmp_path)
    yield made
    made.farm.close()


def test_with_their_source(world: BinaryWorld) -> None:
    """They are published with it, and need not be built."""
    debs = world.deb("hello", "1.0", "amd64")
    verdict = world.send(Upload(more=debs, changes_fields={"Architecture": "source amd64"}))
    assert (verdict.faults, verdict.build_ids) == ((), ())
    assert world.binaries() == [("hello", "1.0", "amd64", State.PENDING)]
    assert world.builds() == [("superseded", False)]
    with world.farm.reading() as connection:
        row = connection.execute(select(binary)).one()
        assert row.build_id is None and builds.find(connection, 1).reason == "its packages were uploaded"


def test_those_for_all_alone(world: BinaryWorld) -> None:
    """What came is not built again; the rest is."""
    debs = world.deb("hello-doc", "1.0", "all", fields="Source: hello")
    upload = Upload(architectures="any all", more=debs, changes_fields={"Architecture": "source all"})
    assert len(world.send(upload).build_ids) == 1
    assert world.builds() == [("needs-build", False)]


def test_half_of_them(world: BinaryWorld) -> None:
    """Packages for an architecture whose build would make those for all as well come with these."""
    debs = world.deb("hello", "1.0", "amd64")
    upload = Upload(architectures="any all", more=debs, changes_fields={"Architecture": "source amd64"})
    assert "came without those for all: upload them together" in world.send(upload).faults[0]
    assert world.sources() == [] and world.builds() == []
    upload.more |= world.deb("hello-doc", "1.0", "all", fields="Source: hello")
    upload.changes_fields = {"Architecture": "source amd64 all"}
    assert world.send(upload).accepted
    assert world.builds() == [("superseded", True)]


def test_for_a_source_that_is_there(world: BinaryWorld) -> None:
    """They come to it, also as a rebuild with a version of its own; nobody builds them any more."""
    assert world.send(Upload()).accepted
    verdict = world.alone(world.deb("hello", "1.0", "amd64"))
    assert verdict.faults == () and verdict.source == "packages of hello 1.0"
    again = world.deb("hello", "1.0+b1", "amd64", fields="Source: hello (1.0)")
    assert world.alone(again, version="1.0+b1").accepted
    assert [each[1] for each in world.binaries()] == ["1.0", "1.0+b1"]
    assert world.builds() == [("superseded", False)]
    other = {name: content + b"" for name, content in world.deb("hello", "1.0", "amd64", fields="Section: x").items()}
    assert "hello_1.0_amd64.deb is in debian/mine with other content" in world.alone(other).faults[0]


def test_held(world: BinaryWorld) -> None:
    """What came is not waited for: a version goes with its upload if that has all, else with what is built beside."""
    with world.farm.transaction() as connection:
        repositories.change(connection, world.place.archive_id, repositories.Settings(hold=True))
    upload = Upload(more=world.deb("hello", "1.0", "amd64"), changes_fields={"Architecture": "source amd64"})
    assert world.send(upload).accepted
    assert world.binaries() == [("hello", "1.0", "amd64", State.PENDING)]
    make_series(world.farm, architecture="armhf")
    debs = world.deb("hello", "1.1", "amd64")
    verdict = world.send(Upload(version="1.1", more=debs, changes_fields={"Architecture": "source amd64"}))
    with world.farm.transaction() as connection:
        source_id = builds.find(connection, verdict.build_ids[0]).source_id
        assert holding.lacking(connection, source_id) == ["armhf"]
        assert world.binaries()[-1] == ("hello", "1.1", "amd64", State.HELD)
        connection.execute(update(build).where(build.c.id == verdict.build_ids[0]).values(state=BuildState.BUILT))
        assert holding.look(connection, source_id, 0.0)


def test_a_reproduction_is_let_be(world: BinaryWorld) -> None:
    """It is no build that packages which came could spare."""
    assert world.send(Upload()).accepted
    with world.farm.transaction() as connection:
        values = {"state": BuildState.BUILDING, "reproduces_id": 1}
        connection.execute(update(build).values(state=BuildState.BUILT))
        again = dict(connection.execute(select(build)).one()._mapping) | values | {"id": 2}
        connection.execute(build.insert().values(**again))
    assert world.alone(world.deb("hello", "1.0", "amd64")).accepted
    assert [each for each, _ in world.builds()] == ["built", "building"]


def test_for_a_source_that_was_promoted_or_deleted(world: BinaryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come to where it is now, and are refused when it is gone, also if that was a moment ago."""

    def change(move: Callable[..., object], *arguments: object) -> None:
        with world.farm.transaction() as connection:
            what = copying.find(connection, world.place.archive_id, "hello")
            move(connection, what, *arguments)

    assert world.send(Upload()).accepted
    with world.farm.reading() as connection:
        here = copying.find(connection, world.place.archive_id, "hello")[0].suite
    change(copying.promote, replace(here, pocket=Pocket.UPDATES), 1.0)
    packages, refused = world.deb("hello", "1.0", "amd64"), "hello 1.0 is not in bookworm of debian/mine"
    assert refused in world.alone(packages).faults[0]
    assert world.alone(packages, suite="bookworm-updates").accepted
    assert world.binaries() == [("hello", "1.0", "amd64", State.PENDING)]
    change(copying.delete, "a bug", 1.0)
    again = world.deb("hello", "1.0+b1", "amd64", fields="Source: hello (1.0)")
    verdict = world.alone(again, version="1.0+b1", suite="bookworm-updates")
    assert "hello 1.0 is not in bookworm-updates" in verdict.faults[0]
    with monkeypatch.context() as patched:  # When it was judged, the source was there.
        patched.setattr(uploads, "find_source", lambda *_: [Source(1, ("bookworm", Pocket.RELEASE))])
        assert "hello has just been deleted from debian/mine" in world.alone(again, version="1.0+b1").faults[0]
    assert [each[-1] for each in world.binaries()] == [State.LEAVING]


def test_while_it_is_built(world: BinaryWorld) -> None:
    """What a builder has is waited for."""
    assert world.send(Upload()).accepted
    make_builder(world.farm)
    make_busy(world.farm, "x86", 1)
    assert "is being built by the farm: wait for build 1" in world.alone(world.deb("hello", "1.0", "amd64")).faults[0]
    assert world.builds() == [(BuildState.BUILDING.value, False)] and world.binaries() == []


@pytest.mark.parametrize(
    ("says", "words", "fields", "architectures"),
    [
        ("1.1 is not in bookworm of debian/mine: upload its source", ("hello", "1.1", "amd64"), "", "amd64"),
        ("is built of other, not of hello", ("hello", "1.0", "amd64"), "Source: other", "amd64"),
        ("is for s390x, but the series has: amd64", ("hello", "1.0", "s390x"), "", "s390x"),
        ("which is not in Architecture (all)", ("hello", "1.0", "amd64"), "", "all"),
        ("", ("hello", "1.0", "amd64"), "Filename: /etc/passwd", "amd64"),
    ],
)
def test_bad_packages(says: str, words: tuple[str, ...], fields: str, architectures: str, world: BinaryWorld) -> None:
    """What does not belong there is refused."""
    assert world.send(Upload()).accepted
    faults = world.alone(world.deb(*words, fields=fields), architectures).faults
    assert faults and says in "\n".join(faults)
    assert world.binaries() == []


def test_packages_of_another_version_of_their_source(world: BinaryWorld) -> None:
    """They are not the ones that this source would be built for, and spare nothing."""
    debs = world.deb("hello", "1.1", "amd64", fields="Source: hello (1.0)")
    verdict = world.send(Upload(version="1.1", more=debs, changes_fields={"Architecture": "source amd64"}))
    assert verdict.faults == ("the packages are of hello 1.0, and 1.1 comes with them: build them of that",)
    assert world.binaries() == [] and world.builds() == []


def test_what_is_no_package(world: BinaryWorld) -> None:
    """A .deb that cannot be read, whatever is in it; and other kinds of packages."""
    assert world.send(Upload()).accepted
    good = world.deb("hello", "1.0", "amd64")
    (content,) = good.values()
    bad = {b"": "", b"!<arch>\n": "", content[:-20]: "", content[: len(content) // 2]: "", bytes(200): ""}
    for each in bad:
        verdict = world.alone({"hello_1.0_amd64.deb": each})
        assert verdict.faults and "hello_1.0_amd64.deb" in verdict.faults[0], each[:20]
    assert "must be called" in world.alone({"bye_1.0_amd64.deb": content}).faults[0]
    ddeb = {"hello_1.0_amd64.deb": content, "hello-dbgsym_1.0_amd64.ddeb": content}
    assert "is not accepted here" in world.alone(ddeb).faults[0]
    assert "must be called hello_1.0_amd64.udeb" in world.alone({"hello-udeb_1.0_amd64.udeb": content}).faults[0]
    assert "belongs to no package" in world.alone({"hello_1.0_amd64.deb": content, "README.txt": b"x"}).faults[0]
    assert world.binaries() == []
    assert len(list(world.farm.store.files())) == 3  # The chroot and the source: nothing of these.
