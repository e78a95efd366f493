"""Scans of builders that lose builds, fail, or do not stop; and of builds that nobody wants any more."""

import errno
import threading
from typing import NoReturn

import pytest
from sqlalchemy import Connection, update
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.xmlrpc import Fault

from buildd.protocol import BuilderStatus, BuildStatus
from buildmaster import builders, builds, gathering, listings, queue
from buildmaster.builders import Cleanliness, Vitals
from buildmaster.lifecycle import BuildState, Event
from buildmaster.pacing import Progress
from buildmaster.scanner import Scanner
from buildmaster.tables import archive, builder
from buildmaster.tests import databases
from buildmaster.tests.factories import make_build, make_builder, make_busy
from buildmaster.tests.farm_case import FarmCase

S = BuildState
DAY_S = 86400.0


def full_store() -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


class TestCancelling(FarmCase):
    async def cancelled_while_building(self, name: str = "hello") -> int:
        self.fake.duration_s = None
        build_id = make_build(self.farm, name)
        await self.scan_until(build_id, S.BUILDING)
        with self.farm.transaction() as connection:
            assert builds.cancel(connection, build_id, self.now) is S.CANCELLING
        return build_id

    async def test_it_is_stopped(self) -> None:
        """A build that is cancelled is stopped on its builder, and CANCELLED with its log, and what was said then."""
        self.fake.extra_status = {"reason": "it was aborted"}
        build_id = await self.cancelled_while_building()
        await self.scan_until(build_id, S.CANCELLED)
        assert self.build(build_id).log_name.endswith("_CANCELLED.txt.gz")
        assert self.build(build_id).reason == "cancelled by hand"
        assert self.vitals().failures == 0

    async def test_it_ends_well_meanwhile(self) -> None:
        """A build that ends well while it is being cancelled is cancelled all the same; its log is kept."""
        build_id = await self.cancelled_while_building()
        self.fake.end()
        await self.scan_until(build_id, S.CANCELLED)
        assert self.results(build_id) == []
        assert self.build(build_id).log_name.endswith("_CANCELLED.txt.gz")

    async def ended_unseen(self) -> tuple[int, Scanner]:
        """A build that has ended well on its builder since the last scan; and its builder's scanner."""
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        self.fake.end()
        return build_id, scanner

    async def test_cancelled_when_it_has_just_ended_well(self) -> None:
        """Nor is there a moment for that in which it is built all the same: here the picture does not show it yet."""
        build_id, scanner = await self.ended_unseen()
        await self.snapshot.take()
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)
        await scanner.scan()
        assert self.state(build_id) is S.CANCELLED and self.results(build_id) == []
        assert self.build(build_id).log_name.endswith("_CANCELLED.txt.gz")

    async def test_cancelled_when_all_of_it_has_just_come(self) -> None:
        """What was fetched before the cancellation was seen is not kept."""
        build_id, scanner = await self.ended_unseen()
        check = self.work.gatherer._check

        async def check_and_cancel(*arguments: object) -> None:
            await check(*arguments)
            with self.farm.transaction() as connection:
                builds.cancel(connection, build_id, self.now)

        self.work.gatherer._check = check_and_cancel
        await self.scan(scanner)
        row = self.build(build_id)
        assert self.state(build_id) is S.CANCELLED and self.results(build_id) == []
        assert row.log_name.endswith("_CANCELLED.txt.gz") and row.reason == "cancelled by hand"

    async def test_its_builder_fails_meanwhile(self) -> None:
        """A builder that says that it failed does not keep a cancelled build by a log that cannot be had."""
        build_id = await self.cancelled_while_building()
        self.fake.outcome, self.fake.log, self.fake.break_off = BuildStatus.BUILDERFAIL, b"x" * 1000, 100
        self.fake.end()
        await self.scan(self.scanner())
        assert self.state(build_id) is S.CANCELLED
        assert self.vitals().failures == 1 and not self.build(build_id).log_name

    async def test_it_does_not_stop(self) -> None:
        """After 180 s the build is CANCELLED and the builder is blamed."""
        self.fake.abort_s = None
        build_id = await self.cancelled_while_building()
        scanner = self.scanner()
        await self.scan(scanner)
        self.now += 179
        await self.scan(scanner, 3)
        assert self.state(build_id) is S.CANCELLING and self.vitals().failures == 0
        self.now += 2
        await self.scan(scanner)
        assert self.state(build_id) is S.CANCELLED and self.vitals().failures == 1

    async def test_cancelled_once_more(self) -> None:
        """A build that is retried, begun there again and cancelled again has its 180 s anew."""
        build_id = await self.cancelled_while_building()
        scanner = self.scanner()
        await self.scan_until(build_id, S.CANCELLED, scanner=scanner)
        with self.farm.transaction() as connection:
            builds.retry(connection, build_id, self.now)
        self.now += 1000
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)
        await self.scan_until(build_id, S.CANCELLED, scanner=scanner)
        assert self.fake.calls.count("abort") == 2 and self.vitals().failures == 0
        assert self.build(build_id).reason == "cancelled by hand"

    async def test_the_store_is_full(self) -> None:
        """A log that cannot be stored does not keep a cancelled build, and is no failure of the builder."""
        build_id = await self.cancelled_while_building()
        self.patch(self.farm.store, "writer", full_store)  # type: ignore[no-untyped-call]
        await self.scan_until(build_id, S.CANCELLED)
        assert self.vitals().failures == 0 and self.build(build_id).log_file_id is None

    async def test_whatever_its_builder_says(self) -> None:
        """A cancelled build keeps what was said when it was cancelled, however its builder ends it."""
        for outcome in (BuildStatus.PACKAGEFAIL, BuildStatus.BUILDERFAIL, BuildStatus.GIVENBACK):
            self.fake.outcome = outcome
            build_id = await self.cancelled_while_building(outcome.name.lower())
            self.fake.end()
            await self.scan_until(build_id, S.CANCELLED)
            assert self.build(build_id).reason == "cancelled by hand"

    @pytest.mark.skipif(not databases.on_postgresql(), reason="SQLite is asked by one thread, in turn")
    async def test_cancelled_while_the_picture_is_old(self) -> None:
        """What the picture shows by now counts, though the database was asked before: whoever was told of the change
        then is not told again."""
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        by_id = builders.by_id

        def slow(connection: Connection, builder_id: int) -> Vitals | None:
            found = by_id(connection, builder_id)
            asked_it.set()
            late.wait(10)
            return found

        asked_it, late = threading.Event(), threading.Event()
        self.patch(builders, "by_id", slow)  # type: ignore[no-untyped-call]
        self.snapshot.stale(self.builder_id)
        asked = Deferred.fromCoroutine(self.snapshot.vitals(self.builder_id))
        await deferToThread(asked_it.wait, 10)
        await deferToThread(self.cancel, build_id)
        self.snapshot.generation += 1
        await self.snapshot.take()
        late.set()
        vitals = await asked
        assert vitals is not None and vitals.job is not None and vitals.job.state is S.CANCELLING

    def cancel(self, build_id: int) -> None:
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)

    async def test_its_builder_is_gone(self) -> None:
        """The 180 s also count when the builder does not answer at all."""
        build_id = await self.cancelled_while_building()
        await self.fake.stop()
        scanner = self.scanner()
        await self.scan(scanner)
        self.now += 181
        await self.scan(scanner)
        assert self.state(build_id) is S.CANCELLED

    async def test_cancelled_while_no_master_ran(self) -> None:
        """A builder that was not told for longer than 180 s, since no master ran, is told first, and not blamed."""
        build_id = await self.cancelled_while_building()
        self.now += 1000
        await self.scan(self.scanner())
        assert self.fake.calls.count("abort") == 1
        await self.scan_until(build_id, S.CANCELLED)
        assert self.vitals().failures == 0

    async def test_its_builder_forgot(self) -> None:
        """A build that is being cancelled and was forgotten is cancelled, not queued."""
        build_id = await self.cancelled_while_building()
        self.fake.forget()
        await self.scan(self.scanner())
        assert self.state(build_id) is S.CANCELLED

    async def test_between_claim_and_start(self) -> None:
        """A build that is cancelled while its files are sent is never begun."""
        build_id = make_build(self.farm)
        fetch = self.fake.fetch

        async def cancel_and_fetch(sha1: str, url: str) -> list[object]:
            with self.farm.transaction() as connection:
                builds.cancel(connection, build_id, self.now)
            return await fetch(sha1, url)

        self.fake.fetch = cancel_and_fetch  # type: ignore[method-assign]
        await self.scan_until(build_id, S.CANCELLED)
        assert self.fake.started == []

    async def test_disabled_between_claim_and_start(self) -> None:
        """A builder that is disabled while it is sent files begins no build, which is queued again."""
        build_id = make_build(self.farm)
        fetch = self.fake.fetch

        async def disable_and_fetch(sha1: str, url: str) -> list[object]:
            with self.farm.transaction() as connection:
                builders.disable(connection, "x86", "by hand")
            return await fetch(sha1, url)

        self.fake.fetch = disable_and_fetch  # type: ignore[method-assign]
        await self.scan(self.scanner())
        assert self.state(build_id) is S.NEEDS_BUILD and self.vitals().failures == 0
        assert self.fake.started == []


