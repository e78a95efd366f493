"""All builders scanned at their own pace: what wakes a scan, and that nothing spins."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.web.xmlrpc import Fault

from buildd.protocol import BuilderStatus, BuildStatus
from buildmaster import builders, builds, files, gathering, inventory
from buildmaster.builder_client import Timeouts
from buildmaster.fleet import Fleet, Patrol
from buildmaster.lifecycle import BuildState
from buildmaster.pacing import Pace
from buildmaster.store import Sha256
from buildmaster.tests.factories import make_build, make_builder
from buildmaster.tests.fakes import WaitingBuilder
from buildmaster.tests.farm_case import SETTINGS, FarmCase

S = BuildState
SLOW = Pace(fastest_s=30.0, slowest_s=30.0)  # Whatever happens within a test did not happen by the clock.
QUICK = Pace(fastest_s=0.02, slowest_s=0.1)


class FleetCase(FarmCase):
    pace = QUICK

    def setUp(self) -> None:
        super().setUp()
        self.fleet: Fleet | None = None

    async def run_fleet(self) -> None:
        await self.snapshot.start()
        self.fleet = Fleet(self.work, self.fake.reactor, self.pace)
        await self.fleet.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        if self.fleet is not None:
            await self.fleet.stop()
        await super().tearDown()

    async def until(self, build_id: int, state: BuildState) -> None:
        """Wait for a state. At the slow pace, one that comes at all comes at once."""
        began = self.fake.reactor.seconds()
        while self.state(build_id) is not state:
            assert self.fake.reactor.seconds() - began < 15.0, f"still {self.state(build_id)}"
            await self.sleep(0.01)

    def submit_from_outside(self, version: str) -> None:
        """Queue a build in another process, as a command does."""
        code = (
            "import sys; from pathlib import Path\n"
            "from buildmaster.tests.factories import make_build, open_farm\n"
            "make_build(open_farm(Path(sys.argv[1])), 'outside', sys.argv[2])"
        )
        subprocess.run([sys.executable, "-c", code, str(self.farm.directory), version], check=True)


class TestPolled(FleetCase):
    async def test_many_builds(self) -> None:
        """Many builds on two builders are all built, each once."""
        other = self.make_fake(self.fake.reactor, duration_s=0.02)
        make_builder(self.farm, "other", other.listen())
        ids = [make_build(self.farm, f"source{number}") for number in range(12)]
        await self.run_fleet()
        for build_id in ids:
            await self.until(build_id, S.BUILT)
        assert sorted(self.fake.started + other.started) == sorted(builds.cookie(each) for each in ids)
        assert self.fake.started and other.started
        await other.stop()

    async def test_a_builder_that_tells_tales(self) -> None:
        """A builder that is never clean, however often it is cleaned, keeps nobody busy."""
        self.fake.extra_status = {
            "builder_status": "BuilderStatus.WAITING", "build_id": "x", "build_status": "BuildStatus.ABORTED",
        }  # fmt: skip
        with self.farm.transaction() as connection:
            builders.set_cleanliness(connection, self.builder_id, builders.Cleanliness.DIRTY)
        self.fake.clean = lambda: "BuilderStatus.IDLE"  # type: ignore[method-assign]
        await self.run_fleet()
        await self.sleep(0.5)
        assert self.fake.calls.count("clean") < 20 * 25  # 20 at once, 20 ms apart.
        calls = len(self.fake.calls)
        await self.sleep(0.5)
        assert len(self.fake.calls) - calls < 1000

    async def test_an_error_of_our_own(self) -> None:
        """A mistake of the master's own is logged and blames nobody; scanning goes on."""
        build_id = make_build(self.farm)
        real = self.work.gatherer.finish
        failed: list[bool] = []

        async def fails_once(*arguments: Any) -> BuildState:
            if not failed:
                failed.append(True)
                raise OSError("the disk is full")
            return await real(*arguments)  # type: ignore[no-any-return]

        self.work.gatherer.finish = fails_once
        await self.run_fleet()
        await self.until(build_id, S.BUILT)
        told = self.flushLoggedErrors(OSError)  # type: ignore[no-untyped-call]
        assert len(told) == 1 and self.vitals().failures == 0

    async def test_an_error_between_scans(self) -> None:
        """A mistake between two scans ends no builder's scans for good."""
        build_id = make_build(self.farm)
        self.fake.duration_s = None
        await self.run_fleet()
        await self.until(build_id, S.BUILDING)
        failed: list[bool] = []
        patrol = next(iter(self.fleet._patrols.values()))  # type: ignore[union-attr]
        to_end_s = patrol._to_end_s

        def fails_once(vitals: Any) -> float:
            if not failed:
                failed.append(True)
                raise ZeroDivisionError
            return to_end_s(vitals)

        patrol._to_end_s = fails_once  # type: ignore[method-assign]
        while not failed or not self.fake.started:
            await self.sleep(0.01)
        self.fake.end()
        await self.until(build_id, S.BUILT)
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1  # type: ignore[no-untyped-call]


