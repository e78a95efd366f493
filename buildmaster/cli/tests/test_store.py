"""`buildmaster store check`."""

import time
from types import SimpleNamespace

import pytest

from buildmaster.cli.output import Output
from buildmaster.cli.progress import Progress
from buildmaster.cli.tests.conftest import Cli
from buildmaster.farm import Farm


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is called a day after all that the test did."""
    monkeypatch.setattr("buildmaster.cli.store.time", SimpleNamespace(time=lambda: time.time() + 86400))


@pytest.fixture
def chroot_sha256(farm: Farm) -> str:
    (listed,) = farm.store.files()
    return listed.sha256


def test_all_is_well(ready: Cli) -> None:
    """A good store is said to be one, in one line."""
    ended = ready("store", "check")
    out = ended.out
    assert ended.err == ""
    assert out.startswith("1 file of ") and out.endswith(": 0 missing, 0 damaged, 0 unreferenced\n")
    document = ready("store", "check", "--quick", "--json").json
    assert document["files"] == 1 and document["findings"] == []


def test_missing(ready: Cli, farm: Farm, chroot_sha256: str) -> None:
    """A missing file is told with what needs it, and the exit status says so too."""
    (listed,) = farm.store.files()
    farm.store.delete(listed.sha256)
    out = ready("store", "check", status=1).out
    assert "missing" in out and chroot_sha256 in out and "a chroot of bookworm amd64" in out
    (finding,) = ready("store", "check", "--json", status=1).json["findings"]
    assert finding == {
        "wrong": "missing",
        "sha256": chroot_sha256,
        "size": listed.size,
        "why": "",
        "used_by": ["a chroot of bookworm amd64"],
        "deleted": False,
    }


@pytest.mark.usefixtures("tomorrow")
def test_unreferenced(ready: Cli, farm: Farm) -> None:
    """What nobody needs is told, which is no failure; and deleted when that is asked for."""
    stored = farm.store.add([b"refused"])
    ended = ready("store", "check")
    assert stored.sha256 in ended.out and "--delete-unreferenced deletes" in ended.err
    assert ready("store", "check", "--older-than", "2d").out.count(stored.sha256) == 0
    assert farm.store.has(stored.sha256)
    assert "deleted" in ready("store", "check", "--delete-unreferenced").out
    assert not farm.store.has(stored.sha256)
    assert "0 unreferenced" in ready("store", "check").out


@pytest.mark.parametrize("age", ["59m", "soon", "0"])
def test_younger_than_an_hour(ready: Cli, age: str) -> None:
    """What is younger than an hour is not to be had; nor is what is no duration."""
    assert "--older-than" in ready("store", "check", "--older-than", age, status=2).err


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long is told as it goes; nothing is said with -q, nor about what takes no time."""
    clock = iter([0.0, 10.0, 30.0, 30.0, 31.0, 0.0, 90.0])
    monkeypatch.setattr("buildmaster.cli.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Progress(Output(), "looking") as progress:
        progress.show(0.1, "1 file")
        progress.show(0.5, "3 files")
        progress.show(0.6, "4 files")
    with Progress(Output(quiet=True), "looking") as progress:
        progress.show(0.5, "3 files")
    assert capsys.readouterr().err == "looking: 50%, 3 files\n"
