"""What is taken of what a build left."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildd.control import ControlError
from buildd.managers.results import plain_directory, read_text, results

CONTENT = b"a package"
MOST = 1 << 20


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A directory with a package and the .changes that names it."""
    (tmp_path / "hello_1_amd64.deb").write_bytes(CONTENT)
    listed = f"{hashlib.sha256(CONTENT).hexdigest()} {len(CONTENT)} hello_1_amd64.deb"
    changes = f"Source: hello\nVersion: 1\nArchitecture: amd64\nChecksums-Sha256:\n {listed}\n"
    (tmp_path / "hello_1_amd64.changes").write_text(changes)
    return tmp_path


def test_what_the_changes_names_is_taken(built: Path) -> None:
    """And the .changes, but nothing else."""
    (built / "hello_1.dsc").touch()
    assert set(results(built, MOST)) == {"hello_1_amd64.deb", "hello_1_amd64.changes"}


@pytest.mark.parametrize("trick", ["missing", "link", "other", "two", "linked changes"])
def test_what_is_not_as_promised_is_not_taken(built: Path, trick: str) -> None:
    """A package is to blame for what its .changes promises: ControlError, whatever is wrong."""
    package, changes = built / "hello_1_amd64.deb", built / "hello_1_amd64.changes"
    match trick:
        case "missing":
            package.unlink()
        case "link":
            package.rename(built / "elsewhere")
            package.symlink_to("elsewhere")
        case "other":
            package.write_bytes(b"b package")
        case "two":
            (built / "hello_1_i386.changes").write_bytes(changes.read_bytes())
        case "linked changes":
            changes.rename(built / "elsewhere")
            changes.symlink_to("elsewhere")
    with pytest.raises(ControlError):
        results(built, MOST)


def test_more_than_a_build_may_write_is_not_read(built: Path) -> None:
    """A file of a terabyte without content is made at once, and would be read for hours."""
    (built / "hello_1_amd64.changes").write_text(
        (built / "hello_1_amd64.changes").read_text().replace(f" {len(CONTENT)} ", f" {1 << 40} ")
    )
    os.truncate(built / "hello_1_amd64.deb", 1 << 40)
    with pytest.raises(ControlError, match="more than a build may write"):
        results(built, MOST)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that whoever is not root may enter as well, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    who = os.geteuid()
    if who == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(who)


@pytest.mark.parametrize("which", ["deb", "changes"])
def test_what_nobody_may_read_is_not_taken(built: Path, public: Path, which: str) -> None:
    """Its mode is what the package made it; the daemon is not root, and not broken by that."""
    for file in built.iterdir():
        shutil.copy(file, public)
    (public / f"hello_1_amd64.{which}").chmod(0)
    with without_privileges(), pytest.raises(ControlError):
        results(public, MOST)


def test_a_directory_that_nobody_may_enter(public: Path) -> None:
    """Root of the build's namespaces can make it that, which is no fault of the daemon's either."""
    (public / "ours/results").mkdir(parents=True)
    (public / "ours").chmod(0)
    with without_privileges(), pytest.raises(ControlError):
        plain_directory(public, "ours", "results")
    (public / "ours").chmod(0o755)
    (public / "ours/results/a.changes").touch()
    (public / "ours/results").chmod(0o644)
    with without_privileges(), pytest.raises(ControlError):
        results(public / "ours/results", MOST)
    (public / "ours/results").chmod(0o755)


@pytest.mark.parametrize("trick", ["missing", "link", "linked parent", "file"])
def test_a_directory_that_a_build_put_something_else_in_place_of(built: Path, trick: str) -> None:
    """Nothing is taken through a link out of the root, however deep."""
    top = built / "top"
    (top / "ours").mkdir(parents=True)
    results = top / "ours/results"
    match trick:
        case "link":
            results.symlink_to(built)
        case "linked parent":
            (top / "ours").rmdir()
            (built / "elsewhere/results").mkdir(parents=True)
            (top / "ours").symlink_to(built / "elsewhere")
        case "file":
            results.touch()
    with pytest.raises(ControlError):
        plain_directory(top, "ours", "results")


def test_a_text_that_is_none(tmp_path: Path) -> None:
    """A fifo, a link and nothing at all are read as nothing, at once; and of much, the beginning."""
    text = tmp_path / "text"
    assert read_text(text, 3) == ""
    text.write_bytes(b"abc\xff")
    assert read_text(text, 3) == "abc"
    (tmp_path / "link").symlink_to(text)
    os.mkfifo(tmp_path / "fifo")
    assert [read_text(tmp_path / name, 3) for name in ("link", "fifo", ".")] == ["", "", ""]