class TestWoken(FleetCase):
    pace = SLOW
    make_fake = WaitingBuilder

    async def calls_between_builds(self) -> list[str]:
        """What the builder is called for from its first clean() to the next build that it has all files for."""
        ids = [make_build(self.farm, name) for name in ("aa", "bb")]
        await self.run_fleet()
        for build_id in ids:
            await self.until(build_id, S.BUILT)
        calls = [call for call in self.fake.calls if call in ("clean", "status", "build")]
        calls = calls[calls.index("clean") :]
        return calls[: calls.index("build") + 1]

    async def test_it_is_not_asked_what_it_has_just_said(self) -> None:
        """One that has wait() is idle when it answers clean(), and is given the next build at once."""
        assert await self.calls_between_builds() == ["clean", "build"]

    async def test_it_says_something_else(self) -> None:
        """What answers clean() with anything else than the protocol's word is asked for its status."""
        clean = self.fake.clean
        self.fake.clean = lambda: [clean()]  # type: ignore[method-assign, assignment, return-value]
        assert await self.calls_between_builds() == ["clean", "status", "build"]

    async def test_a_build_is_queued(self) -> None:
        """A build that is queued in this process is begun at once."""
        await self.run_fleet()
        await self.sleep(0.1)
        first = make_build(self.farm)
        await self.until(first, S.BUILT)
        build_id = await self.farm.transact(builds.add, 1, self.place, 1.0)
        await self.until(build_id, S.BUILT)

    async def test_wait(self) -> None:
        """The end of a build is heard at once where the builder has wait(), whatever the pace."""
        self.fake.duration_s = 0.5
        build_id = make_build(self.farm)
        await self.run_fleet()
        await self.until(build_id, S.BUILT)

    async def test_from_outside(self) -> None:
        """A build that another process queues is begun as soon as its commit is noticed."""
        await self.run_fleet()
        await self.sleep(0.1)
        self.submit_from_outside("1.0")
        await self.until(1, S.BUILT)

    async def test_wait_that_tells_tales(self) -> None:
        """A builder whose wait() and status() contradict each other, each time at once, keeps nobody busy."""
        make_build(self.farm)
        self.fake.duration_s = None
        await self.run_fleet()
        while not self.fake.started:
            await self.sleep(0.01)
        real, turns = self.fake.tell, [0]

        def tell() -> dict[str, object]:
            turns[0] += 1
            self.fake.status = (BuilderStatus.ABORTING, BuilderStatus.BUILDING)[turns[0] % 2]
            return real()

        self.fake.tell = tell  # type: ignore[method-assign]
        await self.sleep(1.0)
        assert turns[0] < 60

    async def test_cancel(self) -> None:
        """A build that is cancelled is stopped at once, though its scan rests."""
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        await self.run_fleet()
        await self.until(build_id, S.BUILDING)
        await self.sleep(0.2)
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)
        await self.until(build_id, S.CANCELLED)

    async def test_cancelled_while_a_look_fails(self) -> None:
        """What changes during a look at the builder is heeded at once, also when that look fails."""
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        self.fake.faults["wait"] = Fault(8001, "no such method")  # Or it would not be asked.
        await self.run_fleet()
        await self.until(build_id, S.BUILDING)
        await self.comes_true(lambda: self.patrol().rests)
        said: Deferred[dict[str, object]] = Deferred()
        real, self.fake.tell = self.fake.tell, lambda: said  # type: ignore[method-assign, assignment, return-value]
        calls = len(self.fake.calls)
        self.patrol()._sleep.cancel()  # type: ignore[union-attr] # Its time is over.
        await self.comes_true(lambda: "status" in self.fake.calls[calls:])
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)
        await self.comes_true(lambda: self.snapshot.builders[self.builder_id].job.state is S.CANCELLING)  # type: ignore
        self.fake.tell = real  # type: ignore[method-assign]
        said.errback(Fault(1, "not now"))
        await self.comes_true(lambda: "abort" in self.fake.calls)

    def patrol(self) -> Patrol:
        assert self.fleet is not None
        return self.fleet._patrols[self.builder_id]

    async def comes_true(self, condition: Callable[[], bool]) -> None:
        """Wait for something that comes within seconds, or not at all."""
        end = self.fake.reactor.seconds() + 15.0
        while not condition():
            assert self.fake.reactor.seconds() < end
            await self.sleep(0.01)

    async def test_a_new_builder(self) -> None:
        """A builder that is added is scanned from then on; one that is put back into service as well."""
        with self.farm.transaction() as connection:
            builders.disable(connection, "x86", "by hand")
        build_id = make_build(self.farm)
        await self.run_fleet()
        await self.sleep(0.1)
        other = self.make_fake(self.fake.reactor)
        make_builder(self.farm, "other", other.listen())
        await self.until(build_id, S.BUILT)
        with self.farm.transaction() as connection:
            builders.enable(connection, "x86")
            builders.disable(connection, "other", "by hand")
        again = make_build(self.farm, "again")
        await self.until(again, S.BUILT)
        assert self.fake.started == [builds.cookie(again)]
        await other.stop()

    async def test_nothing_spins(self) -> None:
        """An idle farm, a paused build in the queue, and a running build: hardly a call, hardly a query."""
        build_id = make_build(self.farm)
        with self.farm.transaction() as connection:
            connection.exec_driver_sql(f"UPDATE build_queue SET not_before = {self.now + 800}")
        other = self.make_fake(self.fake.reactor, duration_s=None)
        self.fake.duration_s = None
        make_builder(self.farm, "other", other.listen())
        await self.run_fleet()
        running = make_build(self.farm, "running")
        while not (self.fake.started or other.started):
            await self.sleep(0.01)
        await self.sleep(0.8)
        assert self.fake.status is BuilderStatus.IDLE or other.status is BuilderStatus.IDLE
        calls, generation = len(self.fake.calls + other.calls), self.snapshot.generation
        await self.sleep(0.7)
        assert len(self.fake.calls + other.calls) - calls <= 2
        assert self.snapshot.generation - generation <= 2
        assert self.state(build_id) is S.NEEDS_BUILD
        self.fake.duration_s = other.duration_s = 0.0
        for fake in (self.fake, other):
            if fake.status is BuilderStatus.BUILDING:
                fake.end()
        await self.until(running, S.BUILT)
        await other.stop()

    async def test_it_stops_in_mid_build(self) -> None:
        """A master that ends leaves the build to its builder; the next one collects it."""
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        await self.run_fleet()
        while not self.fake.started:
            await self.sleep(0.01)
        assert self.fleet is not None
        await self.fleet.stop()
        calls = len(self.fake.calls)
        self.fake.end()
        await self.sleep(0.1)
        assert len(self.fake.calls) == calls and self.state(build_id) is S.BUILDING
        self.fleet = Fleet(self.work, self.fake.reactor, self.pace)
        await self.fleet.start()
        await self.until(build_id, S.BUILT)
        assert self.fake.started == [builds.cookie(build_id)]


