"""Copying what a build made out of the farm; showing all about it."""

from pathlib import Path

import pytest

from buildd.protocol import FileName
from buildmaster import builds
from buildmaster.cli.tests.conftest import Cli, end, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.tests import stores
from buildmaster.tests.stores import spoil

FILES = {"hello_1.0_amd64.deb": b"a package", "hello_1.0_amd64.changes": b"changes"}


@pytest.fixture
def built(ready: Cli, farm: Farm, dsc: Path) -> Farm:
    """The farm after build 1 ended well."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED, files=FILES, log=b"it went well\n")
    return farm


def test_fetch(ready: Cli, built: Farm, tmp_path: Path) -> None:
    """Results and the log, unpacked, are copied to a directory that is made; doing it again is harmless."""
    target = tmp_path / "made" / "here"
    out = ready("fetch", 1, "--to", target).out
    log = target / "buildlog_debian-bookworm-amd64.hello_1.0_BUILT.txt"
    signed = target / "hello_1.0_amd64.provenance.json"
    copied = {path.name: path.read_bytes() for path in target.iterdir()}
    assert copied.pop(signed.name).decode() == ready("provenance", "statement", 1).out
    assert copied == FILES | {log.name: b"it went well\n"}
    assert out.splitlines() == [*(str(target / name) for name in sorted(FILES)), str(signed), str(log)]
    document = ready("fetch", 1, "--to", target, "--json").json
    assert (document["log"], document["provenance"]) == (str(log), str(signed))
    assert [each["path"] for each in document["files"]] == [str(target / name) for name in sorted(FILES)]


def test_fetch_of_damaged_file(ready: Cli, built: Farm, tmp_path: Path) -> None:
    """A file that is no longer what its digest says is refused by name, and leaves nothing."""
    spoil(built.store, built.store.add([FILES["hello_1.0_amd64.deb"]]).sha256, b"A package")
    assert "hello_1.0_amd64.deb is damaged" in ready("fetch", 1, "--to", tmp_path / "to", status=1).err
    assert {each.name for each in (tmp_path / "to").iterdir()} == {"hello_1.0_amd64.changes"}


def test_fetch_never_leaves_its_directory(ready: Cli, built: Farm, tmp_path: Path) -> None:
    """A name that would lead elsewhere is refused even if it got into the database."""
    stored = built.store.add([b"evil"])
    with built.transaction() as connection:
        builds.keep_results(connection, 1, {FileName("../evil"): stored}, 0.0)
    assert "one plain path segment" in ready("fetch", 1, "--to", tmp_path / "to", status=1).err
    assert not (tmp_path / "evil").exists()


def test_fetch_where_nothing_can_be_signed(ready: Cli, built: Farm, tmp_path: Path) -> None:
    """Without the farm's key there is no statement, which is said, and all else."""
    ready("provenance", "key")
    for secret in (built.directory / "secrets").glob("provenance-*"):
        secret.unlink()
    ended = ready("fetch", 1, "--to", tmp_path / "to")
    assert "There is no statement of provenance" in ended.err
    assert len(ended.out.splitlines()) == 3


def test_fetch_of_nothing(ready: Cli, dsc: Path) -> None:
    """A build that has made nothing yet says how it stands."""
    ready("submit", dsc)
    assert "build 1 has no files: it is needs-build" in ready("fetch", 1, status=1).err
    assert "there is no build 2" in ready("fetch", 2, status=1).err


def test_fetch_of_a_failed_build(ready: Cli, farm: Farm, dsc: Path, tmp_path: Path) -> None:
    """Of a build that failed, the log is what there is."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.PACKAGE_FAILED, log=b"it went wrong\n")
    (line,) = ready("fetch", 1, "--to", tmp_path / "to").out.splitlines()
    assert line.endswith("hello_1.0_FAILED.txt")
    assert Path(line).read_bytes() == b"it went wrong\n"


def test_fetch_of_what_was_refused(ready: Cli, farm: Farm, dsc: Path, tmp_path: Path) -> None:
    """Results that were refused can be looked at, and nobody is left to think that they are good."""
    ready("submit", dsc)
    start(farm, 1)
    with farm.transaction() as connection:
        builds.record(connection, 1, Event.SUCCEEDED, 0.0)
        builds.keep_results(connection, 1, {FileName("odd.deb"): farm.store.add([b"odd"])}, 0.0)
        builds.record(connection, 1, Event.RESULTS_REFUSED, 0.0, reason="odd.deb is of nobody")
    assert "Refused:" in ready("show", 1).out
    ended = ready("fetch", 1, "--to", tmp_path / "to")
    assert "refused: odd.deb is of nobody" in ended.err
    assert (tmp_path / "to" / "odd.deb").read_bytes() == b"odd"


def test_show(ready: Cli, built: Farm) -> None:
    """Everything about a build, with its files and where its log is."""
    document = ready("show", 1, "--json").json
    assert (document["state"], document["builder"], document["source"]) == ("built", "local", "hello")
    assert [each["name"] for each in document["results"]] == sorted(FILES)
    assert [each["name"] for each in document["source_files"]] == ["hello_1.0.dsc", "hello_1.0.tar.xz"]
    if stores.STORE == "local":
        assert Path(document["log_path"]).is_file()
    assert document["finished"].endswith("Z")
    out = ready("show", 1).out
    for each in document["results"]:
        assert each["name"] in out
        assert each["sha256"] in out
    assert document["log_path"] is None or document["log_path"] in out


def test_show_what_waits(ready: Cli, dsc: Path) -> None:
    """Of a build that waits, what keeps it."""
    ready("submit", dsc)
    assert "no builder for amd64" in ready("show", 1).out
    assert ready("show", 1, "--json").json["waits_for"] == "no builder for amd64"
