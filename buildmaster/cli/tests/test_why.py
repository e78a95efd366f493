"""What `why` says, on a real farm."""

import time
from pathlib import Path

import pytest

from buildmaster import builders, builds, packages
from buildmaster.builders import Cleanliness
from buildmaster.cli.tests.conftest import Cli, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.scoring import ArchivePurpose
from buildmaster.tables import archive


@pytest.fixture(autouse=True)
def master_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a master ran."""
    monkeypatch.setattr("buildmaster.cli.why.somebody_runs", lambda *_: True)


def codes(cli: Cli, build_id: int) -> list[str]:
    return [each["code"] for each in cli("why", build_id, "--json").json["reasons"]]


def only(cli: Cli, build_id: int) -> tuple[str, str, str]:
    """Code, why and change of the one reason."""
    (reason,) = cli("why", build_id, "--json").json["reasons"]
    return reason["code"], reason["why"], reason["change"]


def set_builder(farm: Farm, name: str, cleanliness: Cleanliness) -> None:
    with farm.transaction() as connection:
        builders.set_cleanliness(connection, builders.find(connection, name).id, cleanliness)


def test_builders_that_cannot(ready: Cli, farm: Farm, dsc: Path) -> None:
    """No builder, a disabled one, one in manual mode, one that is cleaned, and one that is idle: each with what would
    change it."""
    ready("submit", dsc)
    assert only(ready, 1) == ("no-builder", "no builder for amd64", "`buildmaster add-builder URL` adds one.")
    ready("add-builder", "http://local:8221/", "--offline", "--architecture", "amd64")
    assert only(ready, 1)[0] == "cleaning" and "local" in only(ready, 1)[2]
    ready("disable-builder", "local", "--reason", "new disk")
    assert only(ready, 1)[0] == "disabled" and "local (new disk)" in only(ready, 1)[2]
    ready("enable-builder", "local")
    ready("change-builder", "local", "--manual")
    assert only(ready, 1)[0] == "manual"
    ready("change-builder", "local", "--automatic", "--restricted-tag", "gpu")
    assert only(ready, 1)[0] == "kept"
    ready("change-builder", "local", "--no-tags")
    set_builder(farm, "local", Cleanliness.CLEAN)
    assert only(ready, 1) == ("next", "starts at the master's next look", "")


def test_no_master(ready: Cli, dsc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no master runs, that comes first."""
    monkeypatch.setattr("buildmaster.cli.why.somebody_runs", lambda *_: False)
    ready("submit", dsc)
    assert codes(ready, 1) == ["no-master", "no-builder"]


