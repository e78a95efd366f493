"""Several masters on one PostgreSQL, one of them killed again and again while builds are built.

The masters are real ones (`buildmaster run`), and so is the database, which is started for this. The builders build
nothing, but speak the real protocol, in a process of their own, and tell of each build when it began, ended, and was
cleaned away, as it is when it was collected. At the end each build must have happened once, and be whole in the farm.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select

from benchmarks.farm import ANY_PORTS, Builders, add_builders, noop_builders
from benchmarks.noop_builders import source_name
from benchmarks.table import percentile, show
from buildmaster import packages
from buildmaster.builders import Cleanliness
from buildmaster.builds import cookie
from buildmaster.farm import Farm, Places
from buildmaster.lifecycle import ENDED, BuildState
from buildmaster.tables import build, build_file, builder, master
from buildmaster.tests.factories import make_series, write_source
from buildmaster.tests.ports import free_port
from buildmaster.tests.waiting import wait_until
from tools import postgresql
from tools.master import MAIN
from tools.places import CHECKOUT

BUILDS_S = (0.5, 1.0, 2.0, 4.0)  # How long builds take, more or less.
STUCK_S = 60.0  # When for so long nothing has happened on any builder, and nobody is killed, nothing will any more.
HANG_S = 12.0
TAKE_OVER_S = 10.0  # Wanted, of one that is killed.
LOCKED_S = 5.0  # One that hangs may have rows locked for so long.
RESULTS = 2  # A .changes and what it names.


@dataclass
class Masters:
    """The masters that run on a farm, as processes."""

    folder: Path
    config: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """One more."""
        arguments = ["--config", str(self.config), "--dir", str(self.folder / "farm"), "run"]
        with (self.folder / "masters.log").open("ab") as log:
            command = ["setpriv", "--pdeathsig=KILL", "--", sys.executable, "-c", MAIN, *arguments]
            self.processes.append(subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log))

    def stop(self) -> None:
        """End all in order."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)

    @property
    def log(self) -> str:
        """What all have logged."""
        return (self.folder / "masters.log").read_text(errors="replace")


@dataclass
class Outcome:
    """What a run came to."""

    seconds: float = 0.0
    builds: int = 0
    gaps_s: list[float] = field(default_factory=list)  # Of builders between two builds.
    take_over_s: list[float] = field(default_factory=list)  # From a kill until others had all its builders.
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    out_of_service: list[str] = field(default_factory=list)  # Builders; none has done anything wrong.
    wanted_s: float = TAKE_OVER_S
    own_errors: int = 0  # Tracebacks in the masters' logs.

    @property
    def is_good(self) -> bool:
        """Whether everything was as it must be."""
        bad = self.duplicates or self.lost or self.stuck or self.out_of_service
        return not bad and max(self.take_over_s, default=0.0) < self.wanted_s


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table; exit status 1 when something was lost, done twice, or is stuck."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masters", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long (default: %(default)g)")
    parser.add_argument("--masters", type=int, default=3, help="how many run at a time (default: %(default)s)")
    parser.add_argument("--builders", type=int, default=40, help="how many (default: %(default)s)")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills (default: %(default)g)")
    parser.add_argument("--hang", action="store_true", help="stop (SIGSTOP) one for 12 s each time, and do not kill it")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which is killed, and when exactly")
    parser.add_argument("--quick", action="store_true", help="just see that it works: 36 s, 10 builders, 2 kills")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.minutes, arguments.builders, arguments.every = 0.6, 10, 10.0
    print(f"seed {arguments.seed}", flush=True)
    outcome = measure(
        arguments.minutes * 60, arguments.masters, arguments.builders, arguments.every,
        dice=random.Random(arguments.seed), hang=arguments.hang,
    )  # fmt: skip
    tell(outcome)
    sys.exit(not outcome.is_good)


def measure(
    seconds: float, masters: int, number: int, every_s: float, *, dice: random.Random, hang: bool = False
) -> Outcome:
    """So many masters and builders, for so long."""
    outcome = Outcome(wanted_s=TAKE_OVER_S + LOCKED_S * hang)
    with farm_on_postgresql() as (farm, running), noop_builders(number) as noop:
        add_builders(farm, noop.urls)
        feed = _feed(farm, 2 * number)
        for _ in range(masters):
            running.start()
        began = time.monotonic()
        kill_at = began + every_s
        while (now := time.monotonic()) < began + seconds:
            next(feed)
            if now >= kill_at and now + every_s / 2 < began + seconds:
                kill_at += every_s
                outcome.take_over_s.append(_lose_one(farm, running, feed, dice, hang=hang))
            time.sleep(dice.uniform(0.1, 0.3))
        _drain(farm, noop)
        outcome.seconds = time.monotonic() - began
        running.stop()
        _judge(farm, noop, outcome)
        outcome.gaps_s = noop.gaps_s(began)
        outcome.own_errors = running.log.count("Traceback")
    return outcome


