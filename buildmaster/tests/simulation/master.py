"""A master in simulated time: the real parts, put together as the service does it, on a database without a thread."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from buildmaster.fleet import Fleet
from buildmaster.leases import Unshared
from buildmaster.pacing import Pace
from buildmaster.snapshot import Snapshot
from buildmaster.tests.factories import open_farm
from buildmaster.tests.simulation.clock import MasterReactor
from buildmaster.tests.simulation.machines import Machine
from buildmaster.tests.simulation.network import SimHttp
from buildmaster.workshop import WorkSettings, make_work

EPOCH = 1_700_000_000.0  # Unix time when the clock says 0.


class SimMaster:
    """One life of a master. It dies at a point, or when it is told to."""

    def __init__(
        self,
        directory: Path,
        reactor: MasterReactor,
        machines: Mapping[str, Machine],
        chance: random.Random,
        on_commit: Callable[[str], None],
    ) -> None:
        """:param on_commit: called with the name of each function that has been committed, before anybody goes on."""
        self.reactor = reactor
        self._chance = chance
        self._on_commit = on_commit
        self.farm = open_farm(directory)
        self._take_over_database()
        some_reactor: Any = reactor  # As far as it is asked for.
        self.snapshot = Snapshot(self.farm, some_reactor, poll_s=0.5)
        http = SimHttp(reactor, machines)
        work = make_work(
            self.farm, some_reactor, self.snapshot, http, Unshared(self.farm), files_url="http://master",
            settings=WorkSettings(), now=lambda: EPOCH + reactor.seconds(), clock=reactor.seconds,
        )  # fmt: skip
        self.fleet = Fleet(work, some_reactor, Pace())

    async def start(self) -> None:
        await self.snapshot.start()
        await self.fleet.start()

    def begin(self) -> None:
        Deferred.fromCoroutine(self.start())

    def bury(self) -> None:
        """Close what the kernel would close."""
        self.farm.database.engine.dispose()
        self.farm.database.engine.clear_compiled_cache()  # Some MB.

    def _take_over_database(self) -> None:
        """Let the database do its work at once, in this thread, with points before and after; and with a moment now and
        then in which others come first, as threads have it."""
        database: Any = self.farm.database

        async def transact_about(about: int | None, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
            name = getattr(function, "__name__", "commit")
            await self._moment(f"before {name}")
            with database.transaction() as connection:
                result = function(connection, *args, **more)
            self._on_commit(name)
            await self._moment(f"after {name}")
            database.on_commit(about)
            return result

        async def transact(function: Callable[..., Any], *args: Any, **more: Any) -> Any:
            return await transact_about(None, function, *args, **more)

        async def read(function: Callable[[Connection], Any], *args: Any, **more: Any) -> Any:
            await self._moment("before a look")
            with database.reading() as connection:
                return function(connection, *args, **more)

        database.transact, database.transact_about, database.read = transact, transact_about, read

    async def _moment(self, where: str) -> None:
        await self.reactor.point(where)
        if self._chance.random() < 0.3:
            await self.reactor.sleep(self._chance.uniform(0.0, 0.05))
