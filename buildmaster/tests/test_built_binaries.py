"""What becomes of the packages of a build that ends well, where we publish its archive."""

import hashlib
import time
from pathlib import Path

from sqlalchemy import func, select
from twisted.internet import reactor

from buildmaster import publications, reproductions
from buildmaster.lifecycle import BuildState
from buildmaster.publications import State
from buildmaster.publishing.publisher import Publisher
from buildmaster.tables import binary
from buildmaster.tests.factories import BOGUS_CHROOT, make_build, make_repository, set_chroot, write_deb
from buildmaster.tests.fakes import make_results
from buildmaster.tests.farm_case import FarmCase
from buildmaster.tests.test_press import Mine

S = BuildState


class TestBuiltBinaries(FarmCase):
    def results_of(self, *paths: Path) -> None:
        self.fake.results = make_results("hello", "1.0", {path.name: path.read_bytes() for path in paths})

    def publications(self, build_id: int) -> list[tuple[str, str, str, State]]:
        with self.farm.reading() as connection:
            found = publications.of_source(connection, self.build(build_id).source_id)
        return [(each.name, each.architecture, each.component, each.state) for each in found]

    async def test_they_are_to_be_published(self) -> None:
        """With the state of the build; those of debug symbols apart."""
        make_repository(self.farm)
        build_id = make_build(self.farm)
        symbols = write_deb(self.directory, "hello-dbgsym", fields="Source: hello")
        self.results_of(write_deb(self.directory), symbols)
        await self.scan_until(build_id, S.BUILT)
        assert self.publications(build_id) == [
            ("hello", "source", "main", State.PENDING),
            ("hello", "amd64", "main", State.PENDING),
            ("hello-dbgsym", "amd64", "main/debug", State.PENDING),
        ]

    async def test_an_archive_that_others_publish(self) -> None:
        """Its packages are not even read."""
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.BUILT)  # The fake's .deb is none.
        with self.farm.reading() as connection:
            assert connection.execute(select(func.count()).select_from(binary)).scalar() == 0

    async def test_what_is_no_deb(self) -> None:
        """The build is FAILED_UPLOAD, with the reason, and its results are kept to be looked at."""
        make_repository(self.farm)
        build_id = make_build(self.farm)
        await self.scan_until(build_id, S.FAILED_UPLOAD)
        assert self.build(build_id).reason.startswith("hello_1.0_amd64.deb: ")
        assert self.results(build_id) == ["hello_1.0_amd64.changes", "hello_1.0_amd64.deb"]
        assert self.publications(build_id) == [("hello", "source", "main", State.PENDING)]

    async def test_a_package_of_another_source(self) -> None:
        """It is refused: whoever builds hello does not publish a libc."""
        make_repository(self.farm)
        build_id = make_build(self.farm)
        self.results_of(write_deb(self.directory, "libc6", fields="Source: glibc"))
        await self.scan_until(build_id, S.FAILED_UPLOAD)
        assert self.build(build_id).reason == "libc6_1.0_amd64.deb: is of source glibc 1.0, not of hello 1.0"

    async def test_a_name_that_is_taken(self) -> None:
        """By what another source built: refused, and what is there stays."""
        make_repository(self.farm)
        self.results_of(write_deb(self.directory))
        first = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(first, S.BUILT, scanner=scanner)
        second = make_build(self.farm, "other", "2.0")
        taken = write_deb(self.directory / "other", fields="Source: other (2.0)")
        self.fake.results = make_results("other", "2.0", {taken.name: taken.read_bytes()})
        await self.scan_until(second, S.FAILED_UPLOAD, scanner=scanner)
        assert "in the archive already, with other content: hello_1.0_amd64.deb" in self.build(second).reason
        assert len(self.publications(first)) == 2

    async def test_a_build_that_repeats_another(self) -> None:
        """What it makes is published nowhere, and in nobody's way; in what it was made is recorded."""
        make_repository(self.farm)
        self.results_of(write_deb(self.directory))
        first = make_build(self.farm)
        scanner = self.scanner()
        await self.scan_until(first, S.BUILT, scanner=scanner)
        before = self.publications(first)
        set_chroot(self.farm, self.place, b"another chroot")
        again = reproductions.order(self.farm, first, self.now)
        self.results_of(write_deb(self.directory / "again", fields="Section: misc"))
        await self.scan_until(again, S.BUILT, scanner=scanner)
        assert self.publications(first) == before
        with self.farm.reading() as connection:
            assert connection.execute(select(func.count()).select_from(binary)).scalar() == 1
        outcome = reproductions.outcome(self.farm, again)
        assert [each.name for each in outcome.differing] == ["hello_1.0_amd64.deb"]
        assert outcome.otherwise == ["both on builder x86", "what was installed is not known of both"]
        chroot = hashlib.sha256(BOGUS_CHROOT).hexdigest()
        assert [self.build(each).chroot_sha256 for each in (first, again)] == [chroot, chroot]
        assert self.build(first).builder_version == self.vitals().version != ""

    async def test_how_soon_apt_sees_them(self) -> None:
        """A moment after the builder says that it has built them: 3 s are wanted."""
        mine = Mine(self.farm, self.directory / "archives")
        build_id = mine.accept().build_ids[0]
        publisher = Publisher(self.farm, reactor, self.snapshot, mine.press)  # type: ignore[arg-type]
        await self.snapshot.start()
        publisher.start()
        try:
            self.results_of(write_deb(self.directory))
            scanner = self.scanner()
            await self.scan_until(build_id, S.GATHERING, S.BUILT, scanner=scanner)
            ended = time.monotonic()
            await self.scan_until(build_id, S.BUILT, scanner=scanner)
            while not (mine.folder / "dists").exists() or mine.index() != ["hello 1.0"]:
                await self.sleep(0.01)
                assert time.monotonic() - ended < 30
            assert time.monotonic() - ended < 3
        finally:
            await publisher.stop()