class TestLostBuilders(FarmCase):
    async def building(self) -> int:
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILDING)
        return build_id

    async def test_forgotten(self) -> None:
        """A builder that does not know its build has lost it: queued again at once, with the warning, nobody blamed."""
        build_id = await self.building()
        self.fake.forget()
        await self.scan(self.scanner())
        assert self.state(build_id) is S.NEEDS_BUILD
        assert self.build(build_id).failures == self.vitals().failures == 0
        assert self.queue_row(build_id).not_before <= self.now
        self.fake.duration_s = 0.01
        await self.scan_until(build_id, S.BUILT)

    async def test_another_build(self) -> None:
        """A builder with a build id that is not the cookie has lost the build as well."""
        build_id = await self.building()
        self.fake.build_id = "PACKAGEBUILD-77"
        await self.scan(self.scanner())
        assert self.state(build_id) is S.NEEDS_BUILD

    async def test_taken_out_of_service(self) -> None:
        """A builder that is taken out of service loses its build, without being asked."""
        build_id = await self.building()
        with self.farm.transaction() as connection:
            builders.disable(connection, "x86", "by hand")
        self.fake.calls.clear()
        await self.scan(self.scanner())
        assert self.state(build_id) is S.NEEDS_BUILD and self.fake.calls == []

    async def test_a_builder_that_is_away_for_a_moment(self) -> None:
        """Four scans in a row that fail are no failure: the build goes on when the builder is back."""
        build_id = await self.building()
        port = self.fake.port.getHost().port
        scanner = self.scanner()
        await self.fake.stop()
        for _ in range(4):
            assert await self.scan(scanner) is Progress.FAILED
        self.fake.listen(port)
        await self.scan(scanner)
        assert self.state(build_id) is S.BUILDING and self.vitals().failures == 0

    async def test_a_builder_that_talks_nonsense(self) -> None:
        """Fifteen failed scans in a row are three failures of both: the build is queued again. Twenty-five, and the
        builder is out of service."""
        build_id = await self.building()
        self.fake.extra_status = {"builder_status": "BuilderStatus.DREAMING"}
        scanner = self.scanner()
        await self.scan(scanner, 14)
        assert self.state(build_id) is S.BUILDING and self.vitals().failures == 2
        await self.scan(scanner)
        assert self.state(build_id) is S.NEEDS_BUILD and self.build(build_id).failures == 3
        await self.scan(scanner, 10)
        assert not self.vitals().enabled and self.vitals().failures == 5

    async def test_a_builder_that_stays_away(self) -> None:
        """However often it was asked in vain, it is the clock that counts; without a build, how often."""
        build_id = await self.building()
        scanner = self.scanner()
        await self.scan(scanner)
        scanner.client(self.vitals()).now = lambda: self.now  # type: ignore[method-assign]
        await self.scan(scanner)
        await self.fake.stop()
        self.now += 49
        await self.scan(scanner, 30)
        assert self.state(build_id) is S.BUILDING and self.vitals().failures == 0
        self.now += 1
        await self.scan(scanner)
        assert self.state(build_id) is S.NEEDS_BUILD and self.build(build_id).failures == 1
        await self.scan(scanner, 19)
        assert self.vitals().enabled and self.vitals().failures == 4
        await self.scan(scanner)
        assert not self.vitals().enabled and self.vitals().failures == 5

    async def test_a_lost_builder_comes_back(self) -> None:
        """A builder that comes back with a build that is no longer its own is cleaned; what it made is not taken."""
        build_id = await self.building()
        with self.farm.transaction() as connection:
            builders.disable(connection, "x86", "by hand")
        scanner = self.scanner()
        await self.scan(scanner)
        other = self.make_fake(self.fake.reactor)
        other_id = make_builder(self.farm, "other", other.listen())
        with self.farm.transaction() as connection:
            builders.enable(connection, "x86")
        self.fake.end()
        await self.scan(scanner, 4)
        assert self.fake.status is BuilderStatus.IDLE and self.state(build_id) is S.NEEDS_BUILD
        self.builder_id = other_id
        await self.scan_until(build_id, S.BUILT)
        assert self.build(build_id).builder_id == other_id
        await other.stop()


