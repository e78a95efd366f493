"""A farm's life: its machines, its masters one after the other, and people who do this and that to it."""

import gc
import hashlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, select, update
from twisted.internet.defer import DebugInfo
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

from buildd.protocol import BuildStatus
from buildmaster import builders, builds, distributions, files
from buildmaster.lifecycle import ENDED, BuildState, Event, ImpossibleTransition
from buildmaster.tables import build, build_file, build_queue, builder, source, source_file, stored_file
from buildmaster.tests.factories import make_build, make_farm, make_series
from buildmaster.tests.simulation.clock import MasterReactor, SimClock
from buildmaster.tests.simulation.invariants import Broken, Invariants
from buildmaster.tests.simulation.machines import HONEST, Machine, Nature, troubled
from buildmaster.tests.simulation.master import EPOCH, SimMaster

SOURCES = 8
_LONGEST_BUILD_S = 3600.0


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    seed: int
    builders: int = 10
    builds: int = 60
    hours: float = 6.0  # Of trouble; then all is repaired, and what is left must end.
    coming_hours: float | None = None  # Over which builds are submitted; None: most early, some late.
    honest: float = 0.4  # How many of the machines have nothing wrong with them.
    deaths: int = 5  # Of masters, at any time; and
    deadliness: float = 0.5  # at points: of n of a kind, about so many times ln(n).
    acts: int = 60  # By people.
    natures: tuple[Nature, ...] = ()  # Of the first machines; the others' are chosen.


@dataclass
class Report:
    """What has happened."""

    commits: int = 0
    points: int = 0  # Places at which a master could have died.
    died: Counter[str] = field(default_factory=Counter)  # Where masters died.
    states: Counter[str] = field(default_factory=Counter)  # Of builds, at the end.
    changes: int = 0  # Of state.
    lost: dict[str, int] = field(default_factory=dict)  # By builder, how many builds went from it back into the queue.
    disabled: tuple[str, ...] = ()  # Builders that were out of service when all was repaired.
    hours: float = 0.0
    digest: str = ""  # Of all that happened, in order.


