"""Several masters as processes on one PostgreSQL, which die at each step between lease and work."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess

from sqlalchemy import func, select

from buildmaster import builds
from buildmaster.builders import Cleanliness
from buildmaster.lifecycle import BuildState
from buildmaster.tables import build_queue, builder, master
from buildmaster.tests import databases, points, processes
from buildmaster.tests.factories import make_build, make_builder
from buildmaster.tests.fakes import FakeBuilder
from buildmaster.tests.farm_case import FarmCase

LEASING = (
    "leases.Leases._join: masters.join",
    "leases.Leases._beat: masters.beat",
    "leases.Leases._take: masters.take",
)
WORKING = (
    "dispatch.Dispatcher.dispatch: take",
    "gathering.Gatherer._begin: _begin",
    "gathering.Gatherer._succeeded: self._record",
)


class TestManyMasters(FarmCase):
    timeout = 500

    def setUp(self) -> None:
        self.patch(databases, "on_postgresql", lambda: True)  # type: ignore[no-untyped-call]
        super().setUp()
        self.log = self.farm.directory / "log"
        self.processes: list[BaseProcess] = []
        self.ids: list[int] = []
        self.fakes: list[FakeBuilder] = [self.fake]
        for number in range(5):
            fake = self.make_fake(self.fake.reactor)
            make_builder(self.farm, f"other{number}", fake.listen())
            self.fakes.append(fake)
        for fake in self.fakes:
            fake.duration_s = 0.2

    async def tearDown(self) -> None:  # type: ignore[override]
        for process in self.processes:
            process.kill()
            process.join()
        for fake in self.fakes[1:]:
            await fake.stop()
        await super().tearDown()

    def start(self, point: str = "", side: str = "") -> BaseProcess:
        """One more master; it dies at this point, if there is one."""
        process = processes.start_master(self.farm.directory, self.log, point, side)
        self.processes.append(process)
        return process

    def submit(self, count: int) -> None:
        begin = len(self.ids)
        self.ids += [make_build(self.farm, f"source{number}") for number in range(begin, begin + count)]

    async def until(self, true: Callable[[], bool], seconds: float = 150.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.log.read_text()[-4000:]
            await self.sleep(0.05)

    async def until_dead(self, mortals: Iterable[BaseProcess]) -> None:
        mortals = list(mortals)
        await self.until(lambda: all(each.exitcode is not None for each in mortals))
        assert [each.exitcode for each in mortals] == [points.DIED] * len(mortals)

    async def until_holds(self, process: BaseProcess, count: int) -> None:
        """Until a master holds so many builders, or more."""

        def holds() -> bool:
            assert process.exitcode is None, self.log.read_text()[-4000:]
            return self.held_by(process) >= count

        await self.until(holds)

    def held_by(self, process: BaseProcess) -> int:
        """How many builders a master holds."""
        ours = select(master.c.id).where(master.c.name.endswith(f":{process.pid}")).scalar_subquery()
        with self.farm.reading() as connection:
            query = select(func.count()).where(builder.c.master_id == ours)
            return int(connection.execute(query).scalar_one())

    def all_built(self) -> bool:
        with self.farm.reading() as connection:
            clean = select(func.count()).where(builder.c.cleanliness == Cleanliness.CLEAN)
            if connection.execute(clean).scalar() != len(self.fakes):
                return False
        return {self.state(each) for each in self.ids} == {BuildState.BUILT}

    def check_end(self) -> None:
        """Every build has happened once, and is whole; no builder was blamed for what masters did."""
        started = [each for fake in self.fakes for each in fake.started]
        assert sorted(started) == sorted(builds.cookie(each) for each in self.ids)
        with self.farm.reading() as connection:
            assert connection.execute(select(func.count()).select_from(build_queue)).scalar() == 0
            assert connection.execute(select(func.count()).where(~builder.c.enabled)).scalar() == 0
        for each in self.ids:
            assert len(self.results(each)) == 2 and self.build(each).log_file_id

    async def test_they_die_at_each_step(self) -> None:
        """Wherever between lease and work masters die, others have their builders; nothing is lost, or done twice."""
        self.submit(12)
        for some in (LEASING, WORKING):
            await self.until_dead([self.start(each, side) for each in some for side in points.SIDES])
        await self.until_dead([self.start("leases.Leases._beat: masters.bury", side) for side in points.SIDES])
        self.submit(12)
        for side in points.SIDES:
            mortal = self.start("leases.Leases._hand_over: masters.release", side)
            await self.until_holds(mortal, 6)
            other = self.start()
            await self.until_dead([mortal])
            other.kill()
        for side in points.SIDES:
            mortal = self.start("leases.Leases.stop: masters.leave", side)
            await self.until_holds(mortal, 1)
            mortal.terminate()
            await self.until_dead([mortal])
        self.submit(12)
        survivor = self.start()
        await self.until(self.all_built)
        assert self.held_by(survivor) == 6
        self.check_end()

    async def test_one_that_is_stopped_and_goes_on(self) -> None:
        """A master that stands still in the middle of its work, and goes on when others have its builders, does nothing
        twice; and has a share again."""
        masters = [self.start() for _ in range(3)]
        await self.until(lambda: [self.held_by(each) for each in masters] == [2, 2, 2])
        for turn in range(3):
            self.submit(12)
            await self.sleep(0.4)
            os.kill(masters[turn].pid or 0, signal.SIGSTOP)
            await self.until(lambda turn=turn: self.held_by(masters[turn]) == 0, 60.0)  # type: ignore[misc]
            os.kill(masters[turn].pid or 0, signal.SIGCONT)
            await self.until(lambda turn=turn: self.held_by(masters[turn]) == 2)  # type: ignore[misc]
        await self.until(self.all_built)
        self.check_end()
