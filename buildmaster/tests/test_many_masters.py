"""Several masters as processes on one PostgreSQL, which die at each step between lease and work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from sqlalchemy import func, select

from buildmaster import builds
from buildmaster.builders import Cleanliness
from buildmaster.lifecycle import BuildState
from buildmaster.tables import build_queue, builder, master
from buildmaster.tests import databases
from buildmaster.tests.factories import make_build, make_builder
from buildmaster.tests.fakes import FakeBuilder
from buildmaster.tests.farm_case import FarmCase

# Dies as a process does that is killed: at `WAY FUNCTION SIDE`; WAY is a method of Leases that writes, and FUNCTION
# what it writes.
MASTER = """
import os, sys
from pathlib import Path
from twisted.logger import globalLogBeginner, textFileLogObserver
from buildmaster import service
from buildmaster.leases import Leases
from buildmaster.tests.factories import config_of

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
way, where, side = (os.environ.get("DIE_AT") or "_write nowhere before").split()
real = getattr(Leases, way)

async def write(self, *arguments, **more):
    here = where in (getattr(each, "__name__", "") for each in arguments[:2])
    if here and side == "before":
        os._exit(9)
    result = await real(self, *arguments, **more)
    if here:
        os._exit(9)
    return result

setattr(Leases, way, write)
pace = {"poll_fastest_s": 0.05, "poll_slowest_s": 0.3, "database_poll_s": 0.1, "rpc_timeout_s": 5.0, "lease_s": 1.5}
service.run(config_of(Path(sys.argv[1]), port=0, **pace))
"""
DIED = 9


class TestManyMasters(FarmCase):
    timeout = 500

    def setUp(self) -> None:
        self.patch(databases, "on_postgresql", lambda: True)  # type: ignore[no-untyped-call]
        super().setUp()
        self.log = self.farm.directory / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
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
            process.wait()
        for fake in self.fakes[1:]:
            await fake.stop()
        await super().tearDown()

    def start(self, die_at: str = "") -> subprocess.Popen[bytes]:
        """One more master."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", MASTER, str(self.farm.directory)]
            process = subprocess.Popen(command, stderr=log, env={**os.environ, "DIE_AT": die_at})
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

    async def until_dead(self, mortals: Iterable[subprocess.Popen[bytes]]) -> None:
        mortals = list(mortals)
        await self.until(lambda: all(each.poll() is not None for each in mortals))
        assert [each.returncode for each in mortals] == [DIED] * len(mortals)

    async def until_holds(self, process: subprocess.Popen[bytes], count: int) -> None:
        """Until a master holds so many builders, or more."""

        def holds() -> bool:
            assert process.poll() is None, self.log.read_text()[-4000:]
            return self.held_by(process) >= count

        await self.until(holds)

    def held_by(self, process: subprocess.Popen[bytes]) -> int:
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
        sides = ("before", "after")
        self.submit(12)
        await self.until_dead(
            [self.start(f"_write {where} {side}") for where in ("join", "beat", "take") for side in sides]
        )
        await self.until_dead(
            [self.start(f"transact {where} {side}") for where in ("take", "record", "_record") for side in sides]
        )
        await self.until_dead([self.start(f"_write bury {side}") for side in sides])
        self.submit(12)
        for side in sides:
            mortal = self.start(f"_write release {side}")
            await self.until_holds(mortal, 6)
            other = self.start()
            await self.until_dead([mortal])
            other.kill()
        for side in sides:
            mortal = self.start(f"_write leave {side}")
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
            masters[turn].send_signal(signal.SIGSTOP)
            await self.until(lambda turn=turn: self.held_by(masters[turn]) == 0, 60.0)  # type: ignore[misc]
            masters[turn].send_signal(signal.SIGCONT)
            await self.until(lambda turn=turn: self.held_by(masters[turn]) == 2)  # type: ignore[misc]
        await self.until(self.all_built)
        self.check_end()
