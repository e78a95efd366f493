"""The scan of one builder, and what it leads to: each test is one story between a master and a builder."""

import gzip
import threading
import time
from collections import Counter
from dataclasses import replace

from sqlalchemy import update
from twisted.internet.defer import Deferred

from buildd.protocol import BuilderStatus, BuildStatus
from buildmaster import builders, builds, fetching
from buildmaster.builders import Cleanliness
from buildmaster.lifecycle import BuildState
from buildmaster.pacing import Progress
from buildmaster.store import Sha256, StoredFile
from buildmaster.tables import source, stored_file
from buildmaster.tests.factories import make_build, make_busy, make_series, set_chroot
from buildmaster.tests.fakes import make_results, sha1_of
from buildmaster.tests.farm_case import FarmCase

S = BuildState


class TestAWholeBuild(FarmCase):
    async def test_it_is_built(self) -> None:
        """A queued build is given to an idle builder, and its results and log end up in the store."""
        build_id = make_build(self.farm)
        self.fake.log = b"a log \xff\x00 with anything in it\n"
        assert await self.scan_until(build_id, S.BUILT) is S.BUILT
        assert self.results(build_id) == ["hello_1.0_amd64.changes", "hello_1.0_amd64.deb"]
        assert self.fake.started == ["PACKAGEBUILD-1"]
        assert self.queue_row(build_id) is None
        row = self.build(build_id)
        assert row.log_name == "buildlog_debian-bookworm-amd64.hello_1.0_BUILT.txt.gz"
        assert gzip.decompress(self.stored(row.log_file_id)) == self.fake.log

    def stored(self, file_id: int) -> bytes:
        with self.farm.reading() as connection:
            row = connection.execute(stored_file.select().where(stored_file.c.id == file_id)).one()
        with self.farm.store.open(Sha256(row.sha256)) as stream:
            return stream.read()

    async def test_what_the_builder_is_told(self) -> None:
        """The builder is told architecture, series and suite, and to make debug symbols as sbuild does."""
        build_id = make_build(self.farm, architectures="any all")
        await self.scan_until(build_id, S.BUILDING)
        wanted = {"arch_tag": "amd64", "arch_indep": True, "series": "bookworm", "suite": "bookworm"}
        wanted |= {"archive_purpose": "PRIMARY", "ogrecomponent": "main", "build_debug_symbols": True}
        assert wanted.items() <= self.fake.arguments.items()

    async def test_the_builder_is_clean_again(self) -> None:
        """After a build the builder is cleaned, recorded as clean, and given the next."""
        ids = [make_build(self.farm, name) for name in ("aa", "bb")]
        scanner = self.scanner()
        for build_id in ids:
            await self.scan_until(build_id, S.BUILT, scanner=scanner)
        await self.scan(scanner, 3)
        assert self.vitals().cleanliness is Cleanliness.CLEAN and self.vitals().version == "fake-1"
        assert self.fake.status is BuilderStatus.IDLE and len(self.fake.started) == 2

    async def test_dirty_before_anything_is_sent(self) -> None:
        """The claim and DIRTY are committed before the builder hears of the build."""
        make_build(self.farm)
        seen = []
        begin = self.fake.begin

        def spy(*arguments: object) -> list[str]:
            vitals = self.vitals()
            seen.append((vitals.cleanliness, vitals.job and vitals.job.state))
            return begin(*arguments)  # type: ignore[arg-type]

        self.fake.begin = spy  # type: ignore[method-assign, assignment]
        await self.scan(self.scanner())
        assert set(seen) == {(Cleanliness.DIRTY, S.BUILDING)}  # Once more, when it has its files.

    async def test_a_new_master_goes_on(self) -> None:
        """Whoever scans next goes on where another ended: each scan here is by a master that has just been started."""
        build_id = make_build(self.farm)
        for _ in range(200):
            await self.scan(self.scanner())
            if self.state(build_id) is S.BUILT:
                break
            await self.sleep(0.01)
        assert self.state(build_id) is S.BUILT and self.fake.started == ["PACKAGEBUILD-1"]

    async def test_a_builder_that_is_not_clean(self) -> None:
        """A builder that holds something of somebody else's is stopped, cleaned, and then given a build."""
        self.set_cleanliness(Cleanliness.DIRTY)
        build_id = make_build(self.farm)
        self.fake.status, self.fake.build_id = BuilderStatus.BUILDING, "PACKAGEBUILD-999"
        await self.scan_until(build_id, S.BUILT)
        assert self.fake.calls.index("abort") < self.fake.calls.index("clean") < self.fake.calls.index("build")

    async def test_manual_mode(self) -> None:
        """A builder in manual mode is scanned, and given nothing."""
        with self.farm.transaction() as connection:
            builders.set_manual(connection, "x86", True)
        build_id = make_build(self.farm)
        assert await self.scan(self.scanner(), 3) is Progress.IDLE
        assert self.state(build_id) is S.NEEDS_BUILD and "status" in self.fake.calls

    async def test_out_of_service(self) -> None:
        """A builder that is out of service is left alone."""
        with self.farm.transaction() as connection:
            builders.disable(connection, "x86", "by hand")
        make_build(self.farm)
        assert await self.scan(self.scanner(), 3) is Progress.IDLE
        assert self.fake.calls == []

    async def test_a_scan_that_changes_nothing_asks_no_database(self) -> None:
        """Scans of an idle builder with nothing to do touch no database."""
        scanner = self.scanner()
        await self.scan(scanner, 2)
        await self.snapshot.take()
        self.farm.database.pause()  # From here on every question would be an error.
        assert [await scanner.scan() for _ in range(3)] == [Progress.IDLE] * 3

    async def test_nor_do_those_of_a_build_that_runs(self) -> None:
        """Nor do scans of a build that runs and says nothing new, nor of one that is being stopped."""
        self.fake.duration_s = self.fake.abort_s = None
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.scan(scanner)
        self.farm.database.pause()
        assert [await scanner.scan() for _ in range(3)] == [Progress.RUNNING] * 3
        self.farm.start(self.fake.reactor)
        with self.farm.transaction() as connection:
            builds.cancel(connection, build_id, self.now)
        await self.scan(scanner)
        self.farm.database.pause()
        assert [await scanner.scan() for _ in range(3)] == [Progress.STOPPING] * 3

    async def test_nor_do_those_that_fail_as_before(self) -> None:
        """Nor do scans that fail in the same way, again and again, until that counts."""
        await self.fake.stop()
        scanner = self.scanner()
        await self.scan(scanner)
        await self.snapshot.take()
        self.farm.database.pause()
        assert [await scanner.scan() for _ in range(3)] == [Progress.FAILED] * 3

    async def test_a_build_that_was_begun_is_new(self) -> None:
        """However long a builder was idle: the build that it is given then is looked at soon."""
        scanner = self.scanner()
        await self.scan(scanner, 5)
        make_build(self.farm)
        assert await self.scan(scanner) is Progress.RUNNING
        assert scanner.quiet == 0

    async def test_no_chroot_any_more(self) -> None:
        """A build that waits for a chroot is begun once there is one."""
        make_series(self.farm, series="trixie", chroot=None)
        build_id = make_build(self.farm, place=("debian", "trixie"))
        await self.scan(self.scanner(), 2)
        assert self.state(build_id) is S.CHROOT_WAIT and self.fake.started == []