def test_what_goes_before_it(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """Builds of a higher band, of higher score, and older ones are counted; and the archives that take turns."""
    for number in range(1, 7):
        ready("submit", make_source(tmp_path / str(number), f"source{number}"))
    start(farm, 6)
    with farm.transaction() as connection:
        builds.set_score(connection, 1, 20_000)
        builds.set_score(connection, 2, 4_000)
        builds.set_score(connection, 3, 4_000)
    told = {each["code"]: each["why"] for each in ready("why", 5, "--json").json["reasons"]}
    assert told == {
        "busy": "every builder for amd64 is busy",
        "higher-band": "1 build of a higher band of scores goes before it",
        "higher-score": "2 builds of higher score in archive primary go before it",
        "older": "1 build of the same score in archive primary, and older, goes before it",
    }
    text = ready("why", 5).out
    assert text.startswith(
        "build 5: source5 1.0 in bookworm for amd64, needs-build\n  Every builder for amd64 is busy. "
    )
    assert codes(ready, 1) == ["busy"]


def test_fair_share(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """An archive that has used more than another waits for it, and that is said."""
    with farm.transaction() as connection:
        values = {"distribution_id": 1, "name": "other", "purpose": ArchivePurpose.PPA}
        connection.execute(archive.insert().values(**values))
    for number in range(1, 4):
        name = "other" if number == 3 else "primary"
        dsc = make_source(tmp_path / str(number), f"source{number}")
        packages.accept(farm, dsc, 1.0, distribution="debian", series_name="bookworm", archive_name=name)
    start(farm, 1)
    share = [each for each in ready("why", 2, "--json").json["reasons"] if each["code"] == "fair-share"]
    assert "takes turns with 1 more, 1 of which have used less builder time, by up to 30 s" in share[0]["why"]
    assert "used less" not in ready("why", 3).out


def test_a_dependency_that_a_build_will_supply(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """A package that is missing is told with the build that will bring it, and where that stands."""
    ready("submit", make_source(tmp_path / "a", "needy"))
    start(farm, 1)
    end(farm, 1, Event.DEPENDENCIES_MISSING)
    with farm.transaction() as connection:
        builds.retry(connection, 1, 1.0)
        builds.record(connection, 1, Event.DEPENDENCIES_MISSING, 2.0, dependencies="libfoo (>= 2), libnever-dev")
    assert codes(ready, 1) == ["dependencies", "dependencies"]
    ready("submit", make_source(tmp_path / "b", "libfoo", "1.9"))
    assert ready("why", 1).out.count("Nothing in the farm") == 2
    ready("submit", make_source(tmp_path / "c", "libfoo", "2.0"))
    lines = ready("why", 1).out.splitlines()
    will = "Build-dependencies: libfoo (>= 2). Build 3 (libfoo 2.0), which is needs-build, will supply that."
    assert lines[1].strip() == will
    assert lines[2].startswith("  Build-dependencies: libnever-dev. Nothing in the farm would supply that")
    start(farm, 3, builder="other")
    end(farm, 3, Event.PACKAGE_FAILED)
    assert "Build 3 (libfoo 2.0) would supply that, and is failed: see `why 3`." in ready("why", 1).out


def test_builds_that_are_not_in_the_queue(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A build that runs, is stopped, or has ended says so."""
    ready("submit", dsc)
    start(farm, 1, stage="unpack chroot")
    assert only(ready, 1) == ("running", "builder local has it: unpack chroot", "")
    ready("cancel", 1)
    assert only(ready, 1)[0] == "cancelling"
    end(farm, 1, Event.ABORTED)
    assert only(ready, 1)[0] == "ended" and "retry" in only(ready, 1)[2]
    ready("retry", 1)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED)
    assert only(ready, 1) == ("built", "it is built", "")
    assert "no build 7" in ready("why", 7, status=1).err


def test_no_chroot(cli: Cli, dsc: Path) -> None:
    """A build that waits for a chroot says which, and how one is given."""
    cli("init", "--distribution", "debian", "--series", "bookworm", "--architecture", "amd64")
    cli("submit", dsc)
    code, why, change = only(cli, 1)
    assert (code, why) == ("chroot", "there is no chroot for debian bookworm amd64")
    assert "add-chroot bookworm amd64 FILE" in change


def test_a_pause(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A build that was given back is left alone for a while, and says how long."""
    ready("submit", dsc)
    start(farm, 1)
    with farm.transaction() as connection:
        builds.record(connection, 1, Event.REQUEUED, time.time(), pause_s=100.0)
    assert codes(ready, 1)[0] == "pause"
    assert "tried again in" in ready("why", 1).out


def test_pages(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """A page of the queue says how many there are, and how to see the next; held builds come after the queue's."""
    for number in range(1, 6):
        ready("submit", make_source(tmp_path / str(number), f"source{number}"))
    start(farm, 2)
    end(farm, 2, Event.DEPENDENCIES_MISSING)
    shown = []
    for after in range(0, 6, 2):
        page = ready("queue", "--limit", 2, "--after", after, "--json").json
        shown += [each["build"]["id"] for each in page["queue"]]
        assert (page["total"], page["more"]) == (5, after < 4)
    assert shown == [1, 3, 4, 5, 2]
    assert "3 more wait; --after 2 shows the next" in ready("queue", "--limit", 2).err
    assert "No more than 5 wait" in ready("queue", "--after", 9).err
