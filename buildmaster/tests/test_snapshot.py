"""The master's picture of its database: what is committed shows in it, whatever goes wrong meanwhile."""

import sqlite3
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import delete
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from buildmaster import builders
from buildmaster.commits import CannotSee
from buildmaster.farm import Farm
from buildmaster.snapshot import Snapshot
from buildmaster.tables import builder
from buildmaster.tests import databases
from buildmaster.tests.factories import make_builder
from buildmaster.tests.farm_case import FarmCase


class TestFollowing(FarmCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.snapshot = Snapshot(self.farm, self.clock, 0.5)
        self.other = Farm.open(self.farm.places)  # As another process has it.
        self.addCleanup(self.other.close)

    def rename(self, version: str) -> None:
        """Change the builder, as another process does."""
        with self.other.transaction() as connection:
            clean = builders.Cleanliness.CLEAN
            builders.set_cleanliness(connection, self.builder_id, clean, version=version)

    def shown(self) -> str:
        return self.snapshot.builders[self.builder_id].version

    async def until_shown(self, version: str) -> None:
        """Wait until the picture shows this, or some seconds have passed on both clocks."""
        for _ in range(500):
            if self.shown() == version:
                return
            self.clock.advance(0.01)
            await self.sleep(0.01)
        raise AssertionError(f"it shows {self.shown()!r}")

    async def settle(self) -> None:
        """Let what has begun end."""
        await self.farm.read(lambda _: None)
        await self.sleep(0.05 if databases.on_postgresql() else 0)  # On SQLite there is one thread.
        while self.snapshot._turn.locked:
            await self.sleep(0.01)

    async def test_a_commit_while_it_starts(self) -> None:
        """What another process commits right after the first picture was read is seen by the next."""
        real = self.farm.read

        async def read_and_then(function: Any, *arguments: Any) -> Any:
            found = await real(function, *arguments)
            self.rename("new")
            return found

        self.farm.read = read_and_then  # type: ignore[method-assign, assignment]
        await self.snapshot.start()
        self.farm.read = real  # type: ignore[method-assign]
        assert self.shown() == ""
        self.clock.pump([0.5, 0.1])
        await self.until_shown("new")

    async def test_once_a_minute(self) -> None:
        """A commit that nobody noticed shows after a minute."""
        await self.snapshot.start()
        self.blind(lambda: False)
        self.rename("new")
        self.clock.pump([0.5] * 118)
        await self.settle()
        assert self.shown() == ""
        self.clock.pump([0.5] * 4)
        await self.until_shown("new")

    def blind(self, seen: Any) -> None:
        self.commits().seen = seen

    def commits(self) -> Any:
        assert self.snapshot._poll is not None
        return self.snapshot._poll.a[0]

    async def test_a_look_that_fails(self) -> None:
        """A look for commits that fails, in whatever way, does not end the looking."""
        await self.snapshot.start()
        real = self.commits().seen

        def fails() -> bool:
            raise CannotSee("malformed")

        self.blind(fails)
        self.clock.pump([0.5] * 4)
        self.blind(real)
        self.rename("new")
        self.clock.pump([0.5, 0.1])
        await self.until_shown("new")

    async def test_a_picture_that_fails_after_the_end(self) -> None:
        """A picture that cannot be taken is tried again, but not once nobody follows any more."""
        await self.snapshot.start()

        async def fails(*_: Any) -> Any:
            raise sqlite3.OperationalError("disk I/O error")

        self.farm.read = fails  # type: ignore[method-assign, assignment]
        self.snapshot.stale()
        self.clock.advance(0.1)
        assert len(self.flushLoggedErrors(sqlite3.OperationalError)) == 1  # type: ignore[no-untyped-call]
        assert self.snapshot._taking is not None
        self.snapshot.stop()
        self.snapshot._take_now()
        assert self.snapshot._taking is None
        del self.farm.read

    def looked_at(self) -> list[Any]:
        """Grows by what each picture is of from now on: ids of builders, or None for all."""
        looks: list[Any] = []
        real = builders.vitals

        def vitals(connection: Any, only: Any = None) -> Any:
            looks.append(only)
            return real(connection, only)

        self.patch(builders, "vitals", vitals)  # type: ignore[no-untyped-call]
        return looks

    def bring_nothing(self) -> None:
        """Let commits bring nothing along, as those do of which nobody knows whether they were: pictures alone show."""
        self.farm.database.look = lambda _, __: None

    async def a_second_passes(self) -> None:
        """In steps, so that whatever follows from one comes before the next."""
        for _ in range(10):
            self.clock.pump([0.1])
            await self.settle()

    async def change(self, builder_id: int, version: str) -> None:
        """Commit something about one builder only, and let a second pass."""
        clean = builders.Cleanliness.CLEAN
        await self.farm.transact_about(builder_id, builders.set_cleanliness, builder_id, clean, version=version)
        await self.a_second_passes()

    async def test_what_is_about_one_builder(self) -> None:
        """After a commit of ours that concerns one builder, only that is looked at; also when it is noticed later."""
        second = make_builder(self.farm, "second", "http://localhost:8222/")
        await self.snapshot.start()
        await self.change(second, "1")
        looks = self.looked_at()
        await self.change(second, "2")
        assert self.snapshot.builders[second].version == "2"
        assert {second} in looks and None not in looks

    async def test_what_is_about_one_builder_with_many_connections(self) -> None:
        """So it is when there have been several connections to the database at once: one is used as long as it does."""
        second = make_builder(self.farm, "second", "http://localhost:8222/")
        with self.farm.reading(), self.farm.reading(), self.farm.reading():
            pass
        await self.snapshot.start()
        await self.change(second, "1")
        looks = self.looked_at()
        for version in "2345":
            await self.change(second, version)
        assert self.snapshot.builders[second].version == "5"
        assert {second} in looks and None not in looks

    async def test_what_others_commit_meanwhile(self) -> None:
        """It shows in the same picture."""
        second = make_builder(self.farm, "second", "http://localhost:8222/")
        await self.snapshot.start()
        self.rename("others'")
        await self.change(second, "ours")
        assert (self.shown(), self.snapshot.builders[second].version) == ("others'", "ours")

    async def test_what_a_commit_brings_along(self) -> None:
        """A commit of ours that is about a builder shows it at once, before a picture is taken."""
        await self.snapshot.start()
        clean = builders.Cleanliness.CLEAN
        await self.farm.transact_about(self.builder_id, builders.set_cleanliness, self.builder_id, clean, version="2")
        assert self.shown() == "2"

    async def test_a_commit_that_nobody_waits_for(self) -> None:
        """Shows as any other: what is committed is not undone when whoever wanted it is cancelled meanwhile."""
        await self.snapshot.start()
        me, clean = self.builder_id, builders.Cleanliness.CLEAN
        going = Deferred.fromCoroutine(self.farm.transact_about(me, builders.set_cleanliness, me, clean, version="2"))
        going.cancel()
        with pytest.raises(CancelledError):
            await going
        await self.a_second_passes()
        assert self.shown() == "2"

    async def test_what_a_commit_brings_along_too_late(self) -> None:
        """What others have committed after it, and was shown already, is shown again soon."""
        await self.snapshot.start()
        with self.farm.reading() as connection:
            ours = builders.by_id(connection, self.builder_id)
        self.rename("others'")
        await self.snapshot.take()
        self.snapshot.stale(self.builder_id, ours)
        assert self.shown() != "others'"
        self.clock.pump([0.1])
        await self.settle()
        assert self.shown() == "others'"

    async def test_at_leisure(self) -> None:
        """A farm that is busy with its builders is looked at now and then, and not for each commit of its own; what
        others commit while it is not busy shows at once."""
        await self.snapshot.start()
        looks = self.looked_at()
        clean = builders.Cleanliness.CLEAN
        for number in range(10):
            me, version = self.builder_id, str(number)
            await self.farm.transact_about(me, builders.set_cleanliness, me, clean, version=version)
            self.clock.advance(0.02)
            await self.settle()
        assert 1 <= len(looks) <= 3
        self.clock.pump([0.5, 0.1, 0.5, 0.1])
        await self.settle()
        looks.clear()
        news = self.snapshot.news
        self.rename("others'")
        await self.until_shown("others'")
        assert (len(looks), self.snapshot.news - news) == (1, 1)

    async def test_who_saw_the_older_is_woken_for_the_newer(self) -> None:
        """Who was woken for what others have committed, and then saw what a commit of ours brought along too late, is
        woken once more."""
        await self.snapshot.start()
        with self.farm.reading() as connection:
            ours = builders.by_id(connection, self.builder_id)
        woken = Mock()
        self.snapshot.watch(self.builder_id, woken)
        self.rename("others'")
        await self.snapshot.take()
        assert woken.call_count == 1
        self.snapshot.stale(self.builder_id, ours)
        self.clock.pump([0.1])
        await self.settle()
        assert self.shown() == "others'" and woken.call_count == 2

    async def test_what_this_process_commits_otherwise(self) -> None:
        """A transaction that blocks is news as another's is, also on the connection that pictures are read by."""
        await self.snapshot.start()
        await self.change(self.builder_id, "1")
        with self.farm.transaction() as connection:
            builders.set_cleanliness(connection, self.builder_id, builders.Cleanliness.CLEAN, version="2")
        await self.a_second_passes()
        assert self.shown() == "2"

    async def test_a_builder_that_goes(self) -> None:
        """One that a look at it alone does not find is no longer in the picture."""
        await self.snapshot.start()
        await self.farm.transact_about(self.builder_id, lambda connection: connection.execute(delete(builder)))
        self.clock.pump([0.1])
        await self.settle()
        assert self.snapshot.builders == {}

    async def test_a_picture_that_fails(self) -> None:
        """What changed before it shows after the next."""
        await self.snapshot.start()
        self.bring_nothing()
        real = self.farm.read
        self.farm.read = Mock(side_effect=OSError("the disk is broken"))  # type: ignore[method-assign]
        clean = builders.Cleanliness.CLEAN
        await self.farm.transact_about(self.builder_id, builders.set_cleanliness, self.builder_id, clean, version="new")
        self.clock.pump([0.1])
        await self.sleep(0)
        self.farm.read = real  # type: ignore[method-assign]
        self.clock.pump([0.6])
        await self.settle()
        assert self.shown() == "new"
        assert len(self.flushLoggedErrors(OSError)) == 1  # type: ignore[no-untyped-call]

    async def test_more_commits_than_pictures(self) -> None:
        """While a picture is taken no other is asked for; the next one shows all that was committed meanwhile."""
        await self.snapshot.start()
        self.bring_nothing()
        real, reads, held = self.farm.read, Mock(), Deferred[None]()

        async def read(function: Any, *arguments: Any) -> Any:
            reads()
            found = await real(function, *arguments)
            await held
            return found

        self.farm.read = read  # type: ignore[method-assign, assignment]
        for number in range(10):
            me, clean = self.builder_id, builders.Cleanliness.CLEAN
            await self.farm.transact_about(me, builders.set_cleanliness, me, clean, version=str(number))
            self.clock.pump([0.1])
        assert reads.call_count == 1
        held.callback(None)
        self.farm.read = real  # type: ignore[method-assign]
        await self.settle()
        self.clock.pump([0.1])
        await self.settle()
        assert self.shown() == "9"