class TestHowItEnds(FarmCase):
    async def ended(self, outcome: BuildStatus, *states: BuildState) -> builds.AnyRow:
        """Let a build end so, and return its row once it is in one of these states."""
        self.fake.outcome = outcome
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILDING)
        await self.scan_until(build_id, *states)
        assert self.fake.started == ["PACKAGEBUILD-1"]
        return self.build(build_id)

    async def test_package_failure(self) -> None:
        """PACKAGEFAIL: FAILED, with the log; no results."""
        row = await self.ended(BuildStatus.PACKAGEFAIL, S.FAILED)
        assert row.log_name.endswith("_FAILED.txt.gz") and row.log_file_id and row.reason
        assert self.results(row.id) == []

    async def test_dep_wait(self) -> None:
        """DEPFAIL: DEP_WAIT, with the log and what is missing."""
        self.fake.dependencies = "libfoo-dev (>= 2)"
        row = await self.ended(BuildStatus.DEPFAIL, S.DEP_WAIT)
        assert row.dependencies == "libfoo-dev (>= 2)" and row.log_name.endswith("_DEP_WAIT.txt.gz")

    async def test_chroot_wait(self) -> None:
        """CHROOTFAIL: CHROOT_WAIT with the log, until there is another chroot."""
        row = await self.ended(BuildStatus.CHROOTFAIL, S.CHROOT_WAIT)
        assert row.log_name.endswith("_CHROOT_WAIT.txt.gz")
        set_chroot(self.farm, self.place, b"another")
        self.fake.outcome = BuildStatus.OK
        await self.scan_until(row.id, S.BUILT)

    async def test_superseded_meanwhile(self) -> None:
        """A build whose source was superseded while it was built is SUPERSEDED: it has a log, and no results."""
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILDING)
        with self.farm.transaction() as connection:
            this = source.c.id == builds.find(connection, build_id).source_id
            connection.execute(update(source).where(this).values(superseded_at=time.time() + 1))
        self.fake.end()
        assert await self.scan_until(build_id, S.SUPERSEDED, S.BUILT) is S.SUPERSEDED
        assert self.build(build_id).log_name.endswith("_SUPERSEDED.txt.gz") and self.results(build_id) == []

    async def test_given_back(self) -> None:
        """GIVENBACK: queued again after a pause, log kept, nobody blamed."""
        row = await self.ended(BuildStatus.GIVENBACK, S.NEEDS_BUILD)
        assert row.log_name.endswith("_NEEDS_BUILD.txt.gz") and row.failures == 0
        assert self.queue_row(row.id).not_before == self.now + 15
        scanner = self.scanner()
        await self.scan(scanner, 5)
        assert len(self.fake.started) == 1  # Not yet.
        self.now += 16
        self.fake.outcome = BuildStatus.OK
        await self.scan_until(row.id, S.BUILT, scanner=scanner)

    async def test_builder_failure(self) -> None:
        """BUILDERFAIL: queued again after a pause, log kept, failure counted against the builder alone."""
        row = await self.ended(BuildStatus.BUILDERFAIL, S.NEEDS_BUILD)
        assert row.log_file_id and row.failures == 0 and self.vitals().failures == 1
        assert self.queue_row(row.id).not_before == self.now + 15

    async def test_aborted_unasked(self) -> None:
        """ABORTED that nobody asked for is a failure of the builder alone."""
        row = await self.ended(BuildStatus.ABORTED, S.NEEDS_BUILD)
        assert row.log_file_id and row.failures == 0 and self.vitals().failures == 1

    async def test_a_proper_end_forgives_the_builder(self) -> None:
        """A builder's failures are forgotten when a build ends properly there, and not when one begins."""
        with self.farm.transaction() as connection:
            builders.count_failure(connection, self.builder_id)
        self.fake.duration_s = None
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILDING)
        assert self.vitals().failures == 1
        self.fake.outcome = BuildStatus.PACKAGEFAIL
        self.fake.end()
        await self.scan_until(build_id, S.FAILED)
        assert self.vitals().failures == 0

    async def test_the_reason_of_our_own_daemon(self) -> None:
        """The sentence that our own daemon adds to its status is kept."""
        self.fake.extra_status = {"reason": "the compiler found a fault"}
        row = await self.ended(BuildStatus.PACKAGEFAIL, S.FAILED)
        assert row.reason == "the compiler found a fault"

    async def test_the_cause(self) -> None:
        """Cause and first error of an attempt are kept, until the next one begins."""
        self.fake.extra_status = {"cause": "compile", "error": "x.c:1:1: error: odd\n    1 | code"}
        row = await self.ended(BuildStatus.PACKAGEFAIL, S.FAILED)
        assert (row.cause, row.error) == ("compile", "x.c:1:1: error: odd\n    1 | code")
        with self.farm.transaction() as connection:
            builds.retry(connection, row.id, self.now)
        self.fake.outcome, self.fake.extra_status = BuildStatus.OK, {}
        await self.scan_until(row.id, S.BUILT)
        assert (self.build(row.id).cause, self.build(row.id).error) == ("", "")

    async def test_the_cause_of_what_is_tried_again(self) -> None:
        """A build that is given back tells why, too."""
        self.fake.extra_status = {"cause": "disk", "error": ""}
        row = await self.ended(BuildStatus.BUILDERFAIL, S.NEEDS_BUILD)
        assert (row.cause, row.error) == ("disk", "")

    async def test_a_cause_that_is_none(self) -> None:
        """A word that is not the protocol's is not kept; nor what drives terminals, nor an error without end."""
        self.fake.extra_status = {"cause": "sabotage", "error": "\x9b2Ja\tb\u202e\n" + "x\n" * 5000}
        row = await self.ended(BuildStatus.PACKAGEFAIL, S.FAILED)
        assert row.cause == ""
        assert row.error.split("\n") == [" 2Ja b", *"x" * 39]

    async def test_a_cause_of_a_wrong_type(self) -> None:
        """Not even text: none of it is kept, and the build has ended all the same."""
        self.fake.extra_status = {"cause": ["compile"], "error": {"a": 1}}
        row = await self.ended(BuildStatus.PACKAGEFAIL, S.FAILED)
        assert (row.cause, row.error) == ("", "")


