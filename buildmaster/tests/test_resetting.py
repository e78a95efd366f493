"""Virtualised builders, reset by a real script."""

import dataclasses
from pathlib import Path

import pytest
from sqlalchemy import update
from twisted.internet.defer import Deferred

from buildmaster import builders
from buildmaster.builders import BuilderRefused, Cleanliness
from buildmaster.fleet import Fleet
from buildmaster.lifecycle import BuildState
from buildmaster.pacing import Pace, Progress
from buildmaster.resetting import ResetSettings, Resetter
from buildmaster.scanner import Scanner
from buildmaster.tables import archive, builder
from buildmaster.tests.factories import make_build
from buildmaster.tests.farm_case import FarmCase

C = Cleanliness


class ResetCase(FarmCase):
    """A farm whose one builder is virtualised, on the host vm-host-1."""

    asynchronous = False

    def setUp(self) -> None:
        super().setUp()
        with self.farm.transaction() as connection:
            connection.execute(update(builder).values(virtualised=True, cleanliness=C.DIRTY))
            connection.execute(update(archive).values(virtualised=True))
            builders.set_vm_host(connection, "x86", "vm-host-1")

    def use(self, script: str, **more: float) -> None:
        """Have this script reset builders. What it is told is appended to the file `calls`."""
        path = self.directory / "reset.sh"
        path.write_text(f'#!/bin/sh\necho "$@" >>"{self.directory}/calls"\n{script}\n')
        path.chmod(0o755)
        command = (str(path), "--host={host}", "now")
        settings = ResetSettings(command, asynchronous=self.asynchronous, **more)
        self.work = dataclasses.replace(self.work, resetter=Resetter(self.work.resetter._reactor, settings))

    def calls(self) -> list[str]:
        path = Path(self.directory / "calls")
        return path.read_text().splitlines() if path.exists() else []


class TestSynchronous(ResetCase):
    async def test_reset_after_each_build(self) -> None:
        """The command gets the host's name, the daemon is asked for an echo and no more, and the next build begins."""
        self.use("exit 0")
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan(scanner)
        assert (self.calls(), self.fake.calls) == (["--host=vm-host-1 now"], ["echo"])
        assert self.vitals().cleanliness is C.CLEAN
        await self.scan_until(build_id, BuildState.BUILT, scanner=scanner)
        assert self.vitals().cleanliness is C.DIRTY
        self.fake.forget()  # The machine is a new one.
        await self.scan(scanner)
        assert self.vitals().cleanliness is C.CLEAN
        assert len(self.calls()) == 2 and "clean" not in self.fake.calls

    async def test_a_failure_counts_at_once(self) -> None:
        """No grace: five resets that fail take the builder out of service, with what the command said."""
        self.use("echo no such machine; exit 7")
        scanner = self.scanner()
        for failures in range(1, 6):
            assert self.vitals().enabled
            assert await self.scan(scanner) is Progress.FAILED
            assert self.vitals().failures == failures
        assert not self.vitals().enabled and self.vitals().cleanliness is C.DIRTY
        with self.farm.reading() as connection:
            reason = connection.execute(builder.select()).one().disabled_reason
        assert reason == "the command that resets vm-host-1 failed: it ended with status 7: no such machine"
        await self.scan(scanner, 3)
        assert len(self.calls()) == 5

    async def test_it_takes_too_long(self) -> None:
        """The command is ended when its time is over, and that is a failure."""
        self.use("sleep 60", timeout_s=0.3)
        await self.scan(self.scanner())
        assert self.vitals().failures == 1 and self.vitals().cleanliness is C.DIRTY

    async def test_no_daemon_after_it(self) -> None:
        """A machine whose daemon does not answer after the reset is not clean."""
        self.use("exit 0")
        await self.fake.stop()
        await self.scan(self.scanner())
        assert self.vitals().failures == 1 and self.vitals().cleanliness is C.DIRTY

    async def test_no_host(self) -> None:
        """A builder that nobody said the host of is never cleaned in another way: that is a failure, which says so."""
        self.use("exit 0")
        with self.farm.transaction() as connection:
            builders.set_vm_host(connection, "x86", "")
        await self.scan(self.scanner())
        assert self.calls() == self.fake.calls == []
        assert self.vitals().failures == 1 and "--vm-host" in self.vitals().trouble

    async def test_what_is_no_virtual_machine(self) -> None:
        """Other builders are cleaned as ever."""
        self.use("exit 0")
        with self.farm.transaction() as connection:
            connection.execute(update(builder).values(virtualised=False))
        await self.scan(self.scanner())
        assert self.calls() == [] and self.vitals().cleanliness is C.CLEAN

    async def test_no_command(self) -> None:
        """Without a command virtualised builders are cleaned, too."""
        await self.scan(self.scanner())
        assert self.vitals().cleanliness is C.CLEAN and self.fake.calls == ["status"]

    async def test_it_is_not_clean_after_all(self) -> None:
        """A machine that has a build after its reset was none: an isolation error, and out of service."""
        self.use("exit 0")
        scanner = self.scanner()
        await self.scan(scanner)
        self.fake.extra_status = {"builder_status": "BuilderStatus.BUILDING", "build_id": "X-1"}
        await self.scan(scanner)
        assert not self.vitals().enabled

    async def test_the_master_ends_meanwhile(self) -> None:
        """The command ends with the master; the next one finds the builder dirty, and resets it."""
        self.use(f'sleep 0.7; echo done >>"{self.directory}/calls"')
        fleet = Fleet(self.work, self.fake.reactor, Pace(0.05, 0.2))
        await self.snapshot.start()
        await fleet.start()
        await self.sleep(0.3)
        await fleet.stop()
        await self.sleep(0.8)
        assert self.calls() == ["--host=vm-host-1 now"] and self.vitals().cleanliness is C.DIRTY
        await self.scan(self.scanner())
        assert self.calls() == ["--host=vm-host-1 now"] * 2 + ["done"] and self.vitals().cleanliness is C.CLEAN


