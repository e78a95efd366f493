"""`buildmaster backup` and `restore`."""

from pathlib import Path

import pytest

from buildmaster.cli.tests.conftest import Cli
from buildmaster.farm import Farm
from buildmaster.tests.factories import write_config


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, about a place for another farm."""
    (tmp_path / "other").mkdir()
    write_config(tmp_path / "other" / "new.conf", empty=True)
    monkeypatch.setenv("BUILDMASTER_CONFIG", str(tmp_path / "other" / "new.conf"))
    return Cli(tmp_path / "other" / "farm")


@pytest.mark.parametrize("name", ["folder", "backup.tar"])
def test_there_and_back(ready: Cli, dsc: Path, tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    """A farm that was copied and restored elsewhere has the same builds and files; how much that is, is told."""
    ready("submit", dsc)
    assert "3 files of" in ready("backup", tmp_path / name).out
    document = ready("backup", tmp_path / name, "--json").json
    assert document["files"] == 3 and document["copied"] == (0 if name == "folder" else 3) and not document["lacking"]
    builds, source = ready("builds", "--json").json, ready("show", 1, "--json").json["source_files"]
    new: Cli = request.getfixturevalue("new")
    ended = new("restore", tmp_path / name)
    assert str(new.directory) in ended.out and "3 files of" in ended.out and f"{new.directory} run" in ended.err
    assert new("builds", "--json").json == builds and new("show", 1, "--json").json["source_files"] == source
    assert "0 missing, 0 damaged, 0 unreferenced" in new("store", "check").out
    assert "a farm in this database already" in new("restore", tmp_path / name, status=1).err


def test_lacking(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """A file that the farm itself lacks is told, with where to learn more, and by the exit status."""
    (listed,) = farm.store.files()
    farm.store.delete(listed.sha256)
    ended = ready("backup", tmp_path / "folder", status=1)
    assert f"not in it: file {listed.sha256}" in ended.out and "store check" in ended.err


def test_damaged(ready: Cli, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A damaged backup is refused in a sentence, and no farm is there."""
    path = tmp_path / "backup.tar"
    ready("backup", path)
    path.write_bytes(path.read_bytes()[:2000])
    new: Cli = request.getfixturevalue("new")
    assert "is no whole backup" in new("restore", path, status=1).err
    assert "there is no farm in" in new("builds", status=1).err and not new.directory.exists()