class TestResults(FarmCase):
    async def refused(self, results: dict[str, bytes], *, kept: bool = True) -> str:
        """Let a build end well with these results, which do not check. Returns the reason."""
        self.fake.results = results
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.FAILED_UPLOAD)
        assert self.results(build_id) == (sorted(results) if kept else []) and self.build(build_id).log_file_id
        return str(self.build(build_id).reason)

    async def test_no_changes(self) -> None:
        """Results without a .changes are refused."""
        assert "one .changes" in await self.refused({"a.deb": b"x"})

    async def test_missing(self) -> None:
        """A file that the .changes names must be there."""
        results = make_results("hello", "1.0", {"a.deb": b"x", "b.deb": b"y"})
        del results["b.deb"]
        assert "b.deb" in await self.refused(results)

    async def test_superfluous(self) -> None:
        """A file that the .changes does not name must not be there."""
        assert "c.deb" in await self.refused({**make_results("hello", "1.0", {"a.deb": b"x"}), "c.deb": b"z"})

    async def test_other_content(self) -> None:
        """Each file must have the sums that the .changes says."""
        assert "a.deb" in await self.refused({**make_results("hello", "1.0", {"a.deb": b"x"}), "a.deb": b"y"})

    async def test_another_source(self) -> None:
        """The results must be of the source that was to be built."""
        assert "hello 1.1" in await self.refused(make_results("hello", "1.1", {"a.deb": b"x"}))

    async def test_what_was_refused_is_kept(self) -> None:
        """What was refused can be looked at, until the build is tried again."""
        await self.refused({"a.deb": b"odd"})
        with self.farm.transaction() as connection:
            builds.retry(connection, 1, self.now)
        assert self.results(1) == []
        self.fake.results = None
        await self.scan_until(1, S.BUILT)
        assert self.results(1) == ["hello_1.0_amd64.changes", "hello_1.0_amd64.deb"]

    async def test_no_control_file(self) -> None:
        """A .changes that is none is refused."""
        assert await self.refused({"hello.changes": b"\xff\xff"})

    async def test_wrong_content_for_a_sum(self) -> None:
        """A builder that serves other content than the SHA-1 promises is not believed, however often it is asked."""
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.sleep(0.1)
        self.fake.served = dict.fromkeys(self.fake.filemap.values(), b"something else")
        await self.scan(scanner)
        assert self.state(build_id) is S.GATHERING and self.results(build_id) == []
        asked = Counter(call for call in self.fake.calls if call.startswith("GET ") and "buildlog" not in call)
        assert max(asked.values()) == 3
        self.fake.served = {}
        await self.scan(scanner)
        assert self.state(build_id) is S.BUILT

    async def test_a_file_that_is_too_long(self) -> None:
        """A builder cannot fill the master's disk: a file longer than the limit is not taken, nor asked for again."""
        debs = {"a.deb": bytes(3 << 20)}
        assert "bytes together" in await self.refused(make_results("hello", "1.0", debs), kept=False)
        assert not list(self.directory.rglob("*.part"))
        assert self.fake.calls.count(f"GET {sha1_of(debs['a.deb'])}") == 1

    async def test_a_disk_that_is_slower_than_the_builder(self) -> None:
        """Of many small files a few wait for the store, and are in memory; the rest stay on the builder meanwhile."""
        debs = {f"{number}.deb": b"%d" % number * 1000 for number in range(40)}
        self.fake.results = make_results("hello", "1.0", debs)
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.sleep(0.2)
        free, commit = threading.Event(), fetching._Result._commit

        def slowly(result: fetching._Result) -> StoredFile:
            free.wait(10)
            return commit(result)

        self.patch(fetching._Result, "_commit", slowly)  # type: ignore[no-untyped-call]
        going = Deferred.fromCoroutine(self.scan(scanner))
        for _ in range(100):
            await self.sleep(0.01)
        asked = sum(call.startswith("GET ") and "buildlog" not in call for call in self.fake.calls)
        free.set()
        await going
        assert 2 <= asked <= 8 and self.state(build_id) is S.BUILT

    async def test_no_connection_for_each(self) -> None:
        """Files come over the connections that are there."""
        self.fake.results = make_results("hello", "1.0", {f"{name}.deb": name.encode() * 20_000 for name in "abc"})
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.sleep(0.2)
        before = list(self.fake._site.connections)
        await self.scan_until(build_id, S.BUILT, scanner=scanner)
        assert self.fake._site.connections == before

    async def gathered_in_pieces(self, ranges: bool) -> list[tuple[int, int]]:
        """Let the one large result, and the log, break off twice each; what was sent of them."""
        self.fake.ranges = ranges
        deb, self.fake.log = bytes(range(256)) * 2000, b"a line\n" * 20_000
        self.fake.results = make_results("hello", "1.0", {"a.deb": deb})
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.sleep(0.2)
        self.fake.sent.clear()
        self.fake.break_off, self.fake.unbroken_bytes = 2, 200_000
        await self.scan_until(build_id, S.BUILT, scanner=scanner)
        assert scanner._errors == 0
        return [sent for sent in self.fake.sent if sent[0] + sent[1] == len(deb)]

    async def test_what_breaks_off_goes_on(self) -> None:
        """A file that breaks off is asked for from where it ended, and is the same in the end."""
        sent = await self.gathered_in_pieces(ranges=True)
        assert [sent[0][0] for sent in (sent, sent[1:])] == [0, 256_000]
        assert len(sent) == 3 and sent[2][0] > sent[1][0]

    async def test_what_breaks_off_goes_on_without_ranges(self) -> None:
        """So it is from a builder that knows no ranges; it sends all of it again."""
        sent = await self.gathered_in_pieces(ranges=False)
        assert sent == [(0, 512_000)] * 3

    async def test_a_builder_that_drips(self) -> None:
        """A builder from which results come byte by byte loses the build after one deadline, for all files, attempts
        and scans together, and that is a failure of both at once."""
        self.fake.drips = True
        self.work.gatherer._fetcher._limits = replace(self.settings.limits, attempts=3)
        build_id = make_build(self.farm)
        scanner = self.scanner()
        began = self.fake.reactor.seconds()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.scan_until(build_id, S.NEEDS_BUILD, scanner=scanner)
        assert self.fake.reactor.seconds() - began < 2 * self.settings.timeouts.fetch_s
        assert (self.vitals().failures, self.build(build_id).failures) == (1, 1)
        assert "in time" in self.build(build_id).reason

    async def test_too_long_together(self) -> None:
        """A builder cannot fill the master's disk with many files either: no more are fetched, the build is refused."""
        debs = {f"{number}.deb": bytes([number]) * (600 << 10) for number in range(8)}
        assert "bytes together" in await self.refused(make_results("hello", "1.0", debs), kept=False)
        fetched = {call for call in self.fake.calls if call.startswith("GET ") and "buildlog" not in call}
        assert 2 <= len(fetched) <= 3  # Two come at once.


