"""Builds are looked at before a builder is used, and again when what they wait for is published."""

import io
import os
import shutil
import tarfile
import time
from typing import Any

from twisted.internet import reactor

from buildd.protocol import BuildStatus
from buildd.tests.small_archive import SmallArchive
from buildmaster import archives, depwaits, distributions, packages
from buildmaster.database import DatabaseLost
from buildmaster.examiner import Examiner
from buildmaster.lifecycle import BuildState
from buildmaster.scoring import ArchivePurpose
from buildmaster.tables import archive
from buildmaster.tests.factories import make_build, set_chroot, write_source
from buildmaster.tests.farm_case import SETTINGS, FarmCase
from buildmaster.wishes import Wishes
from buildmaster.workshop import WorkSettings

STATUS = "".join(
    f"Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n"
    for name in ("build-essential", "fakeroot", "apt")
)
RELEASED_S = 5.0  # From publication to release.


def released_within_s(looked_s: float) -> float:
    """What release may take here; longer on a busy machine, as it shows in what a first look took there, which has a
    chroot and lists to read as well."""
    return RELEASED_S + 2 * looked_s


def make_chroot(files: dict[str, str]) -> bytes:
    """A chroot tarball with what apt goes by."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in {"var/lib/dpkg/status": STATUS, **files}.items():
            member = tarfile.TarInfo(f"chroot-autobuild/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


class ExaminerCase(FarmCase):
    """A farm whose builds have an archive of their own, and the examiner."""

    settings = WorkSettings(SETTINGS.timeouts, SETTINGS.limits, looks=True)

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.archive = SmallArchive()
        self.archive.add("there", "1.0")
        self.archive.publish()
        set_chroot(self.farm, self.place, make_chroot({}))
        self.use(f"deb {self.archive.url} stable main", self.archive.key)
        await self.snapshot.start()
        self.examiner = self.examine()

    def examine(self, poll_s: float = 0.5) -> Examiner:
        """Begin to examine."""
        examiner = Examiner(self.farm, reactor, self.snapshot, poll_s)  # type: ignore[arg-type]
        examiner.start()
        return examiner

    def use(self, line: str, key: bytes) -> None:
        with self.farm.transaction() as connection:
            distributions.set_apt_lines(connection, "debian", "primary", line)
            distributions.set_trusted_keys(connection, "debian", "primary", [key])

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.examiner.stop()
        self.archive.close()
        await super().tearDown()

    def submit(self, name: str, relations: str) -> int:
        """A build in the queue."""
        return make_build(self.farm, name, relations=relations)

    async def until(self, build_id: int, *wanted: object, within_s: float = 60.0) -> float:
        """Wait until a build is in a state, or is looked at (True); how long that took."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            row = self.queue_row(build_id)
            if self.state(build_id) in wanted or (row is not None and row.looked_at is not None) in wanted:
                return time.monotonic() - began
            await self.sleep(0.02)
        raise AssertionError(f"build {build_id} is {self.state(build_id)}: {self.build(build_id).reason}")


