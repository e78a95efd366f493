"""Uploads that are accepted: what is recorded, and what is looked at again."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from buildmaster import archives, builds, files, repositories, uploaders, uploads
from buildmaster.farm import Farm
from buildmaster.scoring import ArchivePurpose, Pocket
from buildmaster.tables import publication, source, stored_file
from buildmaster.tests import gpg
from buildmaster.tests.databases import on_postgresql
from buildmaster.tests.factories import make_farm, make_series
from buildmaster.tests.uploading import Upload, make_archive, tarball
from buildmaster.uploading import acceptance
from buildmaster.uploading.acceptance import Verdict, process
from buildmaster.uploading.arrivals import Folder, Received
from buildmaster.uploading.signatures import read_certificate
from buildmaster.uploading.terms import Terms
from buildmaster.uploads import Place

QUILT = "3.0 (quilt)"


class World:
    """A farm with debian/mine, to which uploads come by a folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.farm: Farm = make_farm(directory)
        self.place: Place = make_archive(self.farm)
        self.count = 0

    def send(self, upload: Upload, terms: Terms = Terms()) -> Verdict:  # noqa: B008 - frozen.
        self.count += 1
        return self.process(upload.write(self.directory / f"upload-{self.count}"), terms)

    def process(self, changes: Path, terms: Terms = Terms()) -> Verdict:  # noqa: B008
        received = Received(changes.name, changes.read_bytes(), Folder(changes.parent))
        return process(self.farm, received, self.place, terms, time.time())

    def recorded(self) -> list[uploads.Uploaded]:
        with self.farm.reading() as connection:
            return uploads.every(connection, 100)

    def sources(self) -> list[tuple[str, str, str]]:
        with self.farm.reading() as connection:
            return [
                (row.name, row.version, row.pocket) for row in connection.execute(select(source).order_by(source.c.id))
            ]

    def left_behind(self) -> list[str]:
        """What is there beside the records of uploads."""
        with self.farm.reading() as connection:
            found = [f"row of {each}" for each in (source, publication) if connection.execute(select(each)).first()]
            known = set(connection.execute(select(stored_file.c.sha256)).scalars())
        found += [f"file {each.sha256}" for each in self.farm.store.files() if each.sha256 not in known]
        spool = self.farm.directory / "uploads"
        return found + [str(path) for path in spool.rglob("*") if not path.is_dir() or path.parent.name == "new"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.farm.close()


def test_an_upload(world: World) -> None:
    """A source that is signed and whole is accepted, published and built, and it is known whose it is."""
    verdict = world.send(Upload(section="contrib/net", urgency="high", distribution="bookworm-updates"))
    assert verdict.faults == () and len(verdict.build_ids) == 1
    with world.farm.reading() as connection:
        row = connection.execute(select(source)).one()
        assert (row.component, row.urgency, row.pocket) == ("contrib", "high", Pocket.UPDATES)
        assert connection.execute(select(publication.c.source_id)).scalar_one() == row.id
        assert builds.find(connection, verdict.build_ids[0]).source_id == row.id
    (said,) = world.recorded()
    assert (said.source, said.faults, said.uploader) == ("hello 1.0", (), "uploader <uploader@example.org>")
    assert (said.distribution, said.archive, said.name) == ("debian", "mine", "hello_1.0_source.changes")
    assert list((world.farm.directory / "uploads" / "new").iterdir()) == []


def test_the_same_again(world: World) -> None:
    """A .changes is accepted once; the same version, with the same or another content, not again. That the very same
    one came again is answered, and not written down: anybody may have sent it."""
    changes = Upload().write(world.directory / "first")
    assert world.process(changes).accepted
    assert world.process(changes).faults == (f"{changes.name} was accepted before, as it is: there is nothing to do",)
    other = world.send(Upload(files={"hello_1.0.tar.xz": tarball(("other", b"content"))}))
    assert other.faults == ("another hello 1.0 is in debian/mine: give yours a new version",)
    assert world.sources() == [("hello", "1.0", "RELEASE")]
    assert [each.faults == () for each in world.recorded()] == [False, True]


@pytest.mark.skipif(not on_postgresql(), reason="SQLite has one writer")
def test_the_same_for_two_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two archives that are sent the same upload at the same moment one accepts it, whatever distribution they are
    of: both have looked before either has written it down."""
    make_series(world.farm, "ours", "bookworm")
    with world.farm.transaction() as connection:
        other_id = archives.add(connection, "ours", "mine", ArchivePurpose.PPA)
        repositories.add(connection, other_id, 100.0)
        certificate = read_certificate(gpg.shared().certificate("uploader"), 1_700_000_000.0)
        uploaders.add(connection, other_id, certificate, 100.0)
        other = uploads.find_place(connection, "ours", "mine")
    assert other is not None
    both, check = threading.Barrier(2), acceptance._check_again

    def checked(*arguments: Any) -> None:
        both.wait(10)
        check(*arguments)
        time.sleep(0.5)

    monkeypatch.setattr(acceptance, "_check_again", checked)
    changes = Upload().write(world.directory / "upload")
    received = Received(changes.name, changes.read_bytes(), Folder(changes.parent))
    for path in changes.parent.iterdir():  # Or one would wait until the other has written the rows of these files.
        world.farm.write(files.keep, world.farm.store.add([path.read_bytes()]), time.time())

    def send(place: Place) -> bool:
        return process(world.farm, received, place, Terms(), time.time()).accepted

    with ThreadPoolExecutor() as pool:
        accepted = list(pool.map(send, (world.place, other)))
    assert sorted(accepted) == [False, True]
    assert len(world.sources()) == 1


def test_versions(world: World) -> None:
    """A version must be newer than what is in its suite, and not than what is in others."""
    assert world.send(Upload(version="1:2.0")).accepted
    (fault,) = world.send(Upload(version="3.0")).faults
    assert fault.startswith("hello 3.0 is not newer than 1:2.0, which is in bookworm of debian/mine")
    assert world.send(Upload(version="1:2.0~rc1")).faults
    assert world.send(Upload(version="3.0", distribution="bookworm-backports")).accepted
    assert world.send(Upload(version="1:2.1")).accepted
    assert len(world.sources()) == 3


def test_what_the_archive_has(world: World) -> None:
    """A second revision comes without the upstream tarball, which the archive has; with another one it is refused."""
    orig = {"hello_1.0.orig.tar.xz": tarball(("hello/main.c", b"int main;"))}
    first = {**orig, "hello_1.0-1.debian.tar.xz": tarball(("debian/a", b"1"))}
    assert world.send(Upload(version="1.0-1", files=first, format=QUILT)).accepted
    second = {**orig, "hello_1.0-2.debian.tar.xz": tarball(("debian/a", b"2"))}
    assert world.send(Upload(version="1.0-2", files=second, unsent=[*orig], format=QUILT)).accepted
    third = {"hello_1.0.orig.tar.xz": tarball(("x", b"y")), "hello_1.0-3.debian.tar.xz": tarball(("debian/a", b"3"))}
    for unsent in ([], [*orig]):
        (fault,) = world.send(Upload(version="1.0-3", files=third, unsent=unsent, format=QUILT)).faults
        assert fault.startswith("hello_1.0.orig.tar.xz is in debian/mine with other content")
    (fault,) = world.send(
        Upload(name="other", files={"other_1.0.tar.xz": tarball()}, unsent=["other_1.0.tar.xz"])
    ).faults
    assert fault.startswith("other_1.0.tar.xz is not in debian/mine yet, and did not come")


def test_all_faults_at_once(world: World) -> None:
    """Whoever has to mend an upload learns all of what is wrong with it."""
    upload = Upload(distribution="sid", signer="", changes_fields={"Architecture": "source amd64"})
    upload.more = {"README": b"hi"}
    changes = upload.write(world.directory / "bad")
    (changes.parent / "hello_1.0.tar.xz").write_bytes(b"short")
    verdict = world.process(changes)
    said = "\n".join(verdict.faults)
    assert len(verdict.faults) == 5
    for words in ("is not signed", "has 5 bytes, but", "README belongs to no package", "has no suite 'sid'"):
        assert words in said
    assert world.left_behind() == []
    assert world.recorded()[0].faults == verdict.faults


def test_faults_within_files_as_well(world: World) -> None:
    """What is wrong inside of a tarball is told with the rest, to who has signed; strangers have nothing unpacked."""
    bad = {"hello_1.0.tar.xz": b"no tarball"}
    for signer, faults in (("uploader", 2), ("", 3)):
        said = world.send(Upload(distribution="sid", signer=signer, files=bad, version="1.0")).faults
        assert any("has no suite 'sid'" in each for each in said)
        inside = any(each.startswith("hello_1.0.tar.xz ") for each in said)
        assert (inside, len(said)) == (bool(signer), faults), said


def test_strangers_are_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of refused uploads that nobody known signed, the newest are remembered; what is known stays."""
    monkeypatch.setattr(uploads, "_STRANGERS_KEPT", 2)
    assert world.send(Upload()).accepted
    known = world.send(Upload(distribution="sid"))
    assert not known.accepted and known.uploader
    for number in range(5):
        world.send(Upload(signer="", version=f"2.{number}"))
    assert [each.name for each in world.recorded()] == [
        "hello_2.4_source.changes", "hello_2.3_source.changes", "hello_1.0_source.changes", "hello_1.0_source.changes",
    ]  # fmt: skip


def test_without_a_signature(world: World) -> None:
    """Who may submit sources anyway can vouch for one that is not signed."""
    assert world.send(Upload(signer=""), Terms(signed=False)).accepted


def test_terms(world: World) -> None:
    """An upload that is too large, or unpacks to too much, is refused."""
    assert "more than the 100 that are accepted" in world.send(Upload(), Terms(upload_bytes=100)).faults[0]
    assert "unpacks to more than 100 bytes" in world.send(Upload(), Terms(unpacked_bytes=100)).faults[0]
    assert world.left_behind() == []
