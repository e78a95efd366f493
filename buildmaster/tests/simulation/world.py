"""A farm's life: its machines, its masters, its archive; what has happened to it, and whether all ended well."""

import gc
import hashlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, select
from twisted.internet.defer import DebugInfo
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

from buildd.protocol import BuildStatus
from buildmaster import builders, builds, depwaits, examiner, files
from buildmaster.lifecycle import ENDED, BuildState
from buildmaster.tables import build, build_file, builder, master
from buildmaster.tests.memory import in_memory
from buildmaster.tests.simulation.clock import SimClock
from buildmaster.tests.simulation.invariants import Broken, Invariants
from buildmaster.tests.simulation.land import Land
from buildmaster.tests.simulation.machines import HONEST, Machine, Nature, troubled
from buildmaster.tests.simulation.master import EPOCH, SimMaster
from buildmaster.tests.simulation.masters import Lives
from buildmaster.tests.simulation.people import People
from buildmaster.tests.simulation.publications import SimArchive

_RELEASED_S = 5.0  # From a publication to the release of who waited for it,
_CALM_S = 30.0  # when nothing else went wrong for so long before.
_TICK_S = 0.5  # The examiner's, which is shorter in reality: here each costs as much as a step of a build.


@dataclass(frozen=True)
class Plan:
    """What is to happen."""

    seed: int
    builders: int = 10
    architectures: int = 2  # One of two has no chroot at first.
    builds: int = 60
    hours: float = 6.0  # Of trouble; then all is repaired, and what is left must end.
    patience_hours: float = 6.0  # For that; and longer, the more builds there are for each builder.
    coming_hours: float | None = None  # Over which builds are submitted; None: most early, some late.
    honest: float = 0.4  # How many of the machines have nothing wrong with them.
    masters: int = 1
    deaths: int = 5  # Of masters, at any time; and
    deadliness: float = 0.5  # at points: of n of a kind, about so many times ln(n).
    stops: int = 0  # How often a master stands still for a while, and goes on as if nothing had been;
    stillness: float = 0.0  # and at points, likewise; and
    outages: int = 0  # loses its database; and
    ends: int = 0  # is ended by a signal, in order.
    publications: int = 20
    acts: int = 60  # By people.
    natures: tuple[Nature, ...] = ()  # Of the first machines; the others' are chosen.