class TestTroubleIsShown(FarmCase):
    def told(self) -> tuple[str, str, float | None]:
        with self.farm.reading() as connection:
            (found,) = listings.builders(connection)
        return found.state, found.trouble, found.trouble_since

    async def test_while_it_lasts(self) -> None:
        """From the first scan that fails it is known why, and since when; not any more once one went well."""
        port = self.fake.port.getHost().port
        await self.fake.stop()
        scanner = self.scanner()
        await self.scan(scanner)
        state, trouble, since = self.told()
        assert (state, since) == ("failing", self.now) and "refused" in trouble
        self.now += 60
        self.fake.listen(port)
        self.fake.extra_status = {"builder_status": "BuilderStatus.DREAMING"}
        await self.scan(scanner)
        state, trouble, since = self.told()
        assert (state, since) == ("failing", self.now - 60) and "DREAMING" in trouble
        self.fake.extra_status = {}
        await self.scan(scanner)
        assert self.told() == ("idle", "", None)

    async def test_put_back_into_service(self) -> None:
        """What was wrong before somebody put it back into service is not told any more."""
        await self.fake.stop()
        await self.scan(self.scanner())
        with self.farm.transaction() as connection:
            builders.enable(connection, "x86")
        assert self.told() == ("cleaning", "", None)

    async def test_nothing_is_left_to_it(self) -> None:
        """A build is not left to a builder that does not answer by the one that lost it."""
        build_id = make_build(self.farm)
        make_busy(self.farm, "x86", build_id)
        other_id = make_builder(self.farm, "other", "http://127.0.0.1:9/")
        with self.farm.transaction() as connection:
            builds.record(connection, build_id, Event.REQUEUED, self.now)
            found = builders.by_id(connection, self.builder_id)
            assert found is not None
            assert queue.candidates(connection, found, self.now, 1) == []
            builders.set_trouble(connection, other_id, "no answer", self.now)
            assert queue.candidates(connection, found, self.now, 1) == [build_id]


