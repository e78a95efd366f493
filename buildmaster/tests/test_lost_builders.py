"""Builders that are not heard of while they build: each is a process of its own, killed or stopped by the kernel."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from typing import Any, ClassVar

from buildmaster import builds
from buildmaster.blame import Patience
from buildmaster.builder_client import Timeouts
from buildmaster.fleet import Fleet
from buildmaster.lifecycle import BuildState
from buildmaster.pacing import Pace
from buildmaster.tests.factories import make_build, make_builder
from buildmaster.tests.fakes import WaitingBuilder
from buildmaster.tests.farm_case import SETTINGS, FarmCase

S = BuildState
PATIENCE = Patience(gone_s=1.0, silent_s=2.5)
SLACK_S = 6.0  # For a machine that does other things as well.

_PROGRAM = """
import sys
from twisted.internet import reactor
from buildmaster.tests.fakes import FakeBuilder, WaitingBuilder
fake = {"polled": FakeBuilder, "waiting": WaitingBuilder}[sys.argv[1]](reactor, duration_s=None)
print(fake.listen(int(sys.argv[2])), flush=True)
reactor.run()
"""


class Elsewhere:
    """A fake builder in another process, whose builds never end."""

    def __init__(self, kind: str, port: int = 0) -> None:
        command = [sys.executable, "-c", _PROGRAM, kind, str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class TestPolled(FarmCase):
    kind: ClassVar[str] = "polled"
    settings = dataclasses.replace(SETTINGS, timeouts=Timeouts(rpc_s=0.7, silence_s=0.7, patience=PATIENCE))
    make_fake: Any = WaitingBuilder

    def setUp(self) -> None:
        super().setUp()
        self.elsewhere = Elsewhere(self.kind)
        self.builder_id = make_builder(self.farm, "lost", self.elsewhere.url)
        self.fleet = Fleet(self.work, self.fake.reactor, Pace(0.05, 0.2))

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.fleet.stop()
        self.elsewhere.end()
        await super().tearDown()

    async def building(self) -> int:
        """A build that the builder elsewhere has; the other one is to take what comes back into the queue."""
        with self.farm.transaction() as connection:
            connection.exec_driver_sql("UPDATE builder SET manual = true WHERE name = 'x86'")
        build_id = make_build(self.farm)
        await self.snapshot.start()
        await self.fleet.start()
        while not self.farm.log_path(build_id).exists():  # It was begun, and scanned since.
            await self.sleep(0.02)
        return build_id

    async def until(self, build_id: int, state: BuildState, seconds: float = 20.0) -> float:
        began = time.monotonic()
        while self.state(build_id) is not state:
            assert time.monotonic() - began < seconds, f"still {self.state(build_id)}"
            await self.sleep(0.02)
        return time.monotonic() - began

    async def test_killed(self) -> None:
        """Where connections are refused the build is queued again when that patience is over, one failure counted."""
        build_id = await self.building()
        self.elsewhere.signal(signal.SIGKILL)
        took = await self.until(build_id, S.NEEDS_BUILD)
        assert took < PATIENCE.gone_s + SLACK_S
        assert (self.build(build_id).failures, self.vitals().failures) == (1, 1)
        assert "lost was not heard of for " in self.build(build_id).reason

    async def test_silent(self) -> None:
        """Where nothing answers it is queued again when the longer patience is over, though each call takes long."""
        build_id = await self.building()
        self.elsewhere.signal(signal.SIGSTOP)
        took = await self.until(build_id, S.NEEDS_BUILD)
        assert took < PATIENCE.silent_s + SLACK_S
        assert (self.build(build_id).failures, self.vitals().failures) == (1, 1)

    async def test_back_in_time(self) -> None:
        """A builder that stood still for less goes on with its build, and nothing is counted."""
        build_id = await self.building()
        self.elsewhere.signal(signal.SIGSTOP)
        await self.sleep(PATIENCE.silent_s / 2)
        self.elsewhere.signal(signal.SIGCONT)
        await self.sleep(PATIENCE.silent_s)
        assert self.state(build_id) is S.BUILDING
        assert (self.build(build_id).failures, self.vitals().failures) == (0, 0)

    async def test_started_anew(self) -> None:
        """A daemon that is started anew forgot its build, which is queued again at once; nothing is counted."""
        build_id = await self.building()
        port = int(self.elsewhere.url.rstrip("/").rpartition(":")[2])
        self.elsewhere.signal(signal.SIGSTOP)  # What comes meanwhile is reset below: an answer it is not.
        self.elsewhere.end()
        self.elsewhere = Elsewhere(self.kind, port)
        with self.farm.transaction() as connection:
            connection.exec_driver_sql("UPDATE builder SET manual = true WHERE name = 'lost'")
        await self.until(build_id, S.NEEDS_BUILD, 5.0)
        assert self.build(build_id).reason == "lost forgot the build: was its daemon started anew?"
        assert (self.build(build_id).failures, self.vitals().failures) == (0, 0)
        assert builds.cookie(build_id) not in self.fake.started


class TestWaiting(TestPolled):
    """The same with a builder that is listened to by wait()."""

    kind = "waiting"
