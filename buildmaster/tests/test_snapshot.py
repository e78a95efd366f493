"""The master's picture of its database: what is committed shows in it, whatever goes wrong meanwhile."""

import sqlite3
from typing import Any

from twisted.internet.task import Clock

from buildmaster import builders
from buildmaster.farm import Farm
from buildmaster.snapshot import Snapshot
from buildmaster.tests.farm_case import FarmCase


class TestFollowing(FarmCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.snapshot = Snapshot(self.farm, self.clock, 0.5)
        self.other = Farm.open(self.farm.directory)  # As another process has it.
        self.addCleanup(self.other.close)

    def rename(self, version: str) -> None:
        """Change the builder, as another process does."""
        with self.other.transaction() as connection:
            clean = builders.Cleanliness.CLEAN
            builders.set_cleanliness(connection, self.builder_id, clean, version=version)

    def shown(self) -> str:
        return self.snapshot.builders[self.builder_id].version

    async def settle(self) -> None:
        """Let what has begun end: the writer's thread takes one thing after the other."""
        await self.farm.read(lambda _: None)
        await self.sleep(0)

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
        await self.settle()
        assert self.shown() == "new"

    async def test_once_a_minute(self) -> None:
        """A commit that nobody noticed shows after a minute."""
        await self.snapshot.start()
        self.blind(lambda: False)
        self.rename("new")
        self.clock.pump([0.5] * 118)
        await self.settle()
        assert self.shown() == ""
        self.clock.pump([0.5] * 4)
        await self.settle()
        assert self.shown() == "new"

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
            raise sqlite3.DatabaseError("malformed")

        self.blind(fails)
        self.clock.pump([0.5] * 4)
        self.blind(real)
        self.rename("new")
        self.clock.pump([0.5, 0.1])
        await self.settle()
        assert self.shown() == "new"

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
