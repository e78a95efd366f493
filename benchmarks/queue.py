"""A long queue beside a short one: what takes longer, and what needs more memory, when 100,000 builds wait?

The builds are of many archives; one has half of them. On SQLite, and on PostgreSQL where that is installed; `queue`,
`why` and `when` are the commands, with the start of Python.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from benchmarks.farm import ANY_PORTS
from benchmarks.table import median, ms, percentile, show
from buildmaster import builders, dispatch, distributions, queue
from buildmaster.builders import Cleanliness, Vitals
from buildmaster.engines import POSTGRESQL
from buildmaster.farm import Farm, Places
from buildmaster.lifecycle import BuildState
from buildmaster.scoring import ArchivePurpose, band
from buildmaster.tables import archive, archive_account, build, build_queue, source
from buildmaster.tests.ports import free_port
from tools.master import MAIN
from tools.places import CHECKOUT
from tools.postgresql import NoPostgresql, running

SHORT = 1_000
ARCHIVES = (1, 100, 1_000)
TIMES = 300
SCORES = (1_510, 2_510, 4_010)  # Backports, release and proposed updates; one band.
SETTLE_S = 8.0  # After its start a master has looked at everything.
COLUMNS = (
    *("", "builds", "archives", "next p50 ms", "p99", "claim p50 ms", "p99", "picture ms"),
    *("queue s", "why s", "when s", "master MB"),
)  # fmt: skip
NOTES = """
next     which build a builder is given: the search; the builder is always another
claim    the search and the claim, in a transaction that is committed
picture  what the master reads of the queue when something has changed
queue    the command, its first page of 50
why      the command, of the last build in the queue
when     the command, likewise: the whole queue is played forward
master   the memory of a master that runs on the farm, all of whose builders are out of reach
"""
_AT_ONCE = 10_000
_DAY_S = 86400.0


@dataclass(frozen=True)
class Place:
    """Where a farm is, and the configuration that says so."""

    places: Places
    config: Path


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--builds", type=int, default=100_000, help="in the long queue (default: %(default)d)")
    parser.add_argument("--quick", action="store_true", help="just see that it works: 1,000 builds, on SQLite")
    arguments = parser.parse_args(argv)
    databases = [("SQLite", on_sqlite), ("PostgreSQL", on_postgresql)]
    queues, times = [(SHORT, ARCHIVES[1]), *((arguments.builds, each) for each in ARCHIVES)], TIMES
    if arguments.quick:
        databases, queues, times = databases[:1], [(SHORT, 10)], 5
    rows = []
    for name, place in databases:
        for number, archives in queues:
            try:
                with place() as where:
                    rows.append(measure(name, where, number, archives, times))
            except NoPostgresql as error:
                print(error)
                break
            print("  ".join(rows[-1]), flush=True)
    show("What waits", COLUMNS, rows)
    print(NOTES)


@contextmanager
def on_sqlite() -> Iterator[Place]:
    """A place for a farm, while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="queue-") as folder:
        yield _place(Path(folder), "")


@contextmanager
def on_postgresql() -> Iterator[Place]:
    """The same, with a server of its own."""
    with ExitStack() as stack:
        server = stack.enter_context(running(free_port()))
        yield _place(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="queue-"))), server.url("postgres"))


def _place(folder: Path, url: str) -> Place:
    config = folder / "buildmaster.conf"
    config.write_text(ANY_PORTS + (f"[database]\nurl = {url}\n" if url else ""))
    return Place(Places(folder / "farm", url), config)


def measure(name: str, place: Place, number: int, archives: int, times: int) -> Sequence[str]:
    """One row."""
    farm = Farm.create(place.places)
    try:
        vitals = fill(farm, number, archives)
        with farm.transaction() as connection:
            if connection.dialect.name == POSTGRESQL:  # It does so by itself within a minute.
                connection.exec_driver_sql("ANALYZE")
        searches = _timed(farm.reading, lambda connection: queue.candidates(connection, vitals, time.time(), 1), times)
        pictures = _timed(farm.reading, queue.waiting, times)
        claims = _claims(farm, vitals, times)
        last = _last(farm)
    finally:
        farm.close()
    commands = [_command_s(place, *words) for words in (("queue",), ("why", str(last)), ("when", str(last)))]
    figures = [
        f"{number:,}",
        str(archives),
        *(ms(each) for each in (median(searches), percentile(searches, 0.99))),
        *(ms(each) for each in (median(claims), percentile(claims, 0.99))),
        ms(median(pictures)),
        *(f"{each:.2f}" for each in commands),
        f"{_master_mb(place):.0f}",
    ]
    return [name, *figures]