@dataclass
class Report:
    """What has happened."""

    commits: int = 0
    points: int = 0  # Places at which a master could have died.
    died: Counter[str] = field(default_factory=Counter)  # Where masters died.
    did: Counter[str] = field(default_factory=Counter)  # What people did.
    states: Counter[str] = field(default_factory=Counter)  # Of builds, at the end.
    changes: int = 0  # Of state.
    handed: int = 0  # How often a builder came to another master.
    released: int = 0  # Publications after which it was seen that all were released in time.
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
        self.repaired = False
        self._folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=in_memory()))
        self.archive = SimArchive(random.Random(self.chance.random()), self.clock.seconds)
        if not plan.publications:
            self.archive.publish(everything=True)
        self.land = Land(self._folder, self.archive, random.Random(self.chance.random()), plan.architectures)
        self.farm = self.land.farm
        self.machines: Mapping[str, Machine] = {name: self._machine(number, name) for number, name in self._names()}
        self.ids = {name: self._add_builder(machine) for name, machine in self.machines.items()}
        self._holders: dict[int, int | None] = {}
        self.lives = Lives(self)
        self.people = People(self)

    def _names(self) -> list[tuple[int, str]]:
        return [(number, f"m{number}") for number in range(self.plan.builders)]

    def _machine(self, number: int, name: str) -> Machine:
        given = self.plan.natures
        nature = given[number] if number < len(given) else None
        if nature is None:
            nature = HONEST if self.chance.random() < self.plan.honest else troubled(self.chance)
        chance, sources = random.Random(self.chance.random()), self.land.sources
        architecture = self.land.architectures[number % len(self.land.architectures)]
        return Machine(name, self.clock, chance, sources, architecture, nature)

    def _add_builder(self, machine: Machine) -> int:
        with self.farm.transaction() as connection:
            return builders.add(connection, machine.name, machine.url, machine.architecture, EPOCH)

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
            with patch.multiple(examiner, _TICK_S=_TICK_S, _SETTLE_S=_TICK_S):
                self._live()
        finally:
            globalLogPublisher.removeObserver(self)
        self.report.digest = self._digest.hexdigest()[:16]
        return self.report

    def close(self) -> None:
        self.farm.close()
        self.lives.close()
        shutil.rmtree(self._folder)
        self._forget_the_dead()

    def _forget_the_dead(self) -> None:
        """Throw away what dead masters waited for. Python then runs their `finally` after all, in any order, and what
        that says must not be taken for a mistake of the next run."""
        self.lives.forget()
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
            self.stop(Broken(f"the master's own error:\n{told}"))

    def stop(self, broken: Broken) -> None:
        """End the run, as soon as the clock goes on."""

        def end() -> None:
            raise broken

        self.clock.callLater(0.0, end)

    def at_any_time(self, times: int, what: Callable[[], object], hours: float | None = None) -> None:
        """Let something happen so often, at moments in these hours; None: in all those of trouble."""
        for _ in range(times):
            self.clock.callLater(self.chance.random() * 3600 * (self.plan.hours if hours is None else hours), what)

    def _live(self) -> None:
        plan, trouble_s = self.plan, self.plan.hours * 3600
        if plan.coming_hours is None:
            for _ in range(plan.builds):
                self.clock.callLater(self.chance.uniform(0, 0.8) ** 2 * trouble_s, self.people.submit)
        else:
            self.at_any_time(plan.builds, self.people.submit, plan.coming_hours)
        self.at_any_time(plan.acts, self.people.act)
        self.at_any_time(plan.publications, self.publish)
        self.lives.begin()
        self._run_until(trouble_s)
        self._repair()
        patience_s = plan.patience_hours * 3600 + 1000.0 * plan.builds / plan.builders
        while not self.is_over():
            if self.clock.seconds() > trouble_s + patience_s:
                raise Broken("; ".join(self.left()))
            self._run_until(self.clock.seconds() + 60)
        self._check_the_end()

    def _run_until(self, until: float) -> None:
        self.clock.run(until)
        self.report.hours = self.clock.seconds() / 3600

    # What happens

    def note(self, what: str) -> None:
        self.report.points += 1
        self._digest.update(f"{self.clock.seconds():.6f} {what}\n".encode())

    def committed(self, what: str, by: SimMaster | None = None, about: int | None = None) -> None:
        """Something was committed: all must still be true.

        :param about: the builder whose the master said that it is.
        :raises Broken: it is not.
        """
        try:
            with self.farm.reading() as connection:
                changed = self.invariants.check(connection)
                if by is not None and about is not None:
                    self._check_holder(connection, by, about, f"has committed {what} about")
        except Broken as broken:
            self.stop(broken)  # A master that hears of it would go on.
            raise
        self.report.commits += 1
        self.report.changes += len(changed)
        self.note(f"{what} {changed}")
        if what != "beat":
            self.lives.tell(by, about)

    def acts(self, by: SimMaster, machine: Machine, what: str) -> None:
        """A master calls what has an effect: it must be its builder's master."""
        try:
            with self.farm.reading() as connection:
                self._check_holder(connection, by, self.ids[machine.name], f"calls {what}() of")
        except Broken as broken:
            self.stop(broken)
            raise

    def _check_holder(self, connection: Connection, by: SimMaster, builder_id: int, does: str) -> None:
        """Nobody does anything with a builder that is another's."""
        held = builder.join(master, master.c.id == builder.c.master_id)
        holder = connection.execute(select(master.c.id).select_from(held).where(builder.c.id == builder_id)).scalar()
        if holder is not None and holder not in by.ids:
            raise Broken(
                f"{by.name}, known as {sorted(by.ids)}, {does} builder {builder_id}, which is that of {holder}"
            )
        if holder is not None and self._holders.get(builder_id) != holder:
            self._holders[builder_id] = holder
            self.report.handed += 1

    def publish(self) -> None:
        """Something is published in the archive, or it does not answer for a while."""
        if self.chance.random() < 0.2:
            self.archive.fail(self.clock.seconds(), self.chance.uniform(1, 600))
            return
        self.archive.publish()
        if self.chance.random() < 0.5:  # Who publishes says so; else it is found out.
            self.people.do("published", depwaits.published, self.land.archive_id, self.now)
        self.note(f"publication {self.archive.state}")
        self.clock.callLater(_RELEASED_S, self._check_release, self.archive.state, self._dep_waits())

    def _check_release(self, archive_state: str, waited: Mapping[int, str]) -> None:
        """All that waited when something was published has been looked at since, unless something was wrong."""
        since = self.clock.seconds() - _RELEASED_S - _CALM_S
        well = [each for each in self.lives.living if not each.has_trouble(since)]
        if not well or self.archive.trouble_until >= since or self.archive.state != archive_state:
            return
        if late := {each: seen for each, seen in self._dep_waits().items() if each in waited and seen != archive_state}:
            raise Broken(f"builds {late} wait still for what was published {_RELEASED_S:g} s ago")
        self.report.released += bool(waited)

    def check_chroot_waits(self, places: Sequence[int]) -> None:
        """Nothing waits for a chroot just after one was set."""
        query = select(build.c.id).where(build.c.state == BuildState.CHROOT_WAIT)
        with self.farm.reading() as connection:
            if waits := connection.execute(query.where(build.c.series_architecture_id.in_(places))).scalars().all():
                raise Broken(f"builds {waits} wait for a chroot, which is there")

    def _dep_waits(self) -> dict[int, str]:
        """What waits for dependencies, each with the state of the archive that it was judged by."""
        with self.farm.reading() as connection:
            query = select(build.c.id, build.c.archive_state).where(build.c.state == BuildState.DEP_WAIT)
            return {row.id: row.archive_state for row in connection.execute(query)}

    # The end

    def _repair(self) -> None:
        """All machines are honest from now on and in service, no master dies any more, and nothing is missing."""
        self.report.disabled = tuple(self._out_of_service())
        for name, machine in self.machines.items():
            machine.repair()
            self.people.enable(name)
        self.repaired = True
        self.lives.repair()
        self.archive.repair()
        self.archive.publish(everything=True)
        self.people.do("chroots", self.land.set_chroots, self.now)
        self.check_chroot_waits(self.land.places)

    def left(self) -> list[str]:
        """What has not ended yet, in words."""
        waiting = [f"build {one} is {state}" for one, state in self.invariants.states.items() if state not in ENDED]
        with self.farm.reading() as connection:
            in_vain = select(build).where(build.c.state == BuildState.DEP_WAIT).order_by(build.c.id)
            waiting += [
                f"build {row.id} waits for {row.dependencies}, by {row.archive_state}"
                for row in connection.execute(in_vain)
                if row.archive_state != self.archive.state or self.archive.has(row.dependencies)
            ]
            rows = list(connection.execute(select(builder).order_by(builder.c.id)))
        return waiting + [
            f"{row.name} is {row.cleanliness}, {row.enabled=}, {row.failures=} {row.disabled_reason}, and says "
            f"{self.machines[row.name].status}"
            for row in rows
            if row.cleanliness != "clean"
        ]

    def is_over(self) -> bool:
        """Whether all builds have ended, and all builders are clean."""
        if self.people.submitted < self.plan.builds or len(self.lives.living) < self.plan.masters:
            return False
        for name in self._out_of_service():  # By what was going on when all was repaired.
            self.people.enable(name)
        return not self.left()

    def _out_of_service(self) -> list[str]:
        with self.farm.reading() as connection:
            return list(connection.execute(select(builder.c.name).where(~builder.c.enabled)).scalars())

    def _check_the_end(self) -> None:
        """Nothing is lost, and nothing is said to be what it is not."""
        self.report.states = Counter(map(str, self.invariants.states.values()))
        self.report.lost = {name: len(self.invariants.lost.get(self.ids[name], ())) for name in self.machines}
        if len(self.invariants.states) != self.people.submitted:
            raise Broken(f"{self.people.submitted} builds were submitted, and there are {len(self.invariants.states)}")
        said: dict[str, set[BuildStatus]] = {}
        for machine in self.machines.values():
            for cookie, status in machine.said:
                said.setdefault(cookie, set()).add(status)
        with self.farm.reading() as connection:
            if missed := self.invariants.check_all(connection):
                raise Broken(f"nobody saw how these changed: {missed}")
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


def simulate(plan: Plan) -> Report:
    """One run, from beginning to end.

    :raises Broken: something is not as it must be; the message says what.
    """
    gc.freeze()  # What there was before is much, among other tests, and not to be gone through at each collection.
    try:
        world = World(plan)
        try:
            return world.run()
        finally:
            world.close()
    finally:
        gc.unfreeze()
