"""A farm, a fake builder and the real scans between them, over HTTP on the loopback."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from buildmaster import builders, builds
from buildmaster.builder_client import BuilderClient, Timeouts
from buildmaster.builder_http import BuilderHttp
from buildmaster.builders import Cleanliness, Vitals
from buildmaster.fetching import Limits
from buildmaster.file_server import file_site
from buildmaster.leases import Unshared
from buildmaster.lifecycle import BuildState
from buildmaster.scanner import Scanner
from buildmaster.snapshot import Snapshot
from buildmaster.tables import build_file, build_queue, master
from buildmaster.tests.factories import make_builder, make_farm, make_series
from buildmaster.tests.fakes import FakeBuilder
from buildmaster.workshop import WorkSettings, make_work

SETTINGS = WorkSettings(Timeouts(rpc_s=2.0, fetch_s=2.0, silence_s=0.5), Limits(pause_s=0.01, file_bytes=1 << 20))


class FarmCase(TestCase):
    """A farm with one series and one builder, `x86`, which the fake `self.fake` is."""

    make_fake: Any = FakeBuilder
    settings = SETTINGS

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.farm = make_farm(self.directory)
        self.place = make_series(self.farm)
        self.fake: FakeBuilder = self.make_fake(reactor)
        self.builder_id = make_builder(self.farm, url=self.fake.listen())
        self.farm.start(reactor)  # type: ignore[arg-type]
        self.http = BuilderHttp(reactor)
        self.files = reactor.listenTCP(0, file_site(self.farm.store, reactor), interface="127.0.0.1")  # type: ignore
        self.snapshot = Snapshot(self.farm, reactor, 0.05)
        self.now = 1_000_000.0  # Read by the work below; tests move it.
        self.work = self._make_work()

    def _make_work(self) -> Any:
        import dataclasses  # noqa: PLC0415

        url = f"http://127.0.0.1:{self.files.getHost().port}"  # type: ignore[attr-defined]
        tenure = Unshared(self.farm)
        work = make_work(
            self.farm,
            reactor,  # type: ignore[arg-type]
            self.snapshot,
            self.http,
            tenure,
            files_url=url,
            settings=self.settings,
            now=lambda: self.now,
        )
        return dataclasses.replace(work, clock=lambda: self.now)

    async def tearDown(self) -> None:  # type: ignore[override]
        self.snapshot.stop()
        await self.work.tenure.acts.ended(reactor, 3.0)
        await self.fake.stop()
        await self.http.close()
        await self.files.stopListening()  # type: ignore[misc]
        self.farm.close()
        shutil.rmtree(self.directory)

    def scanner(self) -> Scanner:
        """A scanner as a master that has just been started has it."""
        return Scanner(self.builder_id, self.work, Logger(namespace="test"))

    async def scan(self, scanner: Scanner, times: int = 1) -> Any:
        """So many scans, each with a picture that is fresh."""
        for _ in range(times):
            await self.snapshot.take()
            progress = await scanner.scan()
        return progress

    async def scan_until(self, build_id: int, *states: BuildState, scanner: Scanner | None = None) -> BuildState:
        """Scan until a build is in one of these states."""
        scanner = scanner or self.scanner()
        for _ in range(200):
            await self.scan(scanner)
            if (state := self.state(build_id)) in states:
                return state
            await self.sleep(0.01)
        raise AssertionError(f"build {build_id} is still {self.state(build_id)}")

    async def sleep(self, seconds: float) -> None:
        await deferLater(reactor, seconds)

    def client(self) -> BuilderClient:
        return self.work.client(self.fake.url)  # type: ignore[no-any-return]

    def state(self, build_id: int) -> BuildState:
        return BuildState(self.build(build_id).state)

    def build(self, build_id: int) -> builds.AnyRow:
        with self.farm.reading() as connection:
            return builds.find(connection, build_id)

    def queue_row(self, build_id: int) -> Any:
        with self.farm.reading() as connection:
            return connection.execute(select(build_queue).where(build_queue.c.build_id == build_id)).first()

    def results(self, build_id: int) -> list[str]:
        query = select(build_file.c.name).where(build_file.c.build_id == build_id).order_by(build_file.c.name)
        with self.farm.reading() as connection:
            return list(connection.execute(query).scalars())

    def vitals(self) -> Vitals:
        with self.farm.reading() as connection:
            found = builders.by_id(connection, self.builder_id)
        assert found is not None
        return found

    def bury(self, pid: int | None) -> None:
        """Have a master that died forgotten at once, as others do when its lease is over, on PostgreSQL: that they do,
        and when, is tried by test_leases and test_many_masters."""
        with self.farm.transaction() as connection:
            connection.execute(delete(master).where(master.c.name.endswith(f":{pid}")))

    def set_cleanliness(self, cleanliness: Cleanliness) -> None:
        with self.farm.transaction() as connection:
            builders.set_cleanliness(connection, self.builder_id, cleanliness)