class TestBadBuilders(FarmCase):
    async def test_clean_but_not_idle(self) -> None:
        """A builder that is recorded as clean and is not idle is not shut in: out of service at once."""
        self.fake.status, self.fake.build_id = BuilderStatus.BUILDING, "x"
        await self.scan(self.scanner())
        assert not self.vitals().enabled

    async def test_busy_but_clean(self) -> None:
        """A builder that has a build and is recorded as clean is not shut in: out of service, and the build failed."""
        build_id = make_build(self.farm)
        make_busy(self.farm, "x86", build_id)
        self.set_cleanliness(Cleanliness.CLEAN)
        await self.scan(self.scanner())
        assert not self.vitals().enabled and self.state(build_id) is S.FAILED

    async def dispatch_fails(self) -> int:
        build_id = make_build(self.farm)
        await self.scan(self.scanner())
        assert self.state(build_id) is S.NEEDS_BUILD and self.fake.started == []
        assert self.vitals().failures == self.build(build_id).failures == 1
        assert self.queue_row(build_id).not_before > self.now
        return build_id

    async def test_refuses(self) -> None:
        """A builder that does not know the build type is a dispatch that failed; the build is queued again."""
        self.fake.refuse = "BuilderStatus.UNKNOWNBUILDER"
        build_id = await self.dispatch_fails()
        assert "UNKNOWNBUILDER" in self.build(build_id).reason

    async def test_faults(self) -> None:
        """A fault from build() is a failed dispatch."""
        self.fake.faults["build"] = Fault(1, "no")
        await self.dispatch_fails()

    async def test_cannot_fetch(self) -> None:
        """A builder that cannot fetch a file is a failed dispatch."""
        self.fake.faults["ensurepresent"] = Fault(8002, "error")
        await self.dispatch_fails()

    async def test_always_fails_builds(self) -> None:
        """A builder that begins builds and fails each of them is out of service after three; no build is blamed."""
        self.fake.outcome = BuildStatus.BUILDERFAIL
        ids = [make_build(self.farm, f"source{number}") for number in range(8)]
        scanner = self.scanner()
        for _ in range(100):
            await self.scan(scanner)
            if not self.vitals().enabled:
                break
            await self.sleep(0.02)
        assert len(self.fake.started) == 3
        assert {self.state(each) for each in ids} == {S.NEEDS_BUILD}
        assert sum(self.build(each).failures for each in ids) == 0

    async def test_the_only_builder_is_broken(self) -> None:
        """Where there is no other builder, a broken one gets the same build five times and is out of service then, with
        its reason; the build is not blamed, and waits."""
        self.fake.outcome = BuildStatus.BUILDERFAIL
        self.fake.extra_status = {"reason": "no namespaces here"}
        build_id = make_build(self.farm)
        scanner = self.scanner()
        for _ in range(200):
            await self.scan(scanner)
            if not self.vitals().enabled:
                break
            self.now += 4
            await self.sleep(0.01)
        assert len(self.fake.started) == 5
        row = self.build(build_id)
        assert (row.state, row.reason, row.failures) == (S.NEEDS_BUILD, "no namespaces here", 0)
        with self.farm.reading() as connection:
            assert connection.execute(builder.select()).one().disabled_reason == "no namespaces here"

    async def test_a_build_that_breaks_builders(self) -> None:
        """A build that a second builder cannot begin either has failed, and that builder is forgiven."""
        self.fake.faults["build"] = Fault(1, "no")
        build_id = await self.dispatch_fails()
        other = self.make_fake(self.fake.reactor, faults=self.fake.faults)
        self.builder_id = make_builder(self.farm, "other", other.listen())
        self.now += 1000
        await self.scan_until(build_id, S.FAILED)
        assert self.vitals().failures == 0
        await other.stop()

    async def test_a_build_of_which_three_builders_say_that_they_failed(self) -> None:
        """The third ends it, with cause and reason, and is forgiven: one build takes no farm down."""
        self.fake.outcome = BuildStatus.BUILDERFAIL
        self.fake.extra_status = {"reason": "the builder's disk is full", "cause": "disk"}
        build_id = make_build(self.farm)
        fakes = [self.fake]
        for name in ("second", "third"):
            await self.scan_until(build_id, S.BUILDING)
            await self.scan_until(build_id, S.NEEDS_BUILD)
            fakes.append(self.make_fake(self.fake.reactor, outcome=self.fake.outcome))
            fakes[-1].extra_status = self.fake.extra_status
            self.builder_id = make_builder(self.farm, name, fakes[-1].listen())
            self.now += 1000
        await self.scan_until(build_id, S.BUILDING)
        await self.scan_until(build_id, S.FAILED)
        row = self.build(build_id)
        assert (row.reason, row.cause) == ("builders have failed with it 3 times: the builder's disk is full", "disk")
        assert [len(fake.started) for fake in fakes] == [1, 1, 1]
        assert self.vitals().failures == 0 and self.vitals().enabled
        for fake in fakes[1:]:
            await fake.stop()

    async def two_builders_fail(self, outcome: BuildStatus) -> None:
        self.fake.outcome = outcome
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILDING)
        await self.scan_until(build_id, S.NEEDS_BUILD)
        other = self.make_fake(self.fake.reactor, outcome=outcome)
        first, self.builder_id = self.builder_id, make_builder(self.farm, "other", other.listen())
        self.now += 1000
        await self.scan_until(build_id, S.BUILDING)
        await self.scan_until(build_id, S.NEEDS_BUILD, S.FAILED)
        assert self.state(build_id) is S.NEEDS_BUILD and self.build(build_id).failures == 0
        assert self.vitals().failures == 1 and len(other.started) == 1
        self.builder_id = first
        assert self.vitals().failures == 1
        await other.stop()

    async def test_two_builders_that_fail(self) -> None:
        """A build of which two builders say BUILDERFAIL is not blamed; each builder has a failure counted."""
        await self.two_builders_fail(BuildStatus.BUILDERFAIL)

    async def test_two_builders_that_stop_it_unasked(self) -> None:
        """A build of which two builders say ABORTED, unasked, is not blamed; each builder has a failure counted."""
        await self.two_builders_fail(BuildStatus.ABORTED)

    async def test_changes_its_mind(self) -> None:
        """A builder that said OK and then something else is not believed: the build is queued again in the end."""
        self.fake.served = {}
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.sleep(0.1)
        self.fake.served = dict.fromkeys(self.fake.filemap.values(), b"?")
        await self.scan(scanner)
        assert self.state(build_id) is S.GATHERING
        self.fake.build_status = BuildStatus.PACKAGEFAIL
        await self.scan(scanner, 15)
        assert self.state(build_id) is S.NEEDS_BUILD


