"""Fair share in the database: whose build is next, as builders take and end builds."""

import re
import time
from collections.abc import Iterable, Sequence

import pytest
from sqlalchemy import Connection, event, select

from buildmaster import builders, builds, distributions, packages, queue, shares
from buildmaster.builders import Cleanliness
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.scoring import ArchivePurpose
from buildmaster.tables import archive, archive_account, source
from buildmaster.tests.databases import on_postgresql
from buildmaster.tests.factories import make_builder, make_series, write_source

NOW = 1_000_000.0


@pytest.fixture
def bulk(farm: Farm) -> list[int]:
    """Thirty builds of the primary archive, and a builder that is idle."""
    make_series(farm)
    make_builder(farm)
    return [submit(farm, f"bulk{number}") for number in range(30)]


def add_archive(farm: Farm, name: str, **values: object) -> None:
    with farm.transaction() as connection:
        row = {"distribution_id": 1, "name": name, "purpose": ArchivePurpose.PPA, **values}
        connection.execute(archive.insert().values(**row))


def submit(farm: Farm, name: str, archive_name: str = distributions.PRIMARY, **words: str) -> int:
    dsc = write_source(farm.directory / "sources", name)
    where = {"distribution": "debian", "series_name": "bookworm", "archive_name": archive_name}
    return packages.accept(farm, dsc, time.time(), **where, **words).build_ids[0]  # type: ignore[arg-type]


def candidates(farm: Farm, limit: int = 1, now: float = NOW) -> list[int]:
    with farm.reading() as connection:
        return queue.candidates(connection, builders.find(connection, "x86"), now, limit)


def run(farm: Farm, build_id: int, took_s: float, now: float = NOW) -> None:
    """Let a build begin and end, from now on."""

    def change(connection: Connection) -> None:
        vitals = builders.find(connection, "x86")
        assert builds.claim(connection, build_id, vitals.id, now)
        builds.record(connection, build_id, Event.PACKAGE_FAILED, now + took_s)
        builders.set_cleanliness(connection, vitals.id, Cleanliness.CLEAN)

    with farm.transaction() as connection:
        change(connection)


def run_all(farm: Farm, took_s: float = 600.0, times: int = 20) -> list[int]:
    """Let so many builds run, one after the other, as they are given out."""
    begun = []
    for number in range(times):
        begun += candidates(farm, now=NOW + number * took_s)
        run(farm, begun[-1], took_s, NOW + number * took_s)
    return begun


def used_s(farm: Farm) -> dict[str, float]:
    with farm.reading() as connection:
        joined = archive_account.join(archive, archive.c.id == archive_account.c.archive_id)
        rows = connection.execute(select(archive.c.name, archive_account.c.used_s).select_from(joined))
        return {row.name: row.used_s for row in rows}


def test_another_archive_is_next(farm: Farm, bulk: list[int]) -> None:
    """However many builds of one archive wait, the first of another is the next, and then they take turns."""
    run_all(farm, times=3)
    add_archive(farm, "small")
    small = [submit(farm, f"small{number}", "small") for number in range(20)]
    begun = run_all(farm)
    assert begun[0] == small[0]
    assert 8 <= len(set(begun[-10:]) & set(small)) + len(set(begun[:10]) & set(small)) <= 16


def test_among_equals(farm: Farm, bulk: list[int]) -> None:
    """Where no archive has built before, the higher score is first, and then the older build."""
    add_archive(farm, "small")
    urgent = submit(farm, "urgent", "small", urgency="emergency")
    assert candidates(farm, 3) == [urgent, bulk[0], bulk[1]]


def test_more_urgent_bands(farm: Farm, bulk: list[int]) -> None:
    """A private archive and a security fix go before all else, whatever their archive has used; a copy after it."""
    add_archive(farm, "private", private=True)
    add_archive(farm, "copy", purpose=ArchivePurpose.COPY)
    copy = submit(farm, "copied", "copy")
    fix = submit(farm, "fix")
    private = [submit(farm, f"private{number}", "private") for number in range(3)]
    with farm.transaction() as connection:
        builds.set_score(connection, fix, 5_510)
    assert run_all(farm, times=4) == [*private, fix]
    assert candidates(farm, 100) == [*bulk, copy]


def test_a_score_by_hand(farm: Farm, bulk: list[int]) -> None:
    """A score that a person gave counts like any other."""
    with farm.transaction() as connection:
        builds.set_score(connection, bulk[7], 20_000)
        builds.set_score(connection, bulk[8], 4_000)
    assert candidates(farm, 3) == [bulk[7], bulk[8], bulk[0]]


def test_weights(farm: Farm, bulk: list[int]) -> None:
    """An archive of weight 3 gets three times the builder time."""
    add_archive(farm, "heavy", weight=3.0)
    heavy = [submit(farm, f"heavy{number}", "heavy") for number in range(30)]
    begun = run_all(farm, times=24)
    assert 17 <= len(set(begun) & set(heavy)) <= 19


def test_what_is_on_the_account(farm: Farm, bulk: list[int]) -> None:
    """The account has what was expected while a build runs, and what it took when it has ended."""
    with farm.transaction() as connection:
        assert builds.claim(connection, bulk[0], builders.find(connection, "x86").id, NOW)
    assert used_s(farm) == {"primary": 30.0}
    with farm.transaction() as connection:
        builds.record(connection, bulk[0], Event.CANCEL, NOW + 50)
    assert used_s(farm) == {"primary": 30.0}
    with farm.transaction() as connection:
        builds.record(connection, bulk[0], Event.ABORTED, NOW + 70)
    assert used_s(farm) == {"primary": 70.0}


