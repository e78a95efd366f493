"""Files that are sent while a builder still builds."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from twisted.web.xmlrpc import Fault

from buildd.protocol import BuildAnswer
from buildmaster import builders, builds, orders, sending_ahead
from buildmaster.ahead import CHEAP_BYTES
from buildmaster.database import DatabaseLost
from buildmaster.lifecycle import BuildState
from buildmaster.orders import BuildOrder
from buildmaster.sending_ahead import SendingAhead
from buildmaster.tests.factories import make_build, make_builder, set_chroot
from buildmaster.tests.fakes import FakeBuilder, WaitingBuilder, sha1_of
from buildmaster.tests.test_fleet import FleetCase

S = BuildState
FILE_S = 0.8  # How long a file takes to reach a builder.


class AheadCase(FleetCase):
    make_fake: Any = WaitingBuilder

    def slow_down(self, fake: FakeBuilder) -> None:
        """Let each file that the builder has not yet take some time."""
        fetch = fake.fetch

        async def slowly(sha1: str, url: str) -> list[object]:
            if sha1 not in fake.cache:
                await self.sleep(FILE_S)
            return await fetch(sha1, url)

        fake.fetch = slowly  # type: ignore[method-assign]

    async def begins(self, fake: FakeBuilder, build_id: int) -> None:
        await self.reaches(lambda: builds.cookie(build_id) in fake.started)

    async def reaches(self, condition: Any, seconds: float = 5.0) -> None:
        end = self.fake.reactor.seconds() + seconds
        while not condition():
            assert self.fake.reactor.seconds() < end
            await self.sleep(0.01)

    def has(self, fake: FakeBuilder, *names: str) -> bool:
        """Whether a builder has the .dsc of each of these sources."""
        got = {
            line[8:] for data in fake.cache.values() for line in data.decode().splitlines() if line[:8] == "Source: "
        }
        return set(names) <= got

    def near_end(self, build_id: int) -> None:
        """Let a build be as old as it should get."""
        with self.farm.transaction() as connection:
            connection.exec_driver_sql(f"UPDATE build_queue SET expected_s = 1 WHERE build_id = {build_id}")
            connection.exec_driver_sql(f"UPDATE build SET started_at = {self.now - 1} WHERE id = {build_id}")

    async def gap_s(self, limit_bytes: int) -> float:
        """The time between two builds on a builder that files take long to reach."""
        ahead = SendingAhead(
            self.farm, self.snapshot, dispatcher=self.work.dispatcher, client=self.work.client, now=lambda: self.now,
            limit_bytes=limit_bytes,
        )  # fmt: skip
        self.work = replace(self.work, ahead=ahead)
        self.slow_down(self.fake)
        self.fake.duration_s = None
        first, second = make_build(self.farm), make_build(self.farm, "other")
        await self.run_fleet()
        await self.begins(self.fake, first)
        await self.sleep(4 * FILE_S)
        self.fake.end()
        ended = self.fake.reactor.seconds()
        await self.begins(self.fake, second)
        return float(self.fake.reactor.seconds() - ended)


class TestTheGap(AheadCase):
    async def test_with(self) -> None:
        """A builder that has the files of its next build begins it at once."""
        assert await self.gap_s(1 << 30) < FILE_S
        assert self.vitals().failures == 0

    async def test_without(self) -> None:
        """One that is sent nothing ahead fetches them while it is idle."""
        assert await self.gap_s(0) > FILE_S


class TestWhatIsSent(AheadCase):
    async def building(self, *sources: str) -> list[int]:
        """A build that runs, without an end; these wait."""
        self.fake.duration_s = None
        ids = [make_build(self.farm), *(make_build(self.farm, name) for name in sources)]
        await self.run_fleet()
        await self.begins(self.fake, ids[0])
        return ids

    async def test_two_at_most(self) -> None:
        """Two builds are prepared for, in the order of the queue, and each file is asked for once."""
        await self.building("aa", "bb", "cc")
        await self.reaches(lambda: self.has(self.fake, "aa", "bb"))
        await self.sleep(0.7)
        assert self.fake.calls.count("ensurepresent") == 3 + 1 + 2 * 2  # The chroot is asked for by both.
        assert not self.has(self.fake, "cc")

    async def test_once_for_all_builds(self) -> None:
        """What a builder was sent for the build after the next is not sent again during the next; after five minutes,
        when it may have made room for other files, it is."""
        ids = await self.building("aa", "bb", "cc")
        await self.reaches(lambda: self.has(self.fake, "aa", "bb"))
        await self.reaches(lambda: self.work.ahead._sent[self.builder_id].going is None)  # Their other files are, too.
        self.fake.calls.clear()
        with patch.object(orders, "find", wraps=orders.find) as find:
            self.fake.end()
            await self.begins(self.fake, ids[1])
            await self.reaches(lambda: self.has(self.fake, "cc"))
            await self.reaches(lambda: self.work.ahead._sent[self.builder_id].going is None)  # Its other file is, too.
        assert self.fake.calls.count("ensurepresent") == 2
        assert [call.args[1] for call in find.call_args_list] == [
            ids[1],
            ids[3],
        ]  # Nobody asks what is to be sent of bb.
        self.fake.calls.clear()
        self.now += 300
        self.fake.end()
        await self.begins(self.fake, ids[2])
        await self.reaches(lambda: self.fake.calls.count("ensurepresent") == 3)  # The chroot, too.

    async def test_not_to_what_is_thrown_away(self) -> None:
        """A builder that is reset after its build would lose what it is sent."""
        self.work.dispatcher.is_reset = lambda _: True
        await self.building("aa")
        await self.sleep(0.5)
        assert not self.has(self.fake, "aa")

    async def test_shared_out(self) -> None:
        """What one builder should take first is not what the other is sent first."""
        other = self.make_fake(self.fake.reactor, duration_s=None)
        make_builder(self.farm, "other", other.listen())
        self.fake.duration_s = None
        busy = [make_build(self.farm, name) for name in ("one", "two")]
        for name in ("aa", "bb", "cc", "dd"):
            make_build(self.farm, name)
        await self.run_fleet()
        for build_id in busy:
            await self.reaches(lambda: builds.cookie(build_id) in self.fake.started + other.started)  # noqa: B023
        await self.reaches(lambda: self.has(self.fake, "aa") != self.has(other, "aa"))
        await self.sleep(0.3)
        assert {self.has(fake, "aa", "bb") for fake in (self.fake, other)} == {True, False}
        assert {self.has(fake, "cc") for fake in (self.fake, other)} == {True, False}
        await other.stop()

    async def test_large_files(self) -> None:
        """What is large is sent when the build should be about to end, and not before."""
        ids = await self.building("aa")
        chroot = bytes(CHEAP_BYTES + 1)
        set_chroot(self.farm, self.place, chroot)
        await self.reaches(lambda: self.has(self.fake, "aa"))
        await self.sleep(0.3)
        assert sha1_of(chroot) not in self.fake.cache
        self.near_end(ids[0])
        await self.reaches(lambda: sha1_of(chroot) in self.fake.cache)

    async def test_what_fails_is_nobodys_fault(self) -> None:
        """A builder that cannot fetch ahead goes on building; nothing is counted against anybody."""
        self.fake.duration_s = None
        ids = [make_build(self.farm), make_build(self.farm, "aa")]
        await self.run_fleet()
        begin = self.fake.begin

        def break_and_begin(build_id: str, chroot: str, filemap: dict[str, str]) -> list[str]:
            answer = begin(build_id, chroot, filemap)
            if answer[0] == BuildAnswer.BUILDING:
                self.fake.faults["ensurepresent"] = Fault(8002, "no room")
            return answer

        self.fake.begin = break_and_begin  # type: ignore[method-assign]
        await self.begins(self.fake, ids[0])
        await self.sleep(0.5)
        assert self.state(ids[0]) is S.BUILDING
        assert (self.vitals().failures, self.vitals().trouble, self.build(ids[0]).failures) == (0, "", 0)
        self.fake.faults.clear()
        self.fake.end()
        await self.until(ids[0], S.BUILT)

    async def test_a_database_that_is_away(self) -> None:
        """That is told where it is found, and is no mistake of who wants to send something."""
        asked: list[object] = []

        def lose(*what: object) -> list[BuildOrder]:
            asked.append(what)
            raise DatabaseLost("no route")

        self.patch(sending_ahead, "_next", lose)  # type: ignore[no-untyped-call]
        self.fake.duration_s = None
        ids = [make_build(self.farm), make_build(self.farm, "aa")]
        await self.run_fleet()
        await self.begins(self.fake, ids[0])
        await self.reaches(lambda: asked)
        await self.sleep(0.1)
        assert self.flushLoggedErrors() == []  # type: ignore[no-untyped-call]

    async def test_not_to_who_gets_nothing(self) -> None:
        """A builder in manual mode is sent nothing."""
        self.fake.duration_s = None
        first = make_build(self.farm)
        await self.run_fleet()
        await self.begins(self.fake, first)
        with self.farm.transaction() as connection:
            builders.set_manual(connection, "x86", True)
        await self.sleep(0.2)
        make_build(self.farm, "aa")
        await self.sleep(0.5)
        assert not self.has(self.fake, "aa")


class TestStock(AheadCase):
    make_fake = FakeBuilder

    async def test_large_files(self) -> None:
        """A stock daemon, which stands still while it fetches, is never sent anything large ahead."""
        self.fake.duration_s = None
        ids = [make_build(self.farm), make_build(self.farm, "aa")]
        await self.run_fleet()
        await self.begins(self.fake, ids[0])
        chroot = bytes(CHEAP_BYTES + 1)
        set_chroot(self.farm, self.place, chroot)
        self.near_end(ids[0])
        await self.reaches(lambda: self.has(self.fake, "aa"))
        await self.sleep(0.5)
        assert sha1_of(chroot) not in self.fake.cache

    async def test_before_it_is_known(self) -> None:
        """Nor is one that has not said yet that it is one: the master has just been started."""
        self.fake.duration_s = None
        ids = [make_build(self.farm), make_build(self.farm, "aa")]
        chroot, begin = bytes(CHEAP_BYTES + 1), self.fake.begin

        def begin_and_be_near_the_end(*what: Any) -> list[str]:
            set_chroot(self.farm, self.place, chroot)
            self.near_end(ids[0])
            self.snapshot.stale()
            return begin(*what)

        self.fake.begin = begin_and_be_near_the_end  # type: ignore[method-assign, assignment]
        await self.run_fleet()
        await self.reaches(lambda: self.has(self.fake, "aa"))
        await self.sleep(0.5)
        assert sha1_of(chroot) not in self.fake.cache
