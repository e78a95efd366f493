"""The master dies at each point where it commits or talks, and another goes on: nothing lost, nothing done twice."""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from buildd.protocol import BuilderStatus, BuildStatus
from buildmaster import builds
from buildmaster.builder_client import BuilderClient
from buildmaster.builders import Cleanliness
from buildmaster.lifecycle import BuildState
from buildmaster.tables import builder
from buildmaster.tests.factories import make_build
from buildmaster.tests.farm_case import FarmCase

S = BuildState
CALLS = ("status", "ensure_present", "build", "abort", "clean", "file", "log")


class Died(BaseException):
    """The master is gone."""


class Bomb:
    """Ends the master at the nth point that it comes by."""

    def __init__(self, nth: int) -> None:
        self.left = nth
        self.where = ""

    def tick(self, where: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.where = where
            raise Died(where)

    def around(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same call, with a point before it and one after it."""

        async def wrapped(*arguments: Any, **more: Any) -> Any:
            self.tick(f"before {name}")
            result = await call(*arguments, **more)
            self.tick(f"after {name}")
            return result

        return wrapped


class TestCrashPoints(FarmCase):
    def arm(self, bomb: Bomb) -> None:
        """Let commits and calls of the master that starts now be points of the bomb."""
        database: Any = self.farm.database
        transaction = type(database)._transaction.__get__(database)

        @contextmanager
        def committing(*arguments: Any) -> Iterator[Any]:
            with transaction(*arguments) as connection:
                yield connection
                bomb.tick("before a commit")  # All of it is rolled back.
            bomb.tick("after a commit")

        database._transaction = committing  # By which all that writes commits, whoever asked for it.
        for name in CALLS:
            self.patch(BuilderClient, name, self.armed(bomb, name))  # type: ignore[no-untyped-call]

    def armed(self, bomb: Bomb, name: str) -> Any:
        real = self.real[name]

        async def wrapped(client: BuilderClient, *arguments: Any) -> Any:
            return await bomb.around(name, real)(client, *arguments)

        return wrapped

    def setUp(self) -> None:
        super().setUp()
        self.fake.duration_s = self.fake.abort_s = None  # Nothing here happens by the clock.
        self.real = {name: getattr(BuilderClient, name) for name in CALLS}
        self.numbers = itertools.count()

    async def live_and_die(self, name: str, nth: int, end: BuildState, cancel: bool = False) -> str:
        """One build, by a master that dies at its nth point and another that goes on. Returns where it died, "" when it
        did not."""
        build_id = make_build(self.farm, name)
        bomb = Bomb(nth)
        self.arm(bomb)
        started = len(self.fake.started)
        scanner = self.scanner()
        for _ in range(60):
            try:
                if cancel and self.state(build_id) is S.BUILDING and self.fake.status is BuilderStatus.BUILDING:
                    with self.farm.transaction() as connection:
                        builds.cancel(connection, build_id, self.now)
                await self.scan(scanner)
            except Died:
                scanner = self.scanner()
            if self.fake.status is BuilderStatus.ABORTING:
                self.fake.stopped()
            elif self.fake.status is BuilderStatus.BUILDING and not cancel:
                self.fake.end()
            if self.state(build_id) is end and self.vitals().cleanliness is Cleanliness.CLEAN:
                break
        bomb.left = 0
        told = f"{nth}: died {bomb.where}"
        assert self.state(build_id) is end, told
        assert self.queue_row(build_id) is None, told
        assert self.fake.started[started:] == [builds.cookie(build_id)], told
        assert self.vitals().enabled and self.vitals().failures == 0, told
        assert self.losses() == 0, told  # A builder is not to blame for what the master did not send it.
        assert self.vitals().job is None and self.fake.status is BuilderStatus.IDLE, told
        assert self.build(build_id).log_file_id, told
        assert end is not S.BUILT or len(self.results(build_id)) == 2, told
        return bomb.where

    def losses(self) -> int:
        with self.farm.reading() as connection:
            return int(connection.execute(select(builder.c.losses)).scalar_one())

    async def at_each_point(self, end: BuildState, **more: bool) -> set[str]:
        """Die at the first point, at the second, and so on until there is none."""
        places: list[str] = []
        while where := await self.live_and_die(f"source{next(self.numbers)}", len(places) + 1, end, **more):
            places.append(where)
        return set(places)

    async def test_a_build_that_succeeds(self) -> None:
        """A build that succeeds is begun once and its results are recorded, wherever the master died."""
        points = ("a commit", "status", "ensure_present", "build", "file", "log", "clean")
        wanted = {f"{side} {each}" for side in ("before", "after") for each in points}
        places: set[str] = set()
        for _ in range(5):  # Files come while GATHERING is committed: which point is the nth differs.
            if not wanted <= places:
                places |= await self.at_each_point(S.BUILT)
        assert places == wanted

    async def test_a_build_that_fails(self) -> None:
        """So it is with one that fails."""
        self.fake.outcome = BuildStatus.PACKAGEFAIL
        assert len(await self.at_each_point(S.FAILED)) == 12

    async def test_a_build_that_is_cancelled(self) -> None:
        """And with one that is cancelled while it runs."""
        assert "after abort" in await self.at_each_point(S.CANCELLED, cancel=True)
