"""What docs/cli.md promises."""

import re
from pathlib import Path

from buildmaster import masters
from buildmaster.cli import COMMANDS
from buildmaster.cli.archive import COMMANDS as ARCHIVE_COMMANDS
from buildmaster.cli.tests.conftest import Cli, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, Event
from buildmaster.tests.gpg import Keys

MANUAL = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def keys_in(value: object) -> set[str]:
    """Every key in a document, at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys_in(inner)}
    return {key for inner in value for key in keys_in(inner)} if isinstance(value, list) else set()


def test_every_key_is_documented(ready: Cli, farm: Farm, dsc: Path, tmp_path: Path) -> None:
    """Each key of each document that a command prints stands in the manual; each command does, too."""
    documents = [ready("init", "--json").json, ready("submit", dsc, "--json").json]
    documents += [
        ready("queue", "--json").json,
        ready("why", 1, "--json").json,
        ready("when", 1, "--json").json,
        ready("when", "--past", "--json").json,
        ready("add-chroot", "bookworm", "amd64", "chroot.tar.gz", "--json").json,
    ]
    start(farm, 1)
    with farm.transaction() as connection:
        masters.join(connection, "east:4711", 5.0)
    documents += [
        ready("builders", "--json").json,
        ready("masters", "--json").json,
        ready("cancel", 1, 9, "--json", status=1).json,
    ]
    end(farm, 1, Event.ABORTED)
    ready("retry", 1)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED, files={"hello.deb": b"deb"})
    documents += [ready(*words, "--json").json for words in (("builds",), ("show", 1), ("log", 1))]
    documents.append(ready("fetch", 1, "--to", tmp_path / "to", "--json").json)
    documents.append(ready("backup", tmp_path / "backup", "--json").json)
    for listed in list(farm.store.files()):
        farm.store.delete(listed.sha256)
    documents.append(ready("store", "check", "--json", status=1).json)
    must_be_there(documents)
    for command in COMMANDS:
        assert re.search(rf"\*\*{command}\b", MANUAL), command
    for state in BuildState:
        assert state.value in MANUAL


def must_be_there(documents: list[object]) -> None:
    words = set(re.findall(r"`([a-z0-9_]+)`", MANUAL))
    assert keys_in(documents) - words == set()


def test_every_key_about_archives(ready: Cli, tmp_path: Path) -> None:
    """The same of the commands of the group `archive`, and of what is about uploads."""
    dsc, certificate = make_source(tmp_path), tmp_path / "ada.asc"
    certificate.write_bytes(Keys().make("ada"))
    calls: list[tuple[object, ...]] = [
        ("create", "stable"),
        ("change", "mine", "--hold"),
        ("list",),
        ("depends", "mine", "--on", "stable"),
        ("uploader", "add", "mine", certificate),
        ("uploader", "list", "mine"),
        ("access", "add", "mine", "ada"),
        ("access", "list", "mine"),
        ("adopt", "mine"),
        ("hold", "mine", "other", "--off"),
        ("release", "mine", "hello", "--without", "armhf"),
        ("release", "mine", "hello"),
        ("packages", "mine"),
        ("publish", "mine"),
        ("copy", "mine", "hello", "--to-archive", "stable"),
        ("promote", "stable", "hello", "--to", "bookworm-updates"),
        ("delete", "stable", "hello"),
        ("clean", "mine"),
        ("snapshot", "take", "mine"),
        ("snapshot", "list", "mine"),
        ("key", "rotate", "mine"),
        ("key", "show", "mine"),
        ("key", "export", "mine"),
    ]
    ready("archive", "create", "mine", "--hold")
    ready("submit", dsc, "--archive", "mine")
    must_be_there([ready("archive", *words, "--json").json for words in calls])
    words = ("archive", "import", "mine", "--suite", "bookworm", dsc, "--json")
    must_be_there([ready(*words, status=1).json])  # It is there.
    must_be_there([ready(*words, "--json").json for words in (("uploads",), ("archives",), ("provenance", "key"))])
    for command in ARCHIVE_COMMANDS:
        assert re.search(rf"\*\*archive\s+{command}\b", MANUAL), command