@implementer(ILogObserver)
class World:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = random.Random(plan.seed)
        self.clock = SimClock()
        self.report = Report()
        self.invariants = Invariants()
        self._digest = hashlib.sha256()
        self._dead: list[SimMaster] = []  # Kept, so that nothing of them is cleaned up.
        self._submitted = 0
        self._seen: Counter[str] = Counter()  # Points that masters have come by, by their kind.
        self._repaired = False
        memory = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
        self.farm = make_farm(self._folder)
        self.place = make_series(self.farm)
        first = [make_build(self.farm, f"source{number}") for number in range(SOURCES)]
        self.sources = self._read_sources(first)
        self.machines = {name: self._machine(number, name) for number, name in enumerate(_names(plan.builders))}
        self.ids = {name: self._add_builder(machine) for name, machine in self.machines.items()}
        self.master: SimMaster | None = None

    def _read_sources(self, first: list[int]) -> dict[str, tuple[str, str]]:
        """The sources by the SHA-1 of their .dsc; their ids are kept, and the builds that came with them are gone."""
        found = {}
        with self.farm.transaction() as connection:
            connection.execute(build_queue.delete())
            connection.execute(build.delete().where(build.c.id.in_(first)))
            self._source_ids = list(connection.execute(select(source.c.id).order_by(source.c.id)).scalars())
            for row in connection.execute(select(source)):
                for sha1 in self._dsc_sums(connection, row.id):
                    found[sha1] = (row.name, row.version)
        return found

    @staticmethod
    def _dsc_sums(connection: Connection, source_id: int) -> list[str]:
        joined = source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id)
        query = select(stored_file.c.sha1).select_from(joined)
        return list(
            connection.execute(
                query.where(source_file.c.source_id == source_id, source_file.c.name.endswith(".dsc"))
            ).scalars()
        )

    def _machine(self, number: int, name: str) -> Machine:
        given = self.plan.natures
        nature = given[number] if number < len(given) else None
        if nature is None:
            nature = HONEST if self.chance.random() < self.plan.honest else troubled(self.chance)
        return Machine(name, self.clock, random.Random(self.chance.random()), self.sources, nature)

    def _add_builder(self, machine: Machine) -> int:
        with self.farm.transaction() as connection:
            return builders.add(connection, machine.name, machine.url, "amd64", EPOCH)

    # Time

    @property
    def now(self) -> float:
        return EPOCH + self.clock.seconds()

    def run(self) -> Report:
        """Live, and see that all ends well.

        :raises Broken: it does not.
        """
        globalLogPublisher.addObserver(self)
        try:
            self._live()
        finally:
            globalLogPublisher.removeObserver(self)
        self.report.digest = self._digest.hexdigest()[:16]
        return self.report

    def close(self) -> None:
        self.farm.close()
        if self.master is not None:
            self.master.reactor.alive = False
            self.master.bury()
        shutil.rmtree(self._folder)
        self._forget_the_dead()

    def _forget_the_dead(self) -> None:
        """Throw away what dead masters waited for. Python then runs their `finally` after all, in any order, and what
        that says must not be taken for a mistake of the next run."""
        self.master = None
        self._dead.clear()
        self.clock.clear()
        for machine in self.machines.values():
            machine.watchers.clear()
        with patch.object(sys, "unraisablehook"), patch.object(DebugInfo, "__del__", lambda _: None):
            for _ in range(4):  # What a `finally` leaves behind is thrown away by the next.
                gc.collect()

    def __call__(self, event: Any) -> None:
        """A master's own mistakes are told with a traceback; there must be none."""
        if event.get("log_level") is LogLevel.critical:
            failure = event.get("log_failure")
            told = failure.getTraceback() if failure is not None else str(event.get("log_format"))
            self._stop(Broken(f"the master's own error:\n{told}"))

    def _stop(self, broken: Broken) -> None:
        """End the run, as soon as the clock goes on."""

        def end() -> None:
            raise broken

        self.clock.callLater(0.0, end)

    def _live(self) -> None:
        trouble_s = self.plan.hours * 3600
        for _ in range(self.plan.builds):
            coming = self.plan.coming_hours
            at_s = (
                self.chance.uniform(0, 0.8) ** 2 * trouble_s if coming is None else self.chance.random() * coming * 3600
            )
            self.clock.callLater(at_s, self.submit)
        for _ in range(self.plan.acts):
            self.clock.callLater(self.chance.uniform(0, trouble_s), self.act)
        for _ in range(self.plan.deaths):
            self.clock.callLater(self.chance.uniform(0, trouble_s), self._end_master)
        self._start_master()
        self._run_until(trouble_s)
        self._repair()
        patience_s = 4 * 3600 + 2 * _LONGEST_BUILD_S + 1000.0 * self.plan.builds / self.plan.builders
        while not self.is_over():
            if self.clock.seconds() > trouble_s + patience_s:
                raise Broken("; ".join(self.left()))
            self._run_until(self.clock.seconds() + 60)
        self._check_the_end()

    def _run_until(self, until: float) -> None:
        self.clock.run(until)
        self.report.hours = self.clock.seconds() / 3600

    # Masters

    def _start_master(self) -> None:
        reactor = MasterReactor(self.clock, self._is_last)
        chance = random.Random(self.chance.random())
        master = SimMaster(self.farm.directory, reactor, self.machines, chance, self.committed)
        reactor.on_death = lambda where: self._died(master, where)
        self.master = master
        master.begin()

    def _is_last(self, where: str) -> bool:
        """Whether a master dies at this point: at each kind of point about as often as at any other, common or rare."""
        self._note(where)
        kind = _kind(where)
        self._seen[kind] += 1
        return not self._repaired and self.chance.random() < self.plan.deadliness / self._seen[kind]

    def _end_master(self) -> None:
        if self.master is not None:
            self.master.reactor.die("anywhere")

    def _died(self, master: SimMaster, where: str) -> None:
        self._note(f"died {where}")
        self.report.died[_kind(where)] += 1
        self._dead.append(master)
        master.bury()
        self.master = None
        self.clock.callLater(self.chance.choice((0.0, 2.0, 30.0, 400.0)), self._start_master)

    # What happens

    def _note(self, what: str) -> None:
        self.report.points += 1
        self._digest.update(f"{self.clock.seconds():.6f} {what}\n".encode())

    def committed(self, what: str) -> None:
        """Something was committed: all must still be true.

        :raises Broken: it is not.
        """
        try:
            with self.farm.reading() as connection:
                changed = self.invariants.check(connection)
        except Broken as broken:
            self._stop(broken)  # A master that hears of it would go on.
            raise
        self.report.commits += 1
        self.report.changes += len(changed)
        self._note(f"{what} {changed}")

    def do(self, what: str, function: Callable[..., Any], *args: Any, **more: Any) -> None:
        """What a person does with a command: a transaction of another process."""
        try:
            with self.farm.transaction() as connection:
                function(connection, *args, **more)
        except ImpossibleTransition:
            what += " refused"
        self.committed(what)

    def submit(self) -> None:
        self._submitted += 1
        self.do("submit", builds.add, self.chance.choice(self._source_ids), self.place, self.now)

    def act(self) -> None:
        """A person does something."""
        known = list(self.invariants.states)
        if not known:
            return
        build_id, name = self.chance.choice(known), self.chance.choice(list(self.machines))
        match self.chance.randrange(10):
            case 0 | 1:
                self.do("cancel", builds.cancel, build_id, self.now)
            case 2 | 3:
                self.do("retry", builds.retry, build_id, self.now)
            case 4:
                self.do("disable", builders.disable, name, "by hand")
            case 5 | 6:
                self.do("enable", builders.enable, name)
            case 7:
                self.do("chroot", self._new_chroot)
            case 8:
                self.do("supersede", self._supersede, self.chance.choice(self._source_ids))
            case 9:
                self.machines[name].switch_off(self.chance.uniform(5, 900))

    def _new_chroot(self, connection: Connection) -> None:
        chroot = self.farm.store.add([f"chroot {self.chance.random()}".encode()])
        distributions.set_chroot(connection, self.place, chroot, "chroot.tar", self.now)

    def _supersede(self, connection: Connection, source_id: int) -> None:
        connection.execute(update(source).where(source.c.id == source_id).values(superseded_at=self.now))
        of_it = select(build.c.id).where(build.c.source_id == source_id).order_by(build.c.id)
        for build_id in list(connection.execute(of_it).scalars()):
            if builds.state(connection, build_id) not in ENDED:
                builds.record(connection, build_id, Event.SUPERSEDE, self.now)

    # The end

    def _repair(self) -> None:
        """All machines are honest from now on and in service, and no master dies any more."""
        self.report.disabled = tuple(self._out_of_service())
        for name, machine in self.machines.items():
            machine.repair()
            self.do("enable", builders.enable, name)
        self._repaired = True

    def left(self) -> list[str]:
        """What has not ended yet, in words."""
        waiting = [f"build {one} is {state}" for one, state in self.invariants.states.items() if state not in ENDED]
        with self.farm.reading() as connection:
            rows = list(connection.execute(select(builder).order_by(builder.c.id)))
        return waiting + [
            f"{row.name} is {row.cleanliness}, {row.enabled=}, {row.failures=} {row.disabled_reason}, and says "
            f"{self.machines[row.name].status}"
            for row in rows
            if row.cleanliness != "clean"
        ]

    def is_over(self) -> bool:
        """Whether all builds have ended, and all builders are clean."""
        if self._submitted < self.plan.builds or self.master is None:
            return False
        for name in self._out_of_service():  # By what was going on when all was repaired.
            self.do("enable", builders.enable, name)
        return not self.left()

    def _out_of_service(self) -> list[str]:
        with self.farm.reading() as connection:
            return list(connection.execute(select(builder.c.name).where(~builder.c.enabled)).scalars())

    def _check_the_end(self) -> None:
        """Nothing is lost, and nothing is said to be what it is not."""
        self.report.states = Counter(map(str, self.invariants.states.values()))
        self.report.lost = {name: len(self.invariants.lost.get(self.ids[name], ())) for name in self.machines}
        if len(self.invariants.states) != self.plan.builds:
            raise Broken(f"{self.plan.builds} builds were submitted, and there are {len(self.invariants.states)}")
        said: dict[str, set[BuildStatus]] = {}
        for machine in self.machines.values():
            for cookie, status in machine.said:
                said.setdefault(cookie, set()).add(status)
        with self.farm.reading() as connection:
            for build_id, state in self.invariants.states.items():
                if state is BuildState.BUILT:
                    self._check_results(connection, build_id, said.get(builds.cookie(build_id), set()))

    def _check_results(self, connection: Connection, build_id: int, said: set[BuildStatus]) -> None:
        """A build that is BUILT was built, and has the files of the machine that did it."""
        rows = connection.execute(select(build_file).where(build_file.c.build_id == build_id)).all()
        if BuildStatus.OK not in said or len(rows) != 2:
            raise Broken(f"build {build_id} is built, has {len(rows)} files, and machines said {said}")
        for row in rows:
            with self.farm.store.open(files.find(connection, row.stored_file_id).sha256) as stream:
                data = stream.read()
            if row.name.endswith(".deb") and data != f"as {builds.cookie(build_id)}\n".encode():
                raise Broken(f"build {build_id} has the results of another: {data!r}")


def _kind(where: str) -> str:
    """What kind of point it is, at whichever machine."""
    return where.partition(" of ")[0]


def _names(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


def simulate(plan: Plan) -> Report:
    """One run, from beginning to end.

    :raises Broken: something is not as it must be; the message says what.
    """
    world = World(plan)
    try:
        return world.run()
    finally:
        world.close()