class TestDeletedMeanwhile(FleetCase):
    async def test_results_that_are_deleted_before_they_are_recorded(self) -> None:
        """`store check` may delete a file that nobody refers to yet: nothing is recorded, nobody is blamed, and all is
        fetched anew until the file is there for certain."""
        self.patch(inventory, "YOUNG_S", 0.0)  # type: ignore[no-untyped-call]
        check = self.work.gatherer._check
        deleted: list[Sha256] = []

        async def check_and_delete(*arguments: object) -> None:
            await check(*arguments)
            if not deleted:
                how = inventory.How(delete_unreferenced=True, older_than_s=0.0)
                report = inventory.check(self.farm, how, lambda: time.time() + 1)
                deleted.extend(each.sha256 for each in report.findings if each.deleted)
                assert not any(self.farm.store.has(each) for each in deleted)  # They soon come again.

        self.work.gatherer._check = check_and_delete
        build_id = make_build(self.farm)
        said: list[str] = []
        observer = said_in(said)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        await self.run_fleet()
        while not said:
            await self.sleep(0.01)
        assert len(deleted) >= 2
        assert self.state(build_id) is S.GATHERING and self.results(build_id) == []
        self.patch(files, "_DOUBT_S", -1.0)  # type: ignore[no-untyped-call] # A minute later.
        await self.until(build_id, S.BUILT)
        assert self.results(build_id) == ["hello_1.0_amd64.changes", "hello_1.0_amd64.deb"]
        assert all(self.farm.store.has(each) for each in deleted)
        assert (self.vitals().failures, self.vitals().trouble, self.build(build_id).failures) == (0, "", 0)


