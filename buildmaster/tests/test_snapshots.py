"""Archives as they were."""

from pathlib import Path

import pytest

from buildmaster.indices.records import put, take_out
from buildmaster.publishing import snapshots
from buildmaster.publishing.pool import PoolFile
from buildmaster.publishing.snapshots import remove_snapshot, take_snapshot
from buildmaster.publishing.tree import Keep
from buildmaster.tests.archive_case import PACKAGES, Apt, Archive, Client, package, tree_of

NAME = "20261122T120000Z"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """One with the package hello, and its file."""
    archive = Archive(tmp_path / "archive", keep=Keep(0, 0))
    record, file = package("hello", content=b"a .deb")
    (tmp_path / "hello").write_bytes(b"a .deb")
    archive.pool.place([PoolFile(file.path, file.size, file.sha256, tmp_path / "hello")])
    archive.publish(put(PACKAGES, [record]))
    return archive


def test_a_snapshot_stays(archive: Archive, tmp_path: Path) -> None:
    """A snapshot is an archive of its own, which nothing changes: apt reads it, and fetches a package that is gone."""
    take_snapshot(archive.directory, NAME)
    before = list(tree_of(archive.directory / "snapshot"))
    archive.publish(take_out(PACKAGES, [b"hello 1 amd64"]))
    archive.pool.retire(["pool/main/h/hello/hello_1_amd64.deb"], 1.0)
    assert archive.pool.sweep(2.0)
    for number in range(5):
        archive.add(f"package{number}")
    take_snapshot(archive.directory, NAME)
    assert list(tree_of(archive.directory / "snapshot")) == before
    Client(archive.directory / "snapshot" / NAME / "dists/bookworm").check()
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}/snapshot/{NAME}", "bookworm")
    apt.update()
    assert apt.packages() == ["hello"]
    apt.run("apt-get", "download", "hello")
    assert (tmp_path / "apt/hello_1_amd64.deb").read_bytes() == b"a .deb"


def test_a_snapshot_of_nothing(tmp_path: Path) -> None:
    """An archive in which nothing was published has a snapshot that is empty."""
    take_snapshot(tmp_path, NAME)
    assert list(tree_of(tmp_path / "snapshot")) == []


def test_all_or_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full there is no snapshot; later there is one."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "_link_all", full)
        with pytest.raises(OSError, match="space"):
            take_snapshot(archive.directory, NAME)
    assert not (archive.directory / "snapshot").exists()
    take_snapshot(archive.directory, NAME)
    assert (archive.directory / "snapshot" / NAME / "pool/main/h/hello/hello_1_amd64.deb").exists()
    assert list(tree_of(archive.directory / ".state/snapshots")) == []


def test_what_a_dead_one_left(archive: Archive) -> None:
    """What somebody left who died goes with the next snapshot that is taken or removed, whatever its name."""
    left = archive.directory / ".state/snapshots/20251122T120000Z/pool"
    for act in (take_snapshot, remove_snapshot):
        left.mkdir(parents=True)
        act(archive.directory, NAME)
        assert not left.exists()


def test_removed(archive: Archive) -> None:
    """A snapshot is removed, twice harmlessly; the archive does not mind."""
    take_snapshot(archive.directory, NAME)
    for _ in range(2):
        remove_snapshot(archive.directory, NAME)
        assert list(tree_of(archive.directory / "snapshot")) == []
    Client(archive.dists).check()
    assert (archive.directory / "pool/main/h/hello/hello_1_amd64.deb").exists()


@pytest.mark.parametrize("name", ["", "..", "x", "20261122T120000Z/..", "20261122T120000Z\n"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    """Only a time is a name."""
    for verb in (take_snapshot, remove_snapshot):
        with pytest.raises(ValueError, match="snapshot"):
            verb(tmp_path, name)
