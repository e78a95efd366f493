"""A master that resets builders and tells people as buildmaster.conf says: the whole program, in its own process."""

import json
import subprocess
import sys
from typing import Any

from sqlalchemy import update

from buildd.protocol import BuildStatus
from buildmaster import builders
from buildmaster.lifecycle import BuildState
from buildmaster.tables import archive, builder
from buildmaster.tests import databases
from buildmaster.tests.factories import make_build
from buildmaster.tests.farm_case import FarmCase

CONFIG = """
[files]
port = 0
[archives]
port = 0
[uploads]
ftp_port =
[polling]
fastest = 50ms
slowest = 200ms
database = 50ms
[builders]
reset_command = sh -c 'echo "$0" >>{folder}/resets' {{host}}
[notifications]
command = sh -c 'cat >>{folder}/told'
"""


@databases.one_master()
class TestConfigured(FarmCase):
    async def test_reset_and_told(self) -> None:
        """A virtualised builder is reset before its build and after it, and a command is told that the build failed."""
        with self.farm.transaction() as connection:
            connection.execute(update(builder).values(virtualised=True, cleanliness=builders.Cleanliness.DIRTY))
            connection.execute(update(archive).values(virtualised=True, notify="somebody@example.org"))
            builders.set_vm_host(connection, "x86", "vm-host-1")
        self.fake.outcome = BuildStatus.PACKAGEFAIL
        build_id = make_build(self.farm)
        master = self.start_master()
        try:
            await self.until(lambda: self.lines("told"))
            await self.until(lambda: len(self.lines("resets")) > 1)
        finally:
            master.terminate()
            assert master.wait(20) == 0
        assert set(self.lines("resets")) == {"vm-host-1"}
        (told,) = map(json.loads, self.lines("told"))
        assert (told["build_id"], told["state"], told["to"]) == (build_id, "failed", "somebody@example.org")
        assert self.fake.arguments["fast_cleanup"] is True
        assert self.state(build_id) is BuildState.FAILED and "clean" not in self.fake.calls

    def start_master(self) -> "subprocess.Popen[bytes]":
        config = self.directory / "buildmaster.conf"
        config.write_text(CONFIG.format(folder=self.directory))
        words = ["-c", str(config), "-d", str(self.farm.directory), "run"]
        code = "from buildmaster.cli import main; main()"
        with (self.directory / "log").open("wb") as log:
            return subprocess.Popen([sys.executable, "-c", code, *words], stderr=log, stdout=log)

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    async def until(self, happened: Any) -> None:
        for _ in range(400):
            if happened():
                return
            await self.sleep(0.05)
        raise AssertionError((self.directory / "log").read_text()[-3000:])