def test_what_was_lost_counts(farm: Farm, bulk: list[int]) -> None:
    """A build that goes back into the queue has used what it used, and is charged anew when it begins again."""
    for now in (NOW, NOW + 1000):
        with farm.transaction() as connection:
            assert builds.claim(connection, bulk[0], builders.find(connection, "x86").id, now)
            builds.record(connection, bulk[0], Event.REQUEUED, now + 10)
    assert used_s(farm) == {"primary": 20.0}


def test_the_order_of_a_whole_queue(farm: Farm, bulk: list[int]) -> None:
    """What the order tells beforehand is what happens when each build takes as long as expected, tags or not."""
    add_archive(farm, "small")
    for number in range(15):
        submit(farm, f"small{number}", "small")
    with farm.transaction() as connection:
        connection.execute(source.update().values(urgency="low").where(source.c.name == "small3"))
        builds.set_score(connection, bulk[5], 6_000)
        lane = shares.Lane("amd64", False, (shares.Range(""),))
        told = [each.build_id for each in shares.in_order(connection, lane, 100)]
    assert len(told) == 45
    assert run_all(farm, took_s=30.0, times=45) == told


def test_pages(farm: Farm, bulk: list[int]) -> None:
    """However few are asked for, they are the first of all, also where rows are read in pieces."""
    for name in ("aa", "bb", "cc"):
        add_archive(farm, name)
        for number in range(3):
            submit(farm, f"{name}{number}", name)
    whole = candidates(farm, 100)
    assert len(whole) == 39
    for limit in (1, 2, 5, 38, 39):
        assert candidates(farm, limit) == whole[:limit]


def test_another_kind_of_builder(farm: Farm, bulk: list[int]) -> None:
    """Each kind of builder has accounts of its own."""
    make_series(farm, architecture="arm64")
    with farm.transaction() as connection:
        builders.add(connection, "arm", "http://arm/", "arm64", NOW)
    other = submit(farm, "other")
    run_all(farm, times=2)
    with farm.transaction() as connection:
        arm = builders.find(connection, "arm")
        (first,) = queue.candidates(connection, arm, NOW, 1)
        assert first == other + 1
        assert builds.claim(connection, first, arm.id, NOW)
        rows: Iterable[str] = connection.execute(select(archive_account.c.architecture)).scalars()
        assert sorted(rows) == ["amd64", "arm64"]


@pytest.mark.skipif(on_postgresql(), reason="PostgreSQL chooses by statistics, and small tables by other rules")
def test_no_search_reads_the_queue(farm: Farm, bulk: list[int]) -> None:
    """Whatever the search asks of what waits, it finds by the indexes that are made for it."""
    plans: list[str] = []
    with farm.reading() as connection:

        def explain(_: object, __: object, statement: str, parameters: Sequence[object], *___: object) -> None:
            if "build_queue" in statement and ("WITH RECURSIVE" in statement or "LIMIT" in statement):
                rows = connection.connection.cursor().execute("EXPLAIN QUERY PLAN " + statement, parameters)
                plans.extend(row[3] for row in rows)

        event.listen(connection, "before_cursor_execute", explain)
        queue.candidates(connection, builders.find(connection, "x86"), NOW, 5)
        queue.waiting(connection)
    asked = [each for each in plans if "INDEX" in each and "archive_account" not in each and "PRIMARY KEY" not in each]
    assert len(asked) >= 6
    assert all("ix_build_queue_turns" in each or "ix_build_queue_entered" in each for each in asked), asked
    assert not any(each.startswith("SCAN build_queue") and "INDEX" not in each for each in plans)


@pytest.mark.skipif(not on_postgresql(), reason="SQLite chooses without statistics")
def test_the_right_index_without_statistics(farm: Farm, bulk: list[int]) -> None:
    """When a hundred thousand builds have just been queued, PostgreSQL knows nothing of them for a minute."""
    plans: dict[str, str] = {}
    with farm.reading() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # Which it takes for what is small.
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")

        def explain(_: object, __: object, statement: str, parameters: Sequence[object], *___: object) -> None:
            if "FROM build_queue" in statement:
                cursor = connection.connection.cursor()
                cursor.execute("EXPLAIN " + statement, parameters)
                plans[statement] = "\n".join(row[0] for row in cursor.fetchall())

        event.listen(connection, "before_cursor_execute", explain)
        queue.candidates(connection, builders.find(connection, "x86"), NOW, 5)
        searched = set(plans)
        queue.waiting(connection)
    for statement, plan in plans.items():
        wanted = "entered" if statement.startswith("SELECT build_queue.entered_at") else "turns"
        indexes = set(re.findall(r"ix_build_queue_(\w+)", plan)) - {"lost_by_id"}
        assert indexes <= {wanted} and "JIT" not in plan, plan  # To compile it would take longer than anything else.
    assert sum("ix_build_queue_turns" in plans[statement] for statement in searched) >= 3
    assert any("ix_build_queue_entered" in plan for plan in plans.values())
