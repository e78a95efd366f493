"""What retry, cancel, enable-builder and disable-builder do, and why they do not."""

from pathlib import Path

from buildmaster.cli.tests.conftest import Cli, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event


def test_cancel(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """What waits is cancelled at once, what runs is cancelling; what has ended, or is not there, says so."""
    for name in ("waits", "runs", "ended"):
        ready("submit", make_source(tmp_path / name, name))
    start(farm, 3)
    end(farm, 3, Event.PACKAGE_FAILED)
    start(farm, 2)
    ended = ready("cancel", 1, 2, 3, 99, status=1)
    assert "build 1: waits 1.0 in bookworm for amd64: cancelled" in ended.out
    assert "build 2: runs 1.0 in bookworm for amd64: cancelling" in ended.out
    assert ended.err.splitlines() == [
        "buildmaster: build 3: it has ended: failed",
        "buildmaster: build 99: there is no such build",
    ]


def test_retry(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """What ended badly goes into the queue again; what is there, or ended well, says so."""
    for name in ("failed", "built", "waits"):
        ready("submit", make_source(tmp_path / name, name))
    start(farm, 1)
    end(farm, 1, Event.PACKAGE_FAILED)
    start(farm, 2)
    end(farm, 2, Event.SUCCEEDED, files={"x.deb": b""})
    document = ready("retry", 1, 1, 2, 3, "--json", status=1).json
    assert [(each["id"], each["state"]) for each in document["changed"]] == [(1, "needs-build")]
    assert [each["id"] for each in document["refused"]] == [2, 3]
    assert "--rebuild" in document["refused"][0]["why"]
    assert ready("retry", 1, status=1).err == "buildmaster: build 1: it is in the queue already\n"


def test_no_such_builder(ready: Cli) -> None:
    """A builder that is not there is named."""
    assert "no builder is called 'nobody'" in ready("enable-builder", "nobody", status=1).err


def test_numbers_only(ready: Cli) -> None:
    """A build is a number from 1 that the database can hold; what is none is told as such, by every command."""
    for command in ("cancel", "retry", "show", "log", "fetch"):
        for word in ("abc", "0", "1_0", "٣", "1.5", str(2**63), "9" * 5000):
            assert f"'{word}' is not a build number" in " ".join(ready(command, word, status=2).err.split())
        ready(command, status=2)
    ready("cancel", str(2**63 - 1), status=1)


def test_a_score_of_what_is_not_in_the_queue(ready: Cli, dsc: Path) -> None:
    """A score sticks to a build that is cancelled, and that is said; what is no score is told as such."""
    ready("submit", dsc)
    ready("cancel", 1)
    assert ready("score", 1, 20).out.endswith(": cancelled, not in the queue; score 20 if it is built again\n")
    ready("retry", 1)
    assert ready("show", 1, "--json").json["score"] == 20
    ready("cancel", 1)
    assert ready("score", 1, "auto").out.endswith("; its usual score if it is built again\n")
    assert "'x' is neither a number nor `auto`" in ready("score", 1, "x", status=2).err