class TestStatusesThatAreNone(FarmCase):
    async def told(self, **status: object) -> None:
        """A builder that answers so has failed the scan, and nothing else has happened."""
        build_id = make_build(self.farm)
        make_busy(self.farm, "x86", build_id)
        self.fake.extra_status = status
        scanner = self.scanner()
        assert await self.scan(scanner) is Progress.FAILED
        assert scanner._errors == 1 and self.state(build_id) is S.BUILDING

    async def test_unknown_word(self) -> None:
        """An unknown builder_status."""
        await self.told(builder_status="BuilderStatus.DREAMING")

    async def test_no_word(self) -> None:
        """A builder_status that is no string."""
        await self.told(builder_status=[["x"]])

    async def test_unknown_end(self) -> None:
        """An unknown build_status."""
        await self.told(builder_status="BuilderStatus.WAITING", build_id="PACKAGEBUILD-1", build_status="OK")

    async def test_path_in_filemap(self) -> None:
        """A name in the filemap that is a path."""
        filemap = {"../../etc/passwd": "0" * 40}
        status = {"builder_status": "BuilderStatus.WAITING", "build_status": "BuildStatus.OK", "filemap": filemap}
        await self.told(build_id="PACKAGEBUILD-1", **status)

    async def test_build_id_is_a_path(self) -> None:
        """A build id that is a path."""
        await self.told(builder_status="BuilderStatus.BUILDING", build_id="../x")

    async def test_huge(self) -> None:
        """An answer of 5 MB."""
        await self.told(builder_status="BuilderStatus.IDLE", padding="x" * (5 << 20))


