"""The master deletes from the store what nobody needs."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from buildmaster import collecting
from buildmaster.collecting import Collector
from buildmaster.store import store_chunks
from buildmaster.tests.factories import make_farm, make_series


class TestCollector(TestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.farm = make_farm(self.directory)
        self.farm.start(reactor)  # type: ignore[arg-type]
        make_series(self.farm)  # With a chroot, which is needed.
        self.needed = {each.sha256 for each in self.farm.store.files()}
        self.other = store_chunks(self.farm.store, [b"of a result that was refused"]).sha256
        self.told: list[str] = []
        self.patch(collecting, "FIRST_S", 0.05)  # type: ignore[no-untyped-call]
        self.now = time.time()

    def tearDown(self) -> None:
        self.farm.close()
        shutil.rmtree(self.directory)

    def collector(self, every_s: float, now: Any = None) -> Collector:
        made = Collector(self.farm, reactor, every_s, now or (lambda: self.now))  # type: ignore[arg-type]
        made.log = self  # type: ignore[assignment]
        made.start()
        return made

    def info(self, text: str, **words: object) -> None:
        self.told.append(text.format(**words))

    warn = info

    def there(self) -> set[str]:
        return {each.sha256 for each in self.farm.store.files()}

    async def until_told(self, times: int) -> None:
        began = time.monotonic()
        while len(self.told) < times:
            assert time.monotonic() - began < 20, self.told
            await deferLater(reactor, 0.01)

    async def test_what_nobody_needs(self) -> None:
        """Goes once it is older than a day, and nothing else does; again and again."""
        collector = self.collector(0.1)
        await self.until_told(1)
        assert "0 of them" in self.told[0] and self.there() == {*self.needed, self.other}
        self.now += 90_000
        await self.until_told(3)
        await collector.stop()
        assert any("1 of them, 28 bytes" in each for each in self.told)
        assert self.there() == self.needed

    async def test_the_store_of_another_farm(self) -> None:
        """Where more is unknown than known, something is wrong with the farm, and not with the files."""
        self.patch(collecting, "_PLAUSIBLE", 3)  # type: ignore[no-untyped-call]
        others = {store_chunks(self.farm.store, [b"%d" % number]).sha256 for number in range(4)}
        self.now += 90_000
        collector = self.collector(0.1)
        await self.until_told(2)
        await collector.stop()
        assert "5 files of the store are needed by nobody, and the farm knows 1" in self.told[0]
        assert others < self.there()

    async def test_never(self) -> None:
        """An operator may want to do it himself."""
        self.now += 90_000
        collector = self.collector(0.0)
        await deferLater(reactor, 0.3)
        await collector.stop()
        assert self.told == [] and self.other in self.there()

    async def test_the_master_ends(self) -> None:
        """Who looks through the store stops, and nothing more is deleted."""
        asked: list[float] = []

        def now() -> float:
            asked.append(self.now)
            time.sleep(0.2)
            return self.now + 90_000

        collector = self.collector(0.1, now)
        while not asked:
            await deferLater(reactor, 0.01)
        await collector.stop()
        await deferLater(reactor, 0.5)
        assert self.told == [] and self.other in self.there()
