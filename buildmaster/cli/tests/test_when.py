"""What `when` says, on a real farm."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from buildmaster import builders
from buildmaster.builders import Cleanliness
from buildmaster.cli.tests.conftest import Cli, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.tables import build, build_queue


@pytest.fixture(autouse=True)
def somebody_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a master ran."""
    monkeypatch.setattr("buildmaster.cli.when.somebody_runs", lambda *_: True)


def seconds_from_now(document: dict[str, str]) -> tuple[float, float]:
    stamps = [datetime.strptime(document[key], "%Y-%m-%dT%H:%M:%SZ") for key in ("earliest", "latest")]
    earliest, latest = (stamp.replace(tzinfo=UTC).timestamp() - time.time() for stamp in stamps)
    return earliest, latest


def test_next(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A build that an idle builder can have begins at once, and takes about as long as expected."""
    ready("submit", dsc)
    ready("add-builder", "http://local:8221/", "--offline", "--architecture", "amd64")
    with farm.transaction() as connection:
        builders.set_cleanliness(connection, builders.find(connection, "local").id, Cleanliness.CLEAN)
    told = ready("when", 1, "--json").json
    assert told["not_before"] is None
    assert max(map(abs, seconds_from_now(told["begins"]))) < 30
    earliest, latest = seconds_from_now(told["ends"])
    assert -30 < earliest < 60 and 30 < latest < 200  # Expected are 30 s, of a small source.
    assert "  Begins at once.\n  Ends in " in ready("when", 1).out


def test_behind_others(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """A build behind others begins when those have been built, on all builders that can take them."""
    for number in range(1, 12):
        ready("submit", make_source(tmp_path / str(number), f"source{number}"))
    for name, number in (("one", 1), ("two", 2)):
        start(farm, number, builder=name)
    with farm.transaction() as connection:
        connection.execute(update(build_queue).values(expected_s=600.0))
    earliest, latest = seconds_from_now(ready("when", 11, "--json").json["begins"])
    assert 1200 < earliest < 3000 < latest < 7200  # Ten builds of ten minutes, on two builders.
    running = ready("when", 1, "--json").json
    assert running["state"] == "building"
    assert seconds_from_now(running["begins"])[1] < 0
    text = ready("when", 1).out
    assert "Begins" not in text and "Ends in" in text


def test_blocked(ready: Cli, farm: Farm, dsc: Path) -> None:
    """Where something else must happen first, that is said, and no range."""
    ready("submit", dsc)
    told = ready("when", 1, "--json").json
    assert (told["begins"], told["ends"], told["not_before"]["code"]) == (None, None, "no-builder")
    assert "Nobody knows: no builder for amd64. `buildmaster add-builder URL` adds one." in ready("when", 1).out
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED)
    assert "Ended at " in ready("when", 1).out
    assert "no build 9" in ready("when", 9, status=1).err
    ready("when", status=2)
    ready("when", 1, "--past", status=2)


def test_past_answers(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """What was told is compared with what happened: one answer a build, the last one."""
    for number in (1, 2, 3):
        ready("submit", make_source(tmp_path / str(number), f"source{number}"))
    start(farm, 3)
    for number in (1, 2, 1):
        ready("when", number)
    end(farm, 3, Event.SUCCEEDED)
    with farm.transaction() as connection:
        values = {"started_at": time.time() + 40, "finished_at": time.time() + 80, "state": "built"}
        connection.execute(update(build).where(build.c.id == 1).values(**values))
        values = {"started_at": time.time() + 4000}
        connection.execute(update(build).where(build.c.id == 2).values(**values))
    assert ready("when", "--past", "--json").json == {
        "past": {"begun": 2, "begun_within": 1, "ended": 1, "ended_within": 1}
    }
    assert "1 of 2 builds began when that was told" in ready("when", "--past").out


def test_what_builds_took_tells(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """Builds that always take three times what is expected make the next ranges three times as late."""
    ready("submit", make_source(tmp_path / "source"))
    start(farm, 1)
    now = time.time()
    with farm.transaction() as connection:
        row = {"source_id": 1, "series_architecture_id": 1, "state": "built", "created_at": 1.0, "expected_s": 10.0}
        connection.execute(build.insert(), [{**row, "started_at": now - 30, "finished_at": now}] * 120)
        connection.execute(update(build).where(build.c.id == 1).values(expected_s=1000.0))
        connection.execute(update(build_queue).values(expected_s=1000.0))
    earliest, latest = seconds_from_now(ready("when", 1, "--json").json["ends"])
    assert 2950 < earliest < 3010 and 2950 < latest < 3010


def test_no_past_answers(ready: Cli) -> None:
    """Where nobody has asked yet, there is nothing to count."""
    assert ready("when", "--past").out == "No build that `buildmaster when` was asked about has begun since.\n"