def fill(farm: Farm, number: int, archives: int) -> Vitals:
    """Put so many builds into the queue, of so many archives; and a builder."""
    with farm.transaction() as connection:
        place = distributions.ensure(connection, "debian", "bookworm", "amd64")
        distributions.set_chroot(connection, place, farm.store.add([b"no chroot"]), "chroot.tar", 1.0)
        builder_id = builders.add(connection, "one", "http://127.0.0.1:9/", "amd64", 1.0)
        builders.set_cleanliness(connection, builder_id, Cleanliness.CLEAN)
        own = distributions.find_archive(connection, "debian", distributions.PRIMARY)
        ids = [own, *(_archive(connection, each) for each in range(1, archives))]
        for first in range(1, number + 1, _AT_ONCE):
            _queue(connection, place, ids, range(first, min(number + 1, first + _AT_ONCE)))
        return builders.find(connection, "one")


def _archive(connection: Connection, number: int) -> int:
    """One that has built before."""
    values = {"distribution_id": 1, "name": f"archive{number}", "purpose": ArchivePurpose.PPA}
    archive_id = int(connection.execute(archive.insert().values(**values).returning(archive.c.id)).scalar_one())
    account = {"archive_id": archive_id, "architecture": "amd64", "virtualised": False, "band": band(SCORES[0])}
    connection.execute(archive_account.insert().values(**account, used_s=_DAY_S + number, level_s=_DAY_S))
    return archive_id


def _queue(connection: Connection, place: int, archives: list[int], numbers: range) -> None:
    """The rows that builds.add() writes, many at once."""
    its = {each: archives[0 if each % 2 else each // 2 % len(archives)] for each in numbers}
    now = time.time() - _DAY_S
    common = {"series_id": 1, "version": "1.0", "architectures": "any", "created_at": now}
    sources = [{"id": each, "archive_id": its[each], "name": f"source{each}", **common} for each in numbers]
    connection.execute(source.insert(), sources)
    state = {"series_architecture_id": place, "state": BuildState.NEEDS_BUILD, "created_at": now}
    connection.execute(build.insert(), [{"id": each, "source_id": each, **state} for each in numbers])
    waits = {"architecture": "amd64", "virtualised": False, "queued_at": now, "entered_at": now}
    rows = []
    for each in numbers:
        score = SCORES[each % len(SCORES)]
        place_in_queue = {"score": score, "minus_score": -score, "band": band(score), "expected_s": 60.0 + each % 600}
        rows.append({"build_id": each, "archive_id": its[each], **place_in_queue, **waits})
    connection.execute(build_queue.insert(), rows)


def _timed(begin: Callable[[], object], work: Callable[[Connection], object], times: int) -> list[float]:
    """How long something takes in a transaction, which is begun before."""
    taken = []
    for _ in range(times):
        with begin() as connection:  # type: ignore[attr-defined]
            began = time.perf_counter()
            work(connection)
            taken.append(time.perf_counter() - began)
    return taken


def _claims(farm: Farm, vitals: Vitals, times: int) -> list[float]:
    """How long builds take to be claimed. They are put aside, as if other builders had them."""
    taken = []
    for number in range(times):
        with farm.transaction() as connection:
            builder_id = builders.add(connection, f"b{number}", f"http://127.0.0.1:9/{number}/", "amd64", 1.0)
            own = builders.find(connection, f"b{number}")
        assert own.id == builder_id
        began = time.perf_counter()
        with farm.transaction() as connection:
            order = dispatch.take(connection, own.id, own.cleanliness, "", time.time())
        taken.append(time.perf_counter() - began)
        assert order is not None
    assert vitals.id
    return taken


def _last(farm: Farm) -> int:
    with farm.reading() as connection:
        rows = connection.execute(build_queue.select().order_by(build_queue.c.score, build_queue.c.id.desc()).limit(1))
        return int(rows.one().build_id)


def _command_s(place: Place, *words: str) -> float:
    """How long a command takes, to its end."""
    began = time.perf_counter()
    subprocess.run([*_buildmaster(place), *words], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _buildmaster(place: Place) -> list[str]:
    return [sys.executable, "-c", MAIN, "-q", "-c", str(place.config), "-d", str(place.places.directory)]


def _master_mb(place: Place) -> float:
    """The memory of a master that has looked at everything."""
    with subprocess.Popen([*_buildmaster(place), "run"], cwd=CHECKOUT, stderr=subprocess.DEVNULL) as master:
        time.sleep(SETTLE_S)
        try:
            if master.poll() is not None:
                raise RuntimeError(f"the master ended with {master.returncode}")
            pages = int(Path(f"/proc/{master.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        finally:
            master.terminate()


if __name__ == "__main__":
    main()