class TestRunningLogs(FarmCase):
    async def growing(self) -> None:
        self.fake.duration_s = None
        self.fake.log = b""
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        path = self.farm.log_path(build_id)
        for number in range(3):
            self.fake.log += b"line %d \xff\n" % number * 1000
            await self.scan(scanner)
            assert path.read_bytes() == self.fake.log
        self.fake.end()
        await self.scan_until(build_id, S.BUILT, scanner=scanner)
        assert not path.exists()

    async def test_it_grows(self) -> None:
        """The log of a running build grows on the master, byte by byte the same; it goes when the build ends."""
        await self.growing()

    async def test_it_grows_without_ranges(self) -> None:
        """So it does when the builder knows no byte ranges."""
        self.fake.ranges = False
        await self.growing()

    async def test_stage(self) -> None:
        """The stage that our own daemon tells is kept with the queue row."""
        self.fake.duration_s = None
        self.fake.extra_status = {"stage": "install dependencies"}
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.scan(scanner)
        assert self.queue_row(build_id).stage == "install dependencies"

    async def test_an_earlier_attempt(self) -> None:
        """The log of an earlier attempt is not continued."""
        build_id = make_build(self.farm)
        self.farm.log_path(build_id).write_bytes(b"old " * 100)
        self.fake.duration_s = None
        scanner = self.scanner()
        await self.scan_until(build_id, S.BUILDING, scanner=scanner)
        await self.scan(scanner)
        assert self.farm.log_path(build_id).read_bytes() == self.fake.log

    async def test_a_log_that_is_too_long(self) -> None:
        """The log that is stored is cut at its limit, and says so."""
        self.work.gatherer._fetcher._limits = replace(self.settings.limits, log_bytes=1000)
        self.fake.log = b"x" * 5000
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILT)
        with self.farm.reading() as connection:
            query = stored_file.select().where(stored_file.c.id == self.build(build_id).log_file_id)
            row = connection.execute(query).one()
        with self.farm.store.open(Sha256(row.sha256)) as stream:
            assert b"too long" in gzip.decompress(stream.read())
