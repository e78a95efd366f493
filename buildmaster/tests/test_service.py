"""The master as a process: started, ended, killed, and started again."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from buildmaster import builds
from buildmaster.config import MasterConfig
from buildmaster.farm import Farm, MasterRuns, NoFarm, Places, only_master
from buildmaster.lifecycle import BuildState
from buildmaster.service import CannotListen, run
from buildmaster.tables import build_queue
from buildmaster.tests import databases
from buildmaster.tests.factories import config_of, make_build, make_builder
from buildmaster.tests.farm_case import FarmCase
from buildmaster.tests.waiting import wait_until

MASTER = """
import sys
from pathlib import Path
from twisted.logger import globalLogBeginner, textFileLogObserver
from buildmaster import service
from buildmaster.tests.factories import config_of
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
pace = {"poll_fastest_s": 0.02, "poll_slowest_s": 0.2, "database_poll_s": 0.05, "rpc_timeout_s": 5.0}
service.run(config_of(Path(sys.argv[1]), port=0, **pace))
"""


class MasterProcess:
    """A master in a process of its own."""

    def __init__(self, farm: Farm, **environment: str) -> None:
        self.log = farm.directory / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MASTER, str(farm.directory)], stderr=log, env={**os.environ, **environment}
            )

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)

    def logged(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str) -> None:
        def logged() -> bool:
            assert self.process.poll() is None, self.logged()
            return words in self.logged()

        wait_until(logged, told=self.logged)


def test_it_ends_clean(farm: Farm) -> None:
    """SIGTERM ends the master with status 0, in well under 10 seconds, and frees the farm for the next."""
    for _ in range(2):
        master = MasterProcess(farm)
        master.wait_for("runs; files at")
        began = time.monotonic()
        assert master.end() == 0 and time.monotonic() - began < 5
        master.log.unlink()


@databases.one_master()
def test_one_master_a_farm(farm: Farm) -> None:
    """A second master on the same farm refuses to start, and says why."""
    config = config_of(farm.directory, port=0)
    with only_master(farm.places), pytest.raises(MasterRuns, match="another master"):
        run(config)


def test_one_master_a_database(tmp_path: Path) -> None:
    """On SQLite there is one master on a database, wherever that is, and whatever directory a master has."""
    Farm.create(tmp_path / "farm").close()
    there = f"sqlite:///{tmp_path / 'farm' / 'farm.sqlite'}"
    with only_master(tmp_path / "farm"), pytest.raises(MasterRuns), only_master(Places(tmp_path / "other", there)):
        pass
    elsewhere = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    Farm.create(Places(tmp_path / "a", elsewhere)).close()
    with only_master(Places(tmp_path / "b", elsewhere)):
        with pytest.raises(MasterRuns), only_master(Places(tmp_path / "a", elsewhere)):
            pass
        with only_master(tmp_path / "farm"):
            pass


@databases.one_master()
def test_tables_are_left_alone_while_a_master_runs(farm: Farm) -> None:
    """A second master changes no tables: it is refused before it would bring them up to date."""
    with farm.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'older'")
    with only_master(farm.places), pytest.raises(MasterRuns):
        run(config_of(farm.directory, port=0))
    with farm.reading() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "older"


def test_no_farm(tmp_path: Path) -> None:
    """Where there is no farm the master says what to do."""
    with pytest.raises(NoFarm, match="init"):
        run(MasterConfig(directory=tmp_path / "x", port=0))


def test_the_port_is_taken(farm: Farm) -> None:
    """When another program has the port for files, the master ends and names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        code = MASTER.replace("port=0", f"port={number}")
        command = [sys.executable, "-c", code, str(farm.directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert (
        f"{CannotListen.__name__}: cannot listen at 127.0.0.1:{number}: Address already in use. [files] port"
        in done.stderr
    )


def test_systemd_is_told(farm: Farm, tmp_path: Path) -> None:
    """systemd hears when the master runs, that it is alive, and when it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        master = MasterProcess(farm, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        assert [notify.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        master.end()
        heard = {notify.recv(100) for _ in range(1)}
        while b"STOPPING=1" not in heard:
            heard.add(notify.recv(100))


class TestKilled(FarmCase):
    timeout = 300

    async def stay(self, seconds: float) -> None:
        """Let the fake builders go on meanwhile."""
        await self.sleep(seconds)

    async def test_kill_9_at_any_moment(self) -> None:
        """However often the master is killed, wherever it is, every build ends, and was done exactly once."""
        seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
        print(f"SEED={seed}")
        dice = random.Random(seed)
        fakes: list[Any] = [self.fake, self.make_fake(self.fake.reactor), self.make_fake(self.fake.reactor)]
        for number, fake in enumerate(fakes[1:]):
            make_builder(self.farm, f"fake{number}", fake.listen())
        for fake in fakes:
            fake.duration_s = dice.uniform(0.02, 0.3)
        ids = [make_build(self.farm, f"source{number}") for number in range(30)]
        kills, masters = 0, []
        while not self.all_built(ids):
            assert kills < 40, self.states(ids)
            master = MasterProcess(self.farm)
            masters.append(master)
            await self.until_scanning(master, kills + 1)
            await self.stay(dice.uniform(0.0, 0.35) if kills < 12 else 3.0)
            master.end(signal.SIGKILL)
            self.bury(master.process.pid)
            kills += 1
        started = [each for fake in fakes for each in fake.started]
        assert sorted(started) == sorted(builds.cookie(each) for each in ids), f"SEED={seed}"
        assert kills >= 6, "too quick to have tried anything"
        self.check_end(ids)
        for fake in fakes[1:]:
            await fake.stop()

    async def until_scanning(self, master: MasterProcess, nth: int) -> None:
        """Wait until the log says for the nth time that a master runs."""
        while master.logged().count("runs; files at") < nth:
            assert master.process.poll() is None, master.logged()
            await self.sleep(0.005)

    def states(self, ids: list[int]) -> set[BuildState]:
        return {self.state(each) for each in ids}

    def all_built(self, ids: list[int]) -> bool:
        return self.states(ids) == {BuildState.BUILT}

    def check_end(self, ids: list[int]) -> None:
        """Nothing is queued, every build has its results, and the next start sweeps what the killed ones left."""
        with self.farm.reading() as connection:
            assert connection.execute(select(func.count()).select_from(build_queue)).scalar() == 0
        for each in ids:
            assert len(self.results(each)) == 2 and self.build(each).log_file_id
        self.farm.store.sweep()
        assert not list(self.directory.rglob("*.part"))
        assert "Traceback" not in (self.farm.directory / "log").read_text()
