"""A master in simulated time: the real parts, put together as the service does it, on a database without a thread."""

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from buildmaster import masters
from buildmaster.builders import Vitals
from buildmaster.commits import CannotSee
from buildmaster.database import CommitUncertain, DatabaseLost
from buildmaster.farm import Farm
from buildmaster.fleet import Fleet
from buildmaster.leases import Leases
from buildmaster.pacing import Pace
from buildmaster.snapshot import Snapshot
from buildmaster.tests.factories import open_farm
from buildmaster.tests.simulation.clock import MasterReactor
from buildmaster.tests.simulation.machines import Machine
from buildmaster.tests.simulation.network import SimHttp
from buildmaster.tests.simulation.publications import SimArchive, SimExaminer
from buildmaster.workshop import WorkSettings, make_work

EPOCH = 1_700_000_000.0  # Unix time when the clock says 0.
_ARCHIVE_POLL_S = 2.5
_STATEMENTS: Any = {}  # Compiled, for all masters: most have a short life.


class Surroundings(Protocol):
    """What a master is in."""

    farm: Farm
    machines: Mapping[str, Machine]
    archive: SimArchive

    def committed(self, what: str, by: "SimMaster | None" = None, about: int | None = None) -> None:
        """Something was committed, before anybody goes on."""

    def acts(self, master: "SimMaster", machine: Machine, what: str) -> None:
        """A master sends a machine what has an effect."""


@dataclass(frozen=True)
class Character:
    """What kind of master it is."""

    shared: bool = False  # There are others.
    lease_s: float = 30.0
    fast_s: float = 0.0  # By how much its machine's clock is wrong.
    uncertain: float = 0.0  # How many of its commits it does not hear of, from 0 to 1.


@dataclass
class SimCommits:
    """What PostgreSQL tells one master of commits by others; see commits.Commits."""

    wake: Callable[[], None]
    is_blind: Callable[[], bool]
    _seen: bool = False
    _about: set[int] | None = field(default_factory=set)

    def tell(self, about: int | None) -> None:
        self._seen = True
        if about is None:
            self._about = None
        elif self._about is not None:
            self._about.add(about)
        self.wake()

    def seen(self) -> bool:
        if self.is_blind():
            self._about = None
            raise CannotSee("no route")
        seen, self._seen = self._seen, False
        return seen

    def by_others(self, connection: Connection) -> Collection[int] | None:
        about, self._about = self._about, set()
        return about

    def close(self) -> None:
        """Nobody asks any more."""


class SimLeases(Leases):
    """Leases whose own thread is none."""

    write: Callable[..., Any]  # Set by who makes it.

    async def _write(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.write(function, *args, **kwargs)


class SimMaster:
    """One life of a master. It dies at a point, or when it is told to."""

    def __init__(
        self, name: str, reactor: MasterReactor, chance: random.Random, world: Surroundings, its: Character
    ) -> None:
        self.name = name
        self.reactor = reactor
        self.ids: set[int] = set()  # By which it was known.
        self.commits: SimCommits | None = None
        self.trouble_until = reactor.seconds()  # By the clock: when it began, or last had trouble with its database.
        self.ends = False
        self._chance = chance
        self._world = world
        self._its = its
        self.farm = open_farm(world.farm.directory)
        self._take_over_database()
        some: Any = reactor  # As far as it is asked for.
        self.snapshot = Snapshot(self.farm, some, poll_s=0.5)
        lease: Any = {"name": name, "lease_s": its.lease_s, "alone": not its.shared}
        self.leases = SimLeases(self.farm, self.snapshot, some, reactor.seconds, **lease)
        self.leases.write = self._write
        http = SimHttp(reactor, world.machines, lambda machine, what: world.acts(self, machine, what))
        work = make_work(
            self.farm, some, self.snapshot, http, self.leases, files_url="http://master",
            settings=WorkSettings(looks=True), now=self._now, clock=reactor.seconds,
        )  # fmt: skip
        self.fleet = Fleet(work, some, Pace())
        archive = (world.archive, self._moment)
        self.examiner = SimExaminer(*archive, self.farm, some, self.snapshot, _ARCHIVE_POLL_S, now=self._now)

    def _now(self) -> float:
        return EPOCH + self.reactor.seconds() + self._its.fast_s

    async def _start(self) -> None:
        await self.snapshot.start()
        await self.fleet.start()
        self.examiner.start()

    def begin(self) -> None:
        """Start. If that fails, the process ends."""
        Deferred.fromCoroutine(self._start()).addErrback(lambda _: self.reactor.die("start"))

    def end(self) -> None:
        """Stop, as when it is told to by a signal."""
        self.ends = True
        Deferred.fromCoroutine(self._stop()).addBoth(lambda _: self.reactor.die("its end"))

    async def _stop(self) -> None:
        self.snapshot.stop()
        await self.examiner.stop()
        await self.fleet.stop()

    def lose_database(self, seconds: float) -> None:
        """Reach the database no more, for a while."""
        self.trouble_until = self.reactor.seconds() + seconds

    def has_trouble(self, since: float) -> bool:
        """Whether it had to do with anything but its work since then."""
        return self.ends or max(self.trouble_until, self.reactor.still_until) >= since

    def bury(self) -> None:
        """Close what the kernel would close."""
        self.farm.database.engine.dispose()

    # The database

    def _take_over_database(self) -> None:
        """Let the database do its work at once, in this thread, with points before and after; and with a moment now and
        then in which others come first, as threads have it."""
        database: Any = self.farm.database
        database.engine = database.engine.execution_options(compiled_cache=_STATEMENTS)

        async def transact(function: Callable[..., Any], *args: Any, **more: Any) -> Any:
            return await self._transact(None, function, *args, **more)

        database.transact, database.transact_about, database.read = transact, self._transact, self._read
        if self._its.shared:
            database.commits = self._commits

    async def _transact(self, about: int | None, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        database = self.farm.database
        try:
            result, seen = await self._commit(about, function, *args, **more)
        except CommitUncertain:
            database.on_commit(about, None)
            raise
        database.on_commit(about, seen)
        return result

    async def _write(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        result, _ = await self._commit(None, function, *args, **more)
        return result

    async def _commit(
        self, about: int | None, function: Callable[..., Any], *args: Any, **more: Any
    ) -> tuple[Any, Vitals | None]:
        """What a transaction returns, and how it leaves the builder that it is about."""
        name = getattr(function, "__name__", "commit")
        await self._moment(f"before {name}")
        self._must_reach_database()
        database = self.farm.database
        with database.transaction() as connection:
            result = function(connection, *args, **more)
            seen = None if about is None else database.look(connection, about)
        if function is masters.join:
            self.ids.add(result)
        self._world.committed(name, self, about)
        await self._moment(f"after {name}")
        if self._chance.random() < self._its.uncertain:
            raise CommitUncertain("the connection was closed")
        return result, seen

    async def _read(self, function: Callable[[Connection], Any], *args: Any, **more: Any) -> Any:
        await self._moment("before a look")
        self._must_reach_database()
        with self.farm.database.reading() as connection:
            return function(connection, *args, **more)

    def _must_reach_database(self) -> None:
        if self.reactor.seconds() < self.trouble_until:
            raise DatabaseLost("no route")

    def _commits(self, wake: Callable[[], None], _poll_s: float) -> SimCommits:
        self.commits = SimCommits(wake, lambda: self.reactor.seconds() < self.trouble_until)
        return self.commits

    async def _moment(self, where: str) -> None:
        await self.reactor.point(where)
        if self._chance.random() < 0.3:
            await self.reactor.sleep(self._chance.uniform(0.0, 0.05))
