"""The publisher: when it publishes, and what it does when that fails."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from buildmaster import publications, repositories
from buildmaster.publications import Suite
from buildmaster.publishing import publisher
from buildmaster.publishing.publisher import Publisher
from buildmaster.publishing.upkeep import Upkeep
from buildmaster.repositories import Settings
from buildmaster.scoring import Pocket
from buildmaster.secrets import Secrets
from buildmaster.snapshot import Snapshot
from buildmaster.tests.factories import make_farm
from buildmaster.tests.test_archive_keys import expiring
from buildmaster.tests.test_press import Mine


class TestPublisher(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.directory = Path(tempfile.mkdtemp())
        self.farm = make_farm(self.directory)
        self.mine = Mine(self.farm, self.directory / "archives")
        self.farm.start(reactor)  # type: ignore[arg-type]
        self.snapshot = Snapshot(self.farm, reactor, 0.05)
        await self.snapshot.start()
        self.patch(publisher, "_PAUSES_S", (0.05,) * 3)  # type: ignore[no-untyped-call]
        press: Any = self.mine.press
        self.publisher = Publisher(self.farm, reactor, self.snapshot, press)  # type: ignore[arg-type]
        self.told: list[Any] = []
        self.publisher.log = self  # type: ignore[assignment]
        self.publisher.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.publisher.stop()
        self.snapshot.stop()
        self.farm.close()
        shutil.rmtree(self.directory)

    def info(self, text: str, **words: object) -> None:
        self.told.append(("info", text.format(**words)))

    def error(self, text: str, **words: object) -> None:
        self.told.append(("error", text.format(**words)))

    def warn(self, text: str, **words: object) -> None:
        self.told.append(("warn", text.format(**words)))

    def failure(self, text: str, **words: object) -> None:
        self.told.append(("failure", text.format(**words)))

    async def until(self, found: Any) -> float:
        began = time.monotonic()
        while not found():
            assert time.monotonic() - began < 20, self.told
            await deferLater(reactor, 0.01)
        return time.monotonic() - began

    def there(self, *names: str) -> bool:
        return (self.mine.folder / "dists" / "bookworm").exists() and self.mine.index() == list(names)

    async def test_what_comes_is_published(self) -> None:
        """By a commit of this process or another's, within a second; several at once, too."""
        await self.until(self.there)
        for number in range(3):
            self.mine.built(self.mine.accept(name=f"p{number}"))
        took = await self.until(lambda: self.there("p0 1.0", "p1 1.0", "p2 1.0"))
        assert took < 5
        assert self.told[0] == ("info", "published debian/mine bookworm: generation 1, 0 packages new, 0 gone")

    async def test_a_key_that_expires(self) -> None:
        """Is told of once a day, however much is published, and then that nothing is published."""
        key = expiring(Secrets(self.farm.directory / "secrets"), 1000)
        self.farm.write(repositories.add_key, self.mine.archive_id, key)
        for number in range(3):
            self.mine.built(self.mine.accept(name=f"p{number}"))
            await self.until(lambda: self.there(*(f"p{each} 1.0" for each in range(number + 1))))  # noqa: B023
        (warned,) = (words for level, words in self.told if level == "warn")
        assert warned.startswith(f"debian/mine bookworm: the key {key.fingerprint} expires: it signs until ")
        self.mine.now += 1001
        self.mine.built(self.mine.accept(name="late"))
        await self.until(lambda: any(level == "error" for level, _ in self.told))
        ((_, failed),) = (each for each in self.told if each[0] == "error")
        assert "KeyRefused" in failed and "has expired" in failed and "key rotate" in failed

    async def test_upkeep(self) -> None:
        """Snapshots that are due are taken, files that nobody needs removed; when one goes wrong, the other is done."""
        self.mine.built(self.mine.accept())
        await self.until(lambda: self.there("hello 1.0"))
        self.mine.built(self.mine.accept("1.1"))
        await self.until(lambda: self.there("hello 1.1") and not self.publisher._busy)  # Its turn is over as well.
        upkeep = Upkeep(reactor, self.publisher._pool, self.mine.press)  # type: ignore[arg-type]
        upkeep.log = self  # type: ignore[assignment]
        await upkeep.look()
        self.mine.now += 100_000
        self.farm.write(repositories.change, self.mine.archive_id, Settings(snapshot_every_s=86400.0))
        (self.mine.folder / "snapshot").touch()  # So that none can be taken.
        await upkeep.look()
        assert [level for level, _ in self.told[-2:]] == ["error", "info"], self.told  # No trace.
        assert "removed 3 files" in self.told[-1][1]
        (self.mine.folder / "snapshot").unlink()
        await upkeep.look()
        (taken,) = (self.mine.folder / "snapshot").iterdir()
        assert f"snapshot {taken.name} taken" in self.told[-1][1]

    async def test_what_fails_is_told_once(self) -> None:
        """And tried again until it works, which is told as well."""
        await self.until(self.there)
        secret = next((self.farm.directory / "secrets").iterdir())
        secret.rename(secret.with_suffix(".away"))
        self.mine.built(self.mine.accept())
        await self.until(lambda: any(level == "error" for level, _ in self.told))
        await deferLater(reactor, 0.5)  # Some more tries.
        secret.with_suffix(".away").rename(secret)
        await self.until(lambda: self.there("hello 1.0"))
        await self.until(lambda: ("info", "archive debian/mine can be published again") in self.told)
        errors = [words for level, words in self.told if level == "error"]
        assert len(errors) == 1 and "debian/mine cannot be published; trying again: SecretRefused" in errors[0]

    async def test_a_disk_that_fails(self) -> None:
        """It is said which setting has a say in it."""
        await self.until(self.there)
        state = self.mine.folder / ".state" / "suites"
        state.rename(state.with_suffix(".away"))
        state.touch()
        self.mine.built(self.mine.accept())
        await self.until(lambda: any(level == "error" for level, _ in self.told))
        state.unlink()
        state.with_suffix(".away").rename(state)
        (words,) = [words for level, words in self.told if level == "error"]
        assert "Error: " in words and "[archives] directory in buildmaster.conf" in words

    async def test_one_suite_fails(self) -> None:
        """The archive's other suites are published, and what failed is tried again."""
        await self.until(self.there)
        state = self.mine.folder / ".state" / "suites" / "bookworm"
        state.rename(state.with_name("away"))
        state.touch()
        self.mine.built(self.mine.accept())
        await self.until(lambda: any(level == "error" for level, _ in self.told))
        other = Suite(self.mine.archive_id, 1, Pocket.UPDATES)
        await self.farm.transact(publications.ensure_suite, other, self.mine.now)
        await self.until((self.mine.folder / "dists" / "bookworm-updates").exists)
        state.unlink()
        state.with_name("away").rename(state)
        await self.until(lambda: self.there("hello 1.0"))