class TestNeverEnding(FarmCase):
    """Builders that have a build for longer than any may take."""

    async def building(self, scanner: Scanner) -> int:
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        return build_id

    async def test_building_for_ever(self) -> None:
        """The build is queued again with what there is of its log, one failure counted against both; the builder is
        stopped, cleaned, and has the next."""
        scanner = self.scanner()
        build_id = await self.building(scanner)
        self.now += DAY_S
        assert await self.scan(scanner) is Progress.RUNNING
        assert self.state(build_id) is S.BUILDING
        self.now += 1
        await self.scan(scanner)
        row = self.build(build_id)
        assert self.state(build_id) is S.NEEDS_BUILD and row.reason == "x86 had it for longer than 24 h"
        assert row.log_name.endswith("_NEEDS_BUILD.txt.gz") and not self.farm.log_path(build_id).exists()
        assert (self.vitals().failures, row.failures) == (1, 1)
        self.now += 11
        self.fake.duration_s = 0.01
        await self.scan_until(build_id, S.BUILT, scanner=scanner)
        assert self.fake.calls.count("abort") == 1 and self.vitals().failures == 0

    async def test_its_archive_says_for_how_long(self) -> None:
        """An archive may have a limit of its own."""
        with self.farm.transaction() as connection:
            connection.execute(update(archive).values(build_timeout_s=3 * DAY_S))
        scanner = self.scanner()
        build_id = await self.building(scanner)
        self.now += 3 * DAY_S
        await self.scan(scanner)
        assert self.state(build_id) is S.BUILDING
        self.now += 1
        await self.scan(scanner)
        assert self.build(build_id).reason == "x86 had it for longer than 72 h"

    async def test_another_master_has_it_by_then(self) -> None:
        """A master that was started meanwhile does not begin to count anew."""
        build_id = await self.building(self.scanner())
        self.now += DAY_S + 1
        await self.scan(self.scanner())
        assert self.state(build_id) is S.NEEDS_BUILD

    async def test_stopping_for_ever(self) -> None:
        """So it goes with one that stops its build unasked, and does not come to the end of that."""
        scanner = self.scanner()
        build_id = await self.building(scanner)
        self.fake.status = BuilderStatus.ABORTING
        self.now += DAY_S + 1
        await self.scan(scanner)
        assert self.state(build_id) is S.NEEDS_BUILD and self.vitals().failures == 1

    async def test_the_only_builder_serves_others_well(self) -> None:
        """A build that never ends on the only builder, on which others end, is to blame the second time."""
        scanner = self.scanner()
        build_id = await self.building(scanner)
        self.now += DAY_S + 1
        await self.scan(scanner)
        self.fake.duration_s = 0.01
        await self.scan_until(make_build(self.farm, "other"), S.BUILT, scanner=scanner)
        self.fake.duration_s = None
        self.now += 11
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        self.now += DAY_S + 1
        await self.scan(scanner)
        assert self.state(build_id) is S.FAILED and self.vitals().failures == 0

    async def test_its_log_drips(self) -> None:
        """A log that does not come keeps nothing up."""
        self.patch(gathering, "_AT_ONCE_S", 0.2)  # type: ignore[no-untyped-call]
        scanner = self.scanner()
        build_id = await self.building(scanner)
        await self.scan(scanner)
        self.fake.served["buildlog"], self.fake.drips = b"x" * 10_000, True
        self.now += DAY_S + 1
        await self.scan(scanner)
        assert self.state(build_id) is S.NEEDS_BUILD and self.build(build_id).log_file_id is None

    async def test_it_hangs_wherever_it_is_built(self) -> None:
        """A package on which a second builder hangs as well has failed, and that builder is forgiven."""
        other = self.make_fake(self.fake.reactor, duration_s=None)
        scanner = self.scanner()
        build_id = await self.building(scanner)
        self.now += DAY_S + 1
        await self.scan(scanner)
        self.now += 11
        self.builder_id = make_builder(self.farm, "other", other.listen())
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        self.now += DAY_S + 1
        await self.scan(scanner)
        assert self.state(build_id) is S.FAILED and "other had it" in self.build(build_id).reason
        assert self.vitals().failures == 0 and self.build(build_id).log_name.endswith("_FAILED.txt.gz")
        await other.stop()


class TestNeverClean(FarmCase):
    async def blamed(self, **status: object) -> None:
        """A builder that says so for ever is one failure after 180 s, and is given pauses meanwhile."""
        self.fake.extra_status = {"build_id": "x", **status}
        self.set_cleanliness(Cleanliness.DIRTY)
        scanner = self.scanner()
        await self.scan(scanner, 3)
        assert await self.scan(scanner) is Progress.STOPPING
        self.now += 179
        await self.scan(scanner)
        assert self.vitals().failures == 0
        self.now += 2
        assert await self.scan(scanner) is Progress.FAILED
        assert self.vitals().failures == 1
        await self.scan(scanner)
        assert self.vitals().failures == 1

    async def test_always_waiting(self) -> None:
        """clean() answers, and it is WAITING all the same."""
        self.fake.clean = lambda: "BuilderStatus.IDLE"  # type: ignore[method-assign]
        await self.blamed(builder_status="BuilderStatus.WAITING", build_status="BuildStatus.ABORTED")

    async def test_always_aborting(self) -> None:
        """It is ABORTING, and never through with it."""
        await self.blamed(builder_status="BuilderStatus.ABORTING")
