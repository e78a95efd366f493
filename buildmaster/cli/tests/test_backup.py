"""`buildmaster backup` and `restore`."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from buildmaster.cli.tests.conftest import Cli
from buildmaster.cli.tests.test_archive import submitted
from buildmaster.farm import Farm
from buildmaster.tests import stores
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


def published(cli: Cli, tmp_path: Path, farm: Farm) -> str:
    """A farm that has published an archive. What it is verified by."""
    cli("archive", "create", "mine")
    submitted(cli, tmp_path / "1", farm)
    cli("archive", "publish", "mine")
    return str(cli("archive", "key", "export", "mine").out)


def secrets_of(cli: Cli) -> Path:
    """Where a farm's secrets are: those for a store elsewhere are beside the farm's directory, in tests."""
    return (cli.directory if stores.IN_A_FOLDER else cli.directory.parent) / "secrets"


def verify(cli: Cli, tmp_path: Path, certificate: str) -> bool:
    """Whether what the archive publishes now is signed by that key."""
    cli("archive", "publish", "mine", "--full")
    (tmp_path / "key.asc").write_text(certificate)
    subprocess.run(
        ["gpg", "--batch", "--yes", "--dearmor", "--output", tmp_path / "key.gpg", tmp_path / "key.asc"], check=True
    )
    release = cli.directory / "archives" / "debian" / "mine" / "dists" / "bookworm" / "InRelease"
    return subprocess.run(["gpgv", "--keyring", tmp_path / "key.gpg", release], check=False).returncode == 0


@pytest.mark.skipif(not (shutil.which("gpgv") and shutil.which("gpg")), reason="gpg and gpgv are not installed")
@pytest.mark.parametrize("name", ["folder", "backup.tar"])
def test_with_secrets(ready: Cli, farm: Farm, tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    """What is published after that is signed by the same key."""
    certificate = published(ready, tmp_path, farm)
    said = ready("backup", tmp_path / name, "--with-secrets").out
    assert "whoever reads it is this farm" in said
    for each in [tmp_path / name, *(tmp_path / name).glob("secrets*")]:
        assert each.stat().st_mode & 0o077 == 0
    new: Cli = request.getfixturevalue("new")
    assert "missing" not in new("restore", tmp_path / name).out
    for each in secrets_of(new).iterdir():
        assert each.stat().st_mode & 0o777 == 0o600
    assert verify(new, tmp_path, certificate)


@pytest.mark.skipif(not (shutil.which("gpgv") and shutil.which("gpg")), reason="gpg and gpgv are not installed")
def test_without_secrets(ready: Cli, farm: Farm, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """It is said which files to keep elsewhere, and which are missing; once they are there the key is the same."""
    certificate = published(ready, tmp_path, farm)
    ended = ready("backup", tmp_path / "folder", "--json").json
    (kept,) = map(Path, ended["needed_secrets"])
    assert f"{kept}: signs archive debian/mine" in ready("backup", tmp_path / "folder").out
    secret = kept.read_text().strip()
    assert not any(secret.encode() in each.read_bytes() for each in (tmp_path / "folder").rglob("*") if each.is_file())
    new: Cli = request.getfixturevalue("new")
    ended = new("restore", tmp_path / "folder")
    lacks = secrets_of(new) / kept.name
    assert f"missing: {lacks}, which signs archive debian/mine" in ended.out and "before a master runs" in ended.err
    assert "is not there" in new("archive", "publish", "mine", status=1).err
    lacks.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(kept, lacks)
    assert verify(new, tmp_path, certificate)


def test_snapshots(ready: Cli, farm: Farm, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """They are in no backup, and not listed after it; but those that were copied by hand are."""
    published(ready, tmp_path, farm)
    names = [ready("archive", "snapshot", "take", "mine", "--json").json["snapshot"]]
    while len(names) < 2:
        name = ready("archive", "snapshot", "take", "mine", "--json").json["snapshot"]
        names += [name] if name not in names else []
    ready("backup", tmp_path / "folder")
    new: Cli = request.getfixturevalue("new")
    place = Path("archives") / "debian" / "mine" / "snapshot" / names[1]
    shutil.copytree(ready.directory / place, new.directory / place)
    assert f"they are forgotten: {names[0]} of debian/mine" in new("restore", tmp_path / "folder").out
    listed = new("archive", "snapshot", "list", "mine", "--json").json["snapshots"]
    assert [each["snapshot"] for each in listed] == names[1:]


@pytest.mark.parametrize("mode", [0o750, 0o755])
def test_secrets_where_others_read(ready: Cli, farm: Farm, tmp_path: Path, mode: int) -> None:
    """They are not written there."""
    ready("archive", "create", "mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder").chmod(mode)
    assert "others may read" in ready("backup", tmp_path / "folder", "--with-secrets", status=1).err
    assert not list((tmp_path / "folder").glob("secrets*"))
    ready("backup", tmp_path / "folder")


def test_damaged_secrets(ready: Cli, farm: Farm, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The backup is refused, and no farm is there."""
    ready("archive", "create", "mine")
    ready("backup", tmp_path / "folder", "--with-secrets")
    path = tmp_path / "folder" / "secrets.json"
    good = path.read_text()
    new: Cli = request.getfixturevalue("new")
    for bad in ("", good[:-5], '{"../x": "y"}', '["x"]', '{"x": "a\\nb"}', '{"x": 1}', "[" * 100_000):
        path.write_text(bad)
        assert "secrets.json in" in new("restore", tmp_path / "folder", status=1).err, bad[:20]
        assert not new.directory.exists()


def test_another_secret_is_there(ready: Cli, farm: Farm, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """It stays, and that is said."""
    ready("archive", "create", "mine")
    ready("backup", tmp_path / "folder", "--with-secrets")
    names = json.loads((tmp_path / "folder" / "secrets.json").read_text())
    (secret,) = [name for name in names if name.startswith("archive-key-")]
    new: Cli = request.getfixturevalue("new")
    there = secrets_of(new) / secret
    there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    there.write_text("other\n")
    there.chmod(0o600)
    assert f"not brought: {there}" in new("restore", tmp_path / "folder").out
    assert there.read_text() == "other\n"