@contextmanager
def farm_on_postgresql() -> Iterator[tuple[Farm, Masters]]:
    """A farm for amd64 of one series, on a server of its own, and no masters yet."""
    with tempfile.TemporaryDirectory(prefix="masters-") as name, postgresql.running(free_port()) as server:
        folder, url = Path(name), server.url("postgres")
        config = folder / "buildmaster.conf"
        config.write_text(f"[database]\nurl = {url}\n{ANY_PORTS}")
        farm = Farm.create(Places(folder / "farm", url))
        make_series(farm)
        masters = Masters(folder, config)
        try:
            yield farm, masters
        finally:
            for process in masters.processes:
                process.kill()
            farm.close()


def _feed(farm: Farm, number: int) -> Iterator[None]:
    """See to it that so many builds wait, each time that it is called."""
    sources = [write_source(farm.directory / "sources", source_name(i, each)) for i, each in enumerate(BUILDS_S)]
    place = {"distribution": "debian", "series_name": "bookworm"}
    waiting = select(func.count()).where(build.c.state == BuildState.NEEDS_BUILD)
    turn = 0
    while True:
        for _ in range(number - _ask(farm, waiting)):
            known = turn >= len(sources)
            packages.accept(farm, sources[turn % len(sources)], time.time(), **place, rebuild=known)  # type: ignore
            turn += 1
        yield


def _lose_one(farm: Farm, running: Masters, feed: Iterator[None], dice: random.Random, *, hang: bool) -> float:
    """Kill a master and start another; or let it hang for a while. Returns how long others took to have all it had."""
    process = dice.choice(running.processes)
    ours = select(master.c.id).where(master.c.name.endswith(f":{process.pid}")).scalar_subquery()
    held = select(func.count()).where(builder.c.master_id == ours)
    while not _ask(farm, held):  # It has just been started.
        next(feed)
        time.sleep(0.1)
    held = select(func.count()).where(builder.c.master_id == _ask(farm, select(ours)))
    lost = time.monotonic()
    if hang:
        process.send_signal(signal.SIGSTOP)
    else:
        process.kill()
        process.wait()
        running.processes.remove(process)

    def taken() -> bool:
        next(feed)
        return _ask(farm, held) == 0

    wait_until(taken, 60.0)
    seconds = time.monotonic() - lost
    if hang:
        while time.monotonic() < lost + HANG_S:
            next(feed)
            time.sleep(0.1)
        process.send_signal(signal.SIGCONT)
    else:
        running.start()
    return seconds


def _ask(farm: Farm, query: Select[Any]) -> int:
    with farm.reading() as connection:
        return int(connection.execute(query).scalar() or 0)


def _drain(farm: Farm, noop: Builders) -> None:
    """Let what is left be built."""
    going = select(func.count()).where(build.c.state.not_in([str(state) for state in ENDED]))
    dirty = select(func.count()).where(builder.c.cleanliness != Cleanliness.CLEAN)
    seen, since = len(noop.happened), time.monotonic()
    while (_ask(farm, going) or _ask(farm, dirty)) and time.monotonic() < since + STUCK_S:
        if len(noop.happened) > seen:
            seen, since = len(noop.happened), time.monotonic()
        time.sleep(0.2)


def _judge(farm: Farm, noop: Builders, outcome: Outcome) -> None:
    """Compare what the builders have seen with what the farm has."""
    happened = {what: Counter(one.build_id for one in noop.happened if one.what == what) for what in _ONCE}
    files = select(func.count()).where(build_file.c.build_id == build.c.id).scalar_subquery()
    with farm.reading() as connection:
        rows = connection.execute(select(build.c.id, build.c.state, build.c.log_file_id, files.label("files"))).all()
        off = connection.execute(select(builder.c.name, builder.c.disabled_reason).where(~builder.c.enabled)).all()
    outcome.builds = len(rows)
    outcome.out_of_service = [f"{row.name}: {row.disabled_reason}" for row in off]
    for row in rows:
        counts = [happened[what][cookie(row.id)] for what in _ONCE]
        told = f"build {row.id} is {row.state}; on builders it has begun, ended and been cleaned {counts} times"
        if row.state not in ENDED or counts == [1, 1, 0]:
            outcome.stuck.append(told)
        elif row.state != BuildState.BUILT or row.files != RESULTS or row.log_file_id is None or 0 in counts:
            outcome.lost.append(f"{told}; {row.files} results")
        if max(counts) > 1:
            outcome.duplicates.append(told)


_ONCE = ("begin", "end", "clean")


def tell(outcome: Outcome) -> None:
    """Print what a run came to."""
    columns = ("builds", "a second", "gap p50 s", "losses", "take-over p50 s", "max", "duplicates", "lost", "stuck")
    row = (
        str(outcome.builds),
        f"{outcome.builds / outcome.seconds:.1f}",
        f"{percentile(outcome.gaps_s, 0.5):.2f}",
        str(len(outcome.take_over_s)),
        f"{percentile(outcome.take_over_s, 0.5):.1f}",
        f"{max(outcome.take_over_s, default=0.0):.1f}",
        *(str(len(each)) for each in (outcome.duplicates, outcome.lost, outcome.stuck)),
    )
    show("Masters that are lost", columns, [row])
    for line in (*outcome.duplicates, *outcome.lost, *outcome.stuck, *outcome.out_of_service)[:40]:
        print(line)
    if outcome.own_errors:
        print(f"{outcome.own_errors} tracebacks in the masters' logs")


if __name__ == "__main__":
    main()
