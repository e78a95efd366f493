"""Tests of the check of what a build made."""

import hashlib
from pathlib import Path

import pytest

from tools.results import BadResults, Results, check_results


def _described(folder: Path, name: str, *files: Path) -> Path:
    rows = [f" {hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_size} {file.name}" for file in files]
    path = folder / name
    path.write_text("\n".join(["Format: 1.8", "Checksums-Sha256:", *rows, ""]))
    return path


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """What the build of a package with one .deb makes."""
    deb = tmp_path / "a_1_amd64.deb"
    deb.write_bytes(b"package")
    buildinfo = _described(tmp_path, "a_1_amd64.buildinfo", deb)
    changes = _described(tmp_path, "a_1_amd64.changes", deb, buildinfo)
    log = tmp_path / "log.txt"
    log.write_text("Build-Time: 3\n" + "x\n" * 50_000 + "Build-Time: 17\nStatus: successful\n")
    return Results((changes, deb, buildinfo), log)


def test_right(results: Results) -> None:
    """Files that are what .changes and .buildinfo say are counted."""
    assert check_results(results) == 3


def test_damaged(results: Results, tmp_path: Path) -> None:
    """A file of other content, though of the same size, is named, with each file that says otherwise."""
    (tmp_path / "a_1_amd64.deb").write_bytes(b"Package")
    with pytest.raises(BadResults) as caught:
        check_results(results)
    assert str(caught.value).splitlines() == [
        "a_1_amd64.deb: its content is not what a_1_amd64.changes says",
        "a_1_amd64.deb: its content is not what a_1_amd64.buildinfo says",
    ]


def test_missing(results: Results) -> None:
    """A file that .changes names and that is not there is a mistake."""
    with pytest.raises(BadResults, match=r"a_1_amd64.buildinfo: .* it is not there"):
        check_results(Results(results.files[:2], None))


def test_unnamed(results: Results, tmp_path: Path) -> None:
    """A file that .changes does not name is a mistake."""
    (tmp_path / "other.deb").write_bytes(b"")
    with pytest.raises(BadResults, match=r"other.deb: a_1_amd64.changes does not name it"):
        check_results(Results((*results.files, tmp_path / "other.deb"), None))


def test_nothing() -> None:
    """No files at all are no results."""
    with pytest.raises(BadResults, match="nothing"):
        check_results(Results((), None))


def test_times_and_order(results: Results) -> None:
    """The compile's time is what sbuild's summary says, at the end of the log; packages are shown first."""
    assert results.compile_s() == 17
    assert [path.suffix for path in results.shown] == [".deb", ".changes", ".buildinfo", ".txt"]