class BeforeDispatch(ExaminerCase):
    async def test_what_is_missing_uses_no_builder(self) -> None:
        """A build whose build-dependencies are not there waits for them, with the reason in words; no builder is
        asked. One whose are there is dispatched."""
        bad = self.submit("bad", "Build-Depends: there (>= 2), gone")
        good = self.submit("good", "Build-Depends: there (>= 1) | gone")
        await self.until(bad, BuildState.DEP_WAIT)
        row = self.build(bad)
        assert row.dependencies == "there (>= 2), gone"
        assert row.reason == (
            "it needs there (>= 2), and its archives have there 1.0; it needs gone, and its archives do not have it"
        )
        await self.until(good, True)
        assert await self.scan_until(good, BuildState.BUILT) is BuildState.BUILT
        assert [f"PACKAGEBUILD-{good}"] == self.fake.started

    async def test_nobody_gets_what_was_not_looked_at(self) -> None:
        """Until it was looked at, a build is no candidate."""
        await self.examiner.stop()
        build_id = self.submit("good", "Build-Depends: there")
        await self.scan(self.scanner(), 3)
        assert self.state(build_id) is BuildState.NEEDS_BUILD
        self.examiner = self.examine()
        await self.until(build_id, True)
        await self.scan_until(build_id, BuildState.BUILT)

    async def test_which_fields_count(self) -> None:
        """A build of arch:all packages needs Build-Depends-Indep, one without them does not; conflicts count."""
        indep = self.submit("indep", "Build-Depends-Indep: gone")
        conflicts = self.submit("conflicts", "Build-Depends: there\nBuild-Conflicts-Arch: there")
        await self.until(indep, True)
        await self.until(conflicts, BuildState.DEP_WAIT)
        assert self.build(conflicts).dependencies == ""
        assert self.build(conflicts).reason == "it must be built without there"

    async def test_build_profiles(self) -> None:
        """What is said to be done without is not needed."""
        relations = "Build-Depends: gone <!nocheck>, there"
        await self.until(make_build(self.farm, "checked", relations=relations), BuildState.DEP_WAIT)
        wishes = Wishes(profiles=("nocheck",))
        await self.until(make_build(self.farm, "unchecked", relations=relations, wishes=wishes), True)

    async def test_the_chroots_own_sources(self) -> None:
        """An archive without lines of its own has those of the chroot, and the keys that they name there."""
        self.use("", self.archive.key)
        line = f"deb [trusted=yes] {self.archive.url} stable main\n"
        set_chroot(self.farm, self.place, make_chroot({"etc/apt/sources.list.d/own.list": line}))
        await self.until(self.submit("bad", "Build-Depends: gone"), BuildState.DEP_WAIT)
        await self.until(self.submit("good", "Build-Depends: there, apt"), True)


class Unused(ExaminerCase):
    async def test_lists_that_nobody_uses(self) -> None:
        """Lists that nobody has used for a week, of a chroot that was replaced, are removed at a start; others stay."""
        await self.until(self.submit("good", "Build-Depends: there"), True)
        await self.examiner.stop()
        lists = self.farm.directory / "lists"
        (used,) = lists.iterdir()
        for name, days in (("old", 8), ("recent", 6)):
            (lists / name / "var").mkdir(parents=True)
            os.utime(lists / name, (time.time() - days * 86400,) * 2)
        os.utime(used, (0, time.time() - 6.9 * 86400))
        self.examiner = self.examine()
        await self.until(self.submit("another", "Build-Depends: there"), True)
        assert {each.name for each in lists.iterdir()} == {used.name, "recent"}
        assert time.time() - used.stat().st_mtime < 86400

    async def test_another_master_has_swept(self) -> None:
        """Lists that another master of this directory has removed are fetched anew."""
        await self.until(self.submit("good", "Build-Depends: there"), True)
        (used,) = (self.farm.directory / "lists").iterdir()
        shutil.rmtree(used)
        await self.until(self.submit("bad", "Build-Depends: gone"), BuildState.DEP_WAIT)


class WhenNobodyCanTell(ExaminerCase):
    async def test_lists_that_cannot_be_had(self) -> None:
        """Builds of an archive that does not answer are dispatched all the same."""
        self.archive.answers["dists/stable/InRelease"] = 500
        build_id = self.submit("bad", "Build-Depends: gone")
        await self.until(build_id, True)
        assert self.build(build_id).archive_state == ""
        await self.scan_until(build_id, BuildState.BUILT)

    async def test_no_chroot_that_can_be_read(self) -> None:
        """Nor does anybody wait because a chroot is not what it should be."""
        set_chroot(self.farm, self.place, b"This is no chroot.\n")
        await self.until(self.submit("bad", "Build-Depends: gone"), True)

    async def test_relations_that_are_none(self) -> None:
        """What the fields are is not what they must be: the builder says so better."""
        await self.until(self.submit("bad", "Build-Depends: gone (is)"), True)

    async def test_a_looker_that_dies(self) -> None:
        """libsolv is written in C."""
        await self.until(self.submit("good", "Build-Depends: there"), True)
        process: Any = self.examiner._looker._process
        process.kill()
        process.wait()
        await self.until(self.submit("other", "Build-Depends: there"), True)
        await self.until(self.submit("bad", "Build-Depends: gone"), BuildState.DEP_WAIT)


