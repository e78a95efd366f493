"""Builds that are given to a builder by hand."""

import pytest
from sqlalchemy import update

from buildmaster import builders, builds, giving
from buildmaster.giving import GiveRefused
from buildmaster.lifecycle import BuildState, Event
from buildmaster.tables import builder
from buildmaster.tests.factories import make_build, make_builder, make_series
from buildmaster.tests.farm_case import FarmCase


class TestGive(FarmCase):
    def setUp(self) -> None:
        super().setUp()
        with self.farm.transaction() as connection:
            builders.set_manual(connection, "x86", True)

    def give(self, build_id: int, name: str = "x86") -> None:
        with self.farm.transaction() as connection:
            giving.give(connection, build_id, name)

    async def test_in_manual_mode(self) -> None:
        """A builder in manual mode builds what it is given, whatever its tags and its turn, and nothing else."""
        first, given = make_build(self.farm, "first"), make_build(self.farm, "given", needs="gpu")
        scanner = self.scanner()
        await self.scan(scanner, 3)
        assert self.fake.started == []
        self.give(given)
        await self.scan_until(given, BuildState.BUILT, scanner=scanner)
        await self.scan(scanner, 5)
        assert self.state(first) is BuildState.NEEDS_BUILD and len(self.fake.started) == 1
        assert self.vitals().given is None

    async def test_before_its_turn(self) -> None:
        """A builder that is not in manual mode takes it before what is its turn, then goes on."""
        with self.farm.transaction() as connection:
            builders.set_manual(connection, "x86", False)
        first, given = make_build(self.farm, "first"), make_build(self.farm, "given")
        self.give(given)
        scanner = self.scanner()
        await self.scan_until(given, BuildState.BUILT, scanner=scanner)
        assert self.state(first) is BuildState.NEEDS_BUILD
        await self.scan_until(first, BuildState.BUILT, scanner=scanner)

    async def test_it_is_gone_meanwhile(self) -> None:
        """A build that was cancelled before the builder took it is forgotten, and begins nothing."""
        given, other = make_build(self.farm, "given"), make_build(self.farm, "other")
        self.give(given)
        with self.farm.transaction() as connection:
            builds.record(connection, given, Event.CANCEL, self.now)
        await self.scan(self.scanner(), 4)
        assert self.vitals().given is None and self.fake.started == []
        assert self.state(other) is BuildState.NEEDS_BUILD

    async def test_what_cannot_be_given(self) -> None:
        """A build that does not wait, or is for others; a builder that is out of service, or not there."""
        waits = make_build(self.farm)
        make_series(self.farm, architecture="i386")
        make_builder(self.farm, "other", "http://other/", "i386")
        make_builder(self.farm, "virtual", "http://virtual/")
        with self.farm.transaction() as connection:
            connection.execute(update(builder).where(builder.c.name == "virtual").values(virtualised=True))
            builders.disable(connection, "x86", "broken")
        for build_id, name, why in (
            (99, "other", "build 99 is not waiting"),
            (waits, "other", "is for amd64, and other for i386"),
            (waits, "virtual", "is for builders that are not virtualised"),
            (waits, "x86", "'x86' is disabled"),
        ):
            with pytest.raises(GiveRefused, match=why):
                self.give(build_id, name)
        with pytest.raises(builders.NoSuchBuilder):
            self.give(waits, "nobody")