def said_in(said: list[str]) -> ILogObserver:
    """An observer that appends warnings about deleted files."""

    def observe(event: Any) -> None:
        if "was just deleted" in (text := formatEvent(event)):
            said.append(text)

    return observe  # type: ignore[return-value]


class TestCutShort(FleetCase):
    """Transfers that would take for ever end when nobody wants them any more."""

    pace = SLOW
    make_fake = WaitingBuilder
    settings = dataclasses.replace(SETTINGS, timeouts=Timeouts(rpc_s=60.0, fetch_s=60.0, silence_s=60.0))

    async def sending(self) -> int:
        """A build whose first file is being sent, and never arrives."""
        self.hangs: Deferred[list[object]] = Deferred()

        async def hang(sha1: str, url: str) -> list[object]:
            return await self.hangs

        self.fake.fetch = hang  # type: ignore[method-assign]
        build_id = make_build(self.farm)
        await self.run_fleet()
        while "ensurepresent" not in self.fake.calls:
            await self.sleep(0.01)
        await self.sleep(0.1)
        return build_id

    async def ends(self, build_id: int, state: BuildState) -> None:
        await self.until(build_id, state)
        assert self.fake.started == [] and (self.vitals().failures, self.build(build_id).failures) == (0, 0)
        self.hangs.callback([False, "gave up"])

    async def test_cancelled_while_it_is_sent(self) -> None:
        """A build that is cancelled while its files are sent is cancelled at once, and blames nobody."""
        build_id = await self.sending()
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)
        await self.ends(build_id, S.CANCELLED)

    async def test_disabled_while_it_is_sent(self) -> None:
        """A builder that is taken out of service while it is sent files loses the build at once, and says why."""
        build_id = await self.sending()
        with self.farm.transaction() as connection:
            builders.disable(connection, "x86", "by hand")
        await self.ends(build_id, S.NEEDS_BUILD)
        assert self.build(build_id).reason == "x86 was taken out of service before it began"

    async def dripping(self, outcome: BuildStatus, state: BuildState) -> int:
        """A build that ended so, and whose files or log take for ever."""
        self.fake.outcome, self.fake.log = outcome, b"x" * 10_000
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        await self.run_fleet()
        while not self.fake.started:
            await self.sleep(0.01)
        self.fake.drips = True
        self.fake.end()
        await self.until(build_id, state)
        await self.sleep(0.3)
        return build_id

    async def test_disabled_while_results_come(self) -> None:
        """A builder that is taken out of service while its results are fetched is asked for no more of them."""
        build_id = await self.dripping(BuildStatus.OK, S.GATHERING)
        with self.farm.transaction() as connection:
            builders.disable(connection, "x86", "by hand")
        await self.until(build_id, S.NEEDS_BUILD)
        await self.sleep(0.1)
        assert not list(self.directory.rglob("*.part"))

    async def test_cancelled_while_results_come(self) -> None:
        """A build that is cancelled while its results are fetched is cancelled at once, with its log and nothing else;
        nobody is blamed, and its builder has the next build."""
        build_id = await self.dripping(BuildStatus.OK, S.GATHERING)
        self.fake.drips = False
        with self.farm.transaction() as connection:
            assert builds.cancel(connection, build_id, self.now) is S.CANCELLING
        await self.until(build_id, S.CANCELLED)
        row = self.build(build_id)
        assert row.log_name.endswith("_CANCELLED.txt.gz") and row.reason == "cancelled by hand"
        assert self.results(build_id) == [] and self.queue_row(build_id) is None
        assert (self.vitals().failures, row.failures) == (0, 0)
        assert not list(self.directory.rglob("*.part"))
        self.fake.duration_s = 0.01
        await self.until(make_build(self.farm, "next"), S.BUILT)

    async def test_cancelled_while_the_log_comes(self) -> None:
        """A build that is cancelled while the log of its failure is fetched does not wait for all of it."""
        self.patch(gathering, "_AT_ONCE_S", 0.3)  # type: ignore[no-untyped-call]
        build_id = await self.dripping(BuildStatus.PACKAGEFAIL, S.BUILDING)
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)
        await self.until(build_id, S.CANCELLED)
        assert self.build(build_id).log_file_id is None