class Release(ExaminerCase):
    async def test_released_by_a_publication(self) -> None:
        """What a build waits for is published, by another name: it is in the queue within 5 s, and no builder was
        used before."""
        build_id = self.submit("waits", "Build-Depends: virtual (>= 2)")
        other = self.submit("other", "Build-Depends: gone")
        looked_s = await self.until(build_id, BuildState.DEP_WAIT)
        await self.until(other, BuildState.DEP_WAIT)
        self.archive.add("provider", "7", fields="Provides: virtual (= 2)\n")
        self.archive.publish()
        took_s = await self.until(build_id, BuildState.NEEDS_BUILD)
        assert took_s < released_within_s(looked_s)
        assert self.state(other) is BuildState.DEP_WAIT
        assert self.fake.started == []
        await self.scan_until(build_id, BuildState.BUILT)

    async def test_two_publications_in_a_second(self) -> None:
        """What the archive has is seen, though by their dates neither release file nor list is newer."""
        moment = time.time()

        def date() -> None:
            for file in (self.archive.folder / "files").rglob("*"):
                os.utime(file, (moment, moment))

        date()
        build_id = self.submit("waits", "Build-Depends: new")
        await self.until(build_id, BuildState.DEP_WAIT)
        self.archive.add("new")
        self.archive.publish()
        date()
        await self.until(build_id, BuildState.NEEDS_BUILD)

    async def test_released_at_once_when_told_so(self) -> None:
        """Who publishes says so, and nobody waits for the next time that the archive is asked."""
        await self.examiner.stop()
        self.examiner = self.examine(poll_s=600)
        build_id = self.submit("waits", "Build-Depends: new")
        looked_s = await self.until(build_id, BuildState.DEP_WAIT)
        self.archive.add("new")
        self.archive.publish()
        await self.sleep(1)
        assert self.state(build_id) is BuildState.DEP_WAIT
        with self.farm.transaction() as connection:
            depwaits.published(connection, distributions.find_archive(connection, "debian"), time.time())
        assert await self.until(build_id, BuildState.NEEDS_BUILD) < released_within_s(looked_s)

    async def test_lists_are_there_before_the_next_upload(self) -> None:
        """After a publication the lists of an archive that somebody lately uploaded to are fetched, though nothing
        waits: who uploads next need not wait for them."""
        await self.examiner.stop()
        self.examiner = self.examine(poll_s=600)
        await self.until(self.submit("first", "Build-Depends: there"), True)
        self.archive.add("new")
        self.archive.publish()
        asked = len(self.archive.requests)
        with self.farm.transaction() as connection:
            depwaits.published(connection, distributions.find_archive(connection, "debian"), time.time())
        for _ in range(1500):
            await self.sleep(0.02)
            if self.fetched(asked):
                break
        await self.sleep(2)
        asked = len(self.archive.requests)
        await self.until(self.submit("second", "Build-Depends: new"), True)
        assert not self.fetched(asked)

    def fetched(self, since: int) -> list[str]:
        """The lists of packages that were fetched since there were so many requests."""
        return [path for path, code in self.archive.requests[since:] if "binary-" in path and code == 200]

    async def test_a_source_that_was_published(self) -> None:
        """A release file that has nothing new of binary packages leaves the lists as they are."""
        build_id = self.submit("first", "Build-Depends: there")
        await self.until(build_id, True)
        state = self.build(build_id).archive_state
        (folder,) = (self.farm.directory / "lists").iterdir()
        written, asked = (folder / "available").stat().st_mtime_ns, len(self.archive.requests)
        self.archive.publish(valid_s=86400.0)
        with self.farm.transaction() as connection:
            depwaits.published(connection, distributions.find_archive(connection, "debian"), time.time())
        second = self.submit("second", "Build-Depends: there")
        await self.until(second, True)
        assert self.build(second).archive_state == state
        assert (folder / "available").stat().st_mtime_ns == written and len(self.archive.requests) > asked

    async def test_archives_with_the_same_lines(self) -> None:
        """Of two archives that have one set of lists each is asked once for what was published in it, and not at every
        look because something was once published in the other."""
        await self.examiner.stop()
        self.examiner = self.examine(poll_s=600)
        with self.farm.transaction() as connection:
            ids = [archives.add(connection, "debian", name, ArchivePurpose.PPA) for name in ("same", "empty")]
            distributions.set_apt_lines(connection, "debian", "same", f"deb {self.archive.url} stable main")
            distributions.set_trusted_keys(connection, "debian", "same", [self.archive.key])
        dsc = write_source(self.farm.directory / "sources", "there", relations="Build-Depends: gone")
        accepted = packages.accept(
            self.farm, dsc, time.time(), distribution="debian", series_name="bookworm", archive_name="same"
        )
        await self.until(accepted.build_ids[0], BuildState.DEP_WAIT)
        build_id, _ = self.submit("waits", "Build-Depends: new"), self.submit("other", "Build-Depends: gone")
        await self.until(build_id, BuildState.DEP_WAIT)
        self.archive.add("new")
        self.archive.publish()
        with self.farm.transaction() as connection:
            depwaits.published(connection, distributions.find_archive(connection, "debian"), time.time())
        await self.until(build_id, BuildState.NEEDS_BUILD)
        await self.sleep(0.5)
        asked = len(self.archive.requests)
        with self.farm.transaction() as connection:
            depwaits.published(connection, ids[1], time.time())
        await self.sleep(1)
        assert len(self.archive.requests) == asked

    async def test_a_publication_among_many_archives(self) -> None:
        """However many archives there are, and though the clock of who said so last was fast, it is noticed."""
        with self.farm.transaction() as connection:
            same = {"distribution_id": 1, "purpose": ArchivePurpose.PPA, "changed_at": 1.8e9}
            connection.execute(archive.insert(), [same | {"name": f"a{number}"} for number in range(10_000)])
            primary = distributions.find_archive(connection, "debian")
            depwaits.published(connection, primary, 1.8e9)
            before = depwaits.publications(connection)
            depwaits.published(connection, primary, 1.8e9 - 300)
            assert depwaits.publications(connection) != before

    async def test_what_a_builder_misses_is_not_tried_again_and_again(self) -> None:
        """A build that is found good, and that its builder says lacks something, waits until the archives change; then
        it has another try."""
        self.fake.outcome, self.fake.dependencies = BuildStatus.DEPFAIL, "there (>= 1)"
        build_id = self.submit("odd", "Build-Depends: there")
        await self.until(build_id, True)
        await self.scan_until(build_id, BuildState.DEP_WAIT)
        await self.sleep(2)
        await self.scan(self.scanner(), 2)
        assert len(self.fake.started) == 1
        assert self.build(build_id).dependencies == "there (>= 1)"
        self.archive.add("something-else")
        self.archive.publish()
        await self.until(build_id, BuildState.NEEDS_BUILD)

    async def test_a_database_that_is_away(self) -> None:
        """It is nobody's mistake, and as soon as it is back, builds are looked at."""
        build_id = self.submit("waits", "Build-Depends: new")
        looked_s = await self.until(build_id, BuildState.DEP_WAIT)
        read, away = self.farm.database.read, [True]

        async def lose(*args: Any, **more: Any) -> Any:
            if away:
                raise DatabaseLost("no route")
            return await read(*args, **more)

        self.patch(self.farm.database, "read", lose)  # type: ignore[no-untyped-call]
        self.archive.add("new")
        self.archive.publish()
        await self.sleep(1.5)
        away.clear()
        assert await self.until(build_id, BuildState.NEEDS_BUILD) < released_within_s(looked_s)
        assert self.flushLoggedErrors() == []  # type: ignore[no-untyped-call]

    async def test_another_master_takes_over(self) -> None:
        """Nothing is kept in memory that a build could wait for in vain."""
        build_id = self.submit("waits", "Build-Depends: new")
        await self.until(build_id, BuildState.DEP_WAIT)
        await self.examiner.stop()
        self.archive.add("new")
        self.archive.publish()
        self.examiner = self.examine()
        await self.until(build_id, BuildState.NEEDS_BUILD)
