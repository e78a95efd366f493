"""Commands of the operator's, real ones."""

import shutil
import tempfile
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from buildmaster import external
from buildmaster.external import Ended


class TestRun(TestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    async def run_script(self, script: str, *words: str, timeout_s: float = 20.0, told: bytes = b"") -> Ended:
        command = ("sh", "-c", script, "sh", *words)
        return await external.run(reactor, command, timeout_s, told)  # type: ignore[arg-type]

    async def test_it_ends_well(self) -> None:
        """What it says on both streams is kept, and what it is told reaches it."""
        assert await self.run_script("cat; echo out; echo err >&2", told=b"told\n") == Ended("", "told\nout\nerr")

    async def test_how_it_fails(self) -> None:
        """Its status, or the signal, is told; a program that is not there is, too."""
        assert (await self.run_script("exit 3")).trouble == "it ended with status 3"
        assert (await self.run_script("kill -TERM $$")).trouble == "it was ended by SIGTERM"
        ended = await external.run(reactor, ["/nowhere/at-all"], 20.0)  # type: ignore[arg-type]
        assert ended.trouble == "it ended with status 127" and "/nowhere/at-all" in ended.said

    async def test_no_shell_reads_it(self) -> None:
        """A word is a word, whatever is in it."""
        word = f"; touch {self.directory}/x; $(touch {self.directory}/x) '\""
        assert (await self.run_script('printf %s "$1"', word)).said == word
        assert list(self.directory.iterdir()) == []

    async def test_it_takes_too_long(self) -> None:
        """It is ended when its time is over, and all that it began; nothing of that is waited for."""
        alive = self.directory / "alive"
        ended = await self.run_script('(sleep 2; touch "$1") & sleep 60', str(alive), timeout_s=0.5)
        assert ended.trouble == "it took longer than 0.5 s"
        await deferLater(reactor, 2.5)
        assert not alive.exists()

    async def test_what_stays_in_the_background(self) -> None:
        """What a command that has ended left running is not waited for, though it holds the output."""
        assert (await self.run_script("sleep 5 & echo begun", timeout_s=4.0)) == Ended("", "begun")

    async def test_it_talks_without_an_end(self) -> None:
        """Only the end of what it says is kept, and nothing that could drive a terminal."""
        ended = await self.run_script("head -c 3000000 /dev/zero | tr '\\0' a; printf '\\033[2J\\377end'")
        assert len(ended.said) <= external.SAID_BYTES
        assert ended.said.endswith("aaa?[2J\ufffdend")

    async def test_cancelling_kills_it(self) -> None:
        """A master that ends takes along what it has begun."""
        alive = self.directory / "alive"
        running = Deferred.fromCoroutine(self.run_script('sleep 1; touch "$1"', str(alive)))
        await deferLater(reactor, 0.3)
        running.cancel()
        with pytest.raises(CancelledError):
            await running
        await deferLater(reactor, 1.5)
        assert not alive.exists()
