"""Archives on the disk, as readers find them."""

import os
import shutil
from pathlib import Path

import pytest

from buildmaster.archive_tree import NotThere, newest, open_file, parse_path

NOW = 1795348800.0  # 2026-11-22 12:00 UTC.


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive as the publisher leaves it: suites are links into a folder that is nobody's business."""
    archive = tmp_path / "archives/debian/mine"
    for generation in ("1", "2"):
        folder = archive / ".state" / generation
        (folder / "main").mkdir(parents=True)
        (folder / "InRelease").write_text(f"release {generation}")
        (folder / "main/Packages").write_text(f"packages {generation}")
    (archive / "dists").mkdir()
    (archive / "dists/bookworm").symlink_to("../.state/1")
    (archive / "pool/main").mkdir(parents=True)
    (archive / "pool/main/hello.deb").write_bytes(b"hello")
    for name in ("20261120T120000Z", "20261122T080000Z"):
        (archive / "snapshot" / name / "dists/bookworm").mkdir(parents=True)
        (archive / "snapshot" / name / "dists/bookworm/InRelease").write_text(f"as of {name}")
    return archive


def read(archive: Path, path: str) -> str:
    opened = open_file(archive, parse_path([word.encode() for word in path.split("/")]), NOW)
    with opened.stream:
        content = opened.stream.read().decode()
    assert opened.file.size == len(content)
    return content


def test_files(archive: Path) -> None:
    """Files are found, also through the link that a suite is."""
    assert read(archive, "pool/main/hello.deb") == "hello"
    assert read(archive, "dists/bookworm/main/Packages") == "packages 1"


def test_a_publication_in_between(archive: Path) -> None:
    """A file that is open stays what it was, whatever is published then."""
    opened = open_file(archive, ["dists", "bookworm", "InRelease"], NOW)
    (archive / "dists/new").symlink_to("../.state/2")
    (archive / "dists/new").replace(archive / "dists/bookworm")
    with opened.stream:
        assert opened.stream.read() == b"release 1"
    assert read(archive, "dists/bookworm/InRelease") == "release 2"


@pytest.mark.parametrize(
    "path",
    [
        "dists", "pool/main", "dists/bookworm", "nothing", "pool/main/hello.deb/x", ".state/1/InRelease",
        "pool/../pool/main/hello.deb", "pool/./main/hello.deb", "dists//bookworm", "a\\b", "dists/\x00", "a" * 300,
        "snapshot", "snapshot/20261122T080000Z", "snapshot/nonsense/dists/bookworm/InRelease",
    ],
)  # fmt: skip
def test_what_is_no_file(archive: Path, path: str) -> None:
    """Folders, what is hidden, and what is no path of plain names, is not there."""
    with pytest.raises(NotThere):
        read(archive, path)


def test_no_way_out(archive: Path) -> None:
    """A link that leads out of an archive leads nowhere, be it to the archive next door; so does a ring of links."""
    (archive.parent / "secret").mkdir()
    (archive.parent / "secret/InRelease").write_text("private")
    (archive / "dists/out").symlink_to("../../secret")
    (archive / "dists/far").symlink_to("/etc")
    (archive / "dists/ring").symlink_to("ring")
    for path in ("dists/out/InRelease", "dists/far/passwd", "dists/ring/InRelease", "dists/ring"):
        with pytest.raises(NotThere):
            read(archive, path)


def test_snapshots(archive: Path) -> None:
    """Any time is that of the newest snapshot that was there then."""
    assert read(archive, "snapshot/20261120T120000Z/dists/bookworm/InRelease") == "as of 20261120T120000Z"
    assert read(archive, "snapshot/20261122T075959Z/dists/bookworm/InRelease") == "as of 20261120T120000Z"
    assert read(archive, "snapshot/20261122T10/dists/bookworm/InRelease") == "as of 20261122T080000Z"
    for early_or_late in ("20261120T115959Z", "20261122T120000Z", "20991231"):
        with pytest.raises(NotThere):
            read(archive, f"snapshot/{early_or_late}/dists/bookworm/InRelease")


def test_a_suite_that_is_published_while_it_is_looked_for(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is gone by the time that it is opened was replaced, and the new one is there."""
    opening = os.open

    def slow(path: Path, flags: int) -> int:
        monkeypatch.setattr(os, "open", opening)
        (archive / "dists/new").symlink_to("../.state/2")
        (archive / "dists/new").replace(archive / "dists/bookworm")
        shutil.rmtree(archive / ".state/1")
        return opening(path, flags)

    monkeypatch.setattr(os, "open", slow)
    assert read(archive, "dists/bookworm/InRelease") == "release 2"


def test_times() -> None:
    """What is left out of a time is 0."""
    names = ["20261122T080000Z", "20261122T000000Z", "unfinished", "20261121T235959Z"]
    assert newest(names, "20261122", NOW) == "20261122T000000Z"
    assert newest(names, "20261122T08", NOW) == newest(names, "20261122T0800Z", NOW) == "20261122T080000Z"
    assert newest(names, "20261122T0759", NOW) == "20261122T000000Z"
    for bad in ("", "2026", "20261122T", "20261122T0", "20261122 080000", "٢٠٢٦١١٢٢"):
        with pytest.raises(NotThere):
            newest(names, bad, NOW)


def test_segments() -> None:
    """Only names of files come off the wire."""
    assert parse_path([b"pool", b"libc++_1%3a2.0+b1.deb"]) == ["pool", "libc++_1%3a2.0+b1.deb"]
    for bad in (b"", b".", b"..", b".state", b"a/b", b"a\\b", b"\xff", b"a\nb", b"\0"):
        with pytest.raises(NotThere):
            parse_path([b"pool", bad])
