"""BuilddMaster, as the seed's doctest uses it."""

import logging
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildd.protocol import BuilderStatus
from buildmaster import builders, builds, masters
from buildmaster.distro_series import DistributionSet, DistroArchSeriesSet
from buildmaster.farm import Farm, MasterRuns, only_master
from buildmaster.lifecycle import BuildState
from buildmaster.master import BuilddMaster, ReactorEnded, _on_a_reactor
from buildmaster.tables import series_architecture
from buildmaster.tests import databases
from buildmaster.tests.factories import make_build, make_builder, make_seed_world, make_series
from buildmaster.tests.fakes import FakeBuilder


class Heard(logging.Handler):
    """Lines as `LEVEL:logger:message`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}:{record.name}:{record.getMessage()}")


class TestTheSeedsStory(TestCase):
    def setUp(self) -> None:
        self.fake = FakeBuilder(reactor)
        self.directory = Path(tempfile.mkdtemp())
        self.farm, self.chroot = make_seed_world(self.directory, self.fake.listen())
        self.heard = Heard()
        logging.getLogger().addHandler(self.heard)

    async def tearDown(self) -> None:  # type: ignore[override]
        logging.getLogger().removeHandler(self.heard)
        self.farm.close()
        await self.fake.stop()
        shutil.rmtree(self.directory)

    def master(self) -> BuilddMaster:
        master = BuilddMaster(logging.getLogger(), self.farm)
        for das in sorted(
            DistroArchSeriesSet(self.farm),
            key=lambda das: (das.distroseries.distribution.name, das.distroseries.name, das.architecturetag),
        ):
            master.addDistroArchSeries(das)
            master.setupBuilders(das)
        return master

    async def test_the_warning(self) -> None:
        """A builder that is recorded as busy, and says IDLE, is warned of in the seed's own words."""
        ubuntu = DistributionSet(self.farm)["ubuntu"]
        for series in ("hoary", "warty"):
            assert ubuntu[series]["i386"].addOrUpdateChroot(self.chroot) == self.chroot
        threads = threading.active_count()
        await deferToThread(self.master().scanActiveBuilders)
        assert self.heard.lines == [
            f"WARNING:root.builders.x86:Builder {self.fake.url} forgot about build i386 build of mozilla-firefox 0.9 "
            "in ubuntu hoary RELEASE -- resetting buildqueue record"
        ]
        with self.farm.reading() as connection:
            assert builds.state(connection, 1) is BuildState.NEEDS_BUILD
        assert threading.active_count() <= threads + 1  # That of deferToThread.

    async def test_scans_again_and_again(self) -> None:
        """Scanned often enough, the builder is cleaned and given the build, whose results are collected."""
        master = self.master()
        self.fake.duration_s = 0.0
        for _ in range(8):
            await deferToThread(master.scanActiveBuilders)
        with self.farm.reading() as connection:
            assert builds.state(connection, 1) is BuildState.BUILT
        assert self.fake.status in (BuilderStatus.IDLE, BuilderStatus.WAITING)

    async def test_a_builder_that_is_down(self) -> None:
        """A builder that does not answer is warned of, and nothing explodes."""
        await self.fake.stop()
        await deferToThread(self.master().scanActiveBuilders)
        (line,) = self.heard.lines
        assert line.startswith("WARNING:root.builders.x86:scan failed")


def test_from_a_thread_without_a_reactor(farm: Farm) -> None:
    """It works where no reactor runs at all."""
    make_series(farm)
    make_builder(farm, url="http://127.0.0.1:1/")
    master = BuilddMaster(logging.getLogger("quiet"), farm)
    das = DistributionSet(farm)["debian"]["bookworm"]["amd64"]
    master.addDistroArchSeries(das)
    master.setupBuilders(das)
    master.scanActiveBuilders()
    master.scanActiveBuilders()
    with farm.reading() as connection:
        assert builders.find(connection, "x86").failures == 0


def test_scans_leave_nothing_open(farm: Farm) -> None:
    """However often it scans, no file descriptor is left open."""
    master = BuilddMaster(logging.getLogger("quiet"), farm)
    master.scanActiveBuilders()
    before = open_files()
    for _ in range(50):
        master.scanActiveBuilders()
    assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@databases.one_master()
def test_another_master_runs(farm: Farm) -> None:
    """While a master runs on the farm it does not scan, and says why; afterwards it does."""
    master = BuilddMaster(logging.getLogger("quiet"), farm)
    with only_master(farm.places), pytest.raises(MasterRuns, match="another master runs on the farm in"):
        master.scanActiveBuilders()
    master.scanActiveBuilders()


def test_a_master_of_another_machine(farm: Farm) -> None:
    """On PostgreSQL it holds the builders while it scans them; not while a master elsewhere does."""
    make_builder(farm, url="http://127.0.0.1:1/")
    master = BuilddMaster(logging.getLogger("quiet"), farm)
    master.scanActiveBuilders()
    with farm.transaction() as connection:
        assert masters.everyone(connection) == []
        masters.join(connection, "east:4711", 5.0)
    if databases.on_postgresql():
        with pytest.raises(MasterRuns):
            master.scanActiveBuilders()


def test_the_reactor_ends_too_early() -> None:
    """A reactor that ends before its work did is an error that says so."""

    async def stop(reactor: Any) -> None:
        reactor.stop()
        await Deferred()

    with pytest.raises(ReactorEnded, match="before the scan"):
        _on_a_reactor(stop)


def test_only_builders_that_were_set_up(farm: Farm) -> None:
    """Builders of other architectures are not scanned; an architecture must be added first."""
    make_series(farm)
    make_series(farm, architecture="i386")
    make_build(farm)
    master = BuilddMaster(logging.getLogger("quiet"), farm)
    amd64 = DistributionSet(farm)["debian"]["bookworm"]["amd64"]
    with pytest.raises(ValueError, match="not added"):
        master.setupBuilders(amd64)
    make_builder(farm, "i", "http://127.0.0.1:1/", "i386")
    master.addDistroArchSeries(amd64)
    master.setupBuilders(amd64)
    assert master._builders == {}


def test_chroot_from_a_file(farm: Farm, tmp_path: Path) -> None:
    """A chroot may be given as a path; it is put into the store, and releases what waits for it."""
    make_series(farm, chroot=None)
    build_id = make_build(farm)
    path = tmp_path / "chroot.tar"
    path.write_bytes(b"bogus")
    stored = DistributionSet(farm)["debian"]["bookworm"]["amd64"].addOrUpdateChroot(path)
    assert farm.store.has(stored.sha256)
    with farm.reading() as connection:
        assert connection.execute(select(series_architecture.c.chroot_name)).scalar() == "chroot.tar"
        assert builds.state(connection, build_id) is BuildState.NEEDS_BUILD


def test_what_is_not_there(farm: Farm) -> None:
    """Names that are not there are KeyErrors."""
    make_series(farm)
    with pytest.raises(KeyError):
        DistributionSet(farm)["ubuntu"]
    with pytest.raises(KeyError):
        DistributionSet(farm)["debian"]["hoary"]
    with pytest.raises(KeyError):
        DistributionSet(farm)["debian"]["bookworm"]["i386"]