class TestAsynchronous(ResetCase):
    asynchronous = True

    async def test_somebody_says_that_it_is_clean(self) -> None:
        """The command sets CLEANING, in which nothing is asked of the daemon; a word from outside makes it CLEAN."""
        self.use("exit 0")
        build_id = make_build(self.farm)
        scanner = self.scanner()
        await self.scan(scanner)
        assert await self.scan(scanner, 5) is Progress.IDLE
        assert self.vitals().cleanliness is C.CLEANING and self.fake.calls == [] and len(self.calls()) == 1
        with self.farm.transaction() as connection:
            builders.say_cleaned(connection, "x86")
        await self.scan_until(build_id, BuildState.BUILT, scanner=scanner)

    async def begin_reset(self, scanner: Scanner) -> Deferred[Progress]:
        """Begin a scan that resets the machine, up to where the command runs; fires when the scan has ended."""
        await self.snapshot.take()
        scan = Deferred.fromCoroutine(scanner.scan())
        while not self.calls():
            await self.sleep(0.02)
        return scan

    async def test_it_is_said_before_the_command_ends(self) -> None:
        """A machine that is quicker than the command which began its reset is clean all the same."""
        self.use(f'while [ ! -e "{self.directory}/said" ]; do sleep 0.02; done')
        build_id = make_build(self.farm)
        scanner = self.scanner()
        scan = await self.begin_reset(scanner)
        with self.farm.transaction() as connection:
            builders.say_cleaned(connection, "x86")
            with pytest.raises(BuilderRefused, match="not being reset"):
                builders.say_cleaned(connection, "x86")
        assert self.vitals().cleanliness is C.DIRTY
        (self.directory / "said").touch()
        await scan
        assert self.vitals().cleanliness is C.CLEAN
        await self.scan_until(build_id, BuildState.BUILT, scanner=scanner)

    async def test_the_command_has_to_wait_for_its_turn(self) -> None:
        """However long it takes until the command is done, the machine has all of its time after that."""
        self.use(f'while [ ! -e "{self.directory}/done" ]; do sleep 0.02; done', cleaning_timeout_s=600.0)
        scanner = self.scanner()
        scan = await self.begin_reset(scanner)
        self.now += 700
        (self.directory / "done").touch()
        await scan
        self.now += 599
        await self.scan(scanner, 5)
        assert self.vitals().cleanliness is C.CLEANING and self.vitals().failures == 0

    async def test_it_was_said_of_another_reset(self) -> None:
        """What was said while a command ran that failed counts for nothing at the next reset."""
        self.use(f'while [ ! -e "{self.directory}/said" ]; do sleep 0.02; done; exit 1')
        scanner = self.scanner()
        scan = await self.begin_reset(scanner)
        with self.farm.transaction() as connection:
            builders.say_cleaned(connection, "x86")
        (self.directory / "said").touch()
        await scan
        assert self.vitals().cleanliness is C.DIRTY and self.vitals().failures == 1
        self.use("exit 0")
        await self.scan(self.scanner())
        assert self.vitals().cleanliness is C.CLEANING

    async def test_nobody_says_it(self) -> None:
        """A reset that does not end is a failure after its time, and begun again; five, and the builder is out."""
        self.use("exit 0", cleaning_timeout_s=600.0)
        scanner = self.scanner()
        await self.scan(scanner)
        self.now += 599
        await self.scan(scanner)
        assert self.vitals().failures == 0
        self.now += 2
        await self.scan(scanner)
        assert (self.vitals().failures, self.vitals().cleanliness) == (1, C.DIRTY)
        assert "nobody said within 600 s that vm-host-1 is clean" in self.vitals().trouble
        for _ in range(4):
            await self.scan(scanner)
            self.now += 601
            await self.scan(scanner)
        assert len(self.calls()) == 5 and not self.vitals().enabled

    async def test_the_clock_was_set_back(self) -> None:
        """A builder is not CLEANING for years because a clock was wrong when its reset began."""
        self.use("exit 0")
        self.now += 1e8
        await self.scan(self.scanner())
        self.now -= 1e8
        await self.scan(self.scanner())
        assert self.vitals().cleanliness is C.DIRTY

    async def test_a_word_that_comes_late(self) -> None:
        """A builder that is not being reset is not made clean by saying so."""
        with self.farm.transaction() as connection, pytest.raises(BuilderRefused, match="not being reset: it is dirty"):
            builders.say_cleaned(connection, "x86")
        assert self.vitals().cleanliness is C.DIRTY

    async def test_disabled_meanwhile(self) -> None:
        """A builder that is taken out of service while it is reset is left alone, and reset anew when it is back."""
        self.use("exit 0")
        scanner = self.scanner()
        await self.scan(scanner)
        with self.farm.transaction() as connection:
            builders.disable(connection, "x86", "new disk")
        self.now += 1e6
        await self.scan(scanner)
        assert self.vitals().failures == 0
        with self.farm.transaction() as connection:
            builders.enable(connection, "x86")
        await self.scan(scanner)
        assert len(self.calls()) == 2


@pytest.mark.parametrize("host", ["-x", "a b", "a;b", "$(id)", "a/../b", "ä", "a\n", "x" * 256])
def test_what_is_no_host(farm: object, host: str) -> None:
    """A host's name can be no option, no path and nothing that a shell would look at."""
    with pytest.raises(BuilderRefused, match="no name of a host"):
        builders.set_vm_host(None, "x86", host)  # type: ignore[arg-type]
