"""What a farm works on: a series with two architectures, one of which has no chroot at first, and sources."""

import random
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, select

from buildmaster import distributions, packages
from buildmaster.store import StoredFile
from buildmaster.tables import build, build_queue, source_file, stored_file
from buildmaster.tests.factories import make_farm, make_series, write_source
from buildmaster.tests.simulation.invariants import watch
from buildmaster.tests.simulation.master import EPOCH
from buildmaster.tests.simulation.publications import SimArchive

_SOURCES = 8
_ARCHITECTURES = ("amd64", "arm64")
_DISTRIBUTION, _SERIES = "debian", "bookworm"


class Land:
    """The farm, and its sources."""

    def __init__(self, folder: Path, archive: SimArchive, chance: random.Random, architectures: int) -> None:
        self._chance = chance
        self._archive = archive
        self._versions: dict[str, int] = {}
        self.farm = make_farm(folder)
        self.architectures = _ARCHITECTURES[:architectures]
        first, *others = self.architectures
        self.places = [make_series(self.farm, _DISTRIBUTION, _SERIES, first)]
        self.places += [make_series(self.farm, _DISTRIBUTION, _SERIES, each, chroot=None) for each in others]
        self.sources: dict[str, tuple[str, str]] = {}  # Name and version by the SHA-1 of the .dsc.
        self.source_ids = [self.add_source(f"source{number}", EPOCH)[0] for number in range(_SOURCES)]
        with self.farm.transaction() as connection:
            self.archive_id = distributions.find_archive(connection, _DISTRIBUTION)
            connection.execute(build_queue.delete())  # The builds that came with them.
            connection.execute(build.delete())
            watch(connection)

    def add_source(self, name: str, now: float) -> tuple[int, tuple[int, ...]]:
        """Submit a newer version of a source. Returns its id, and the builds that it came with."""
        version = self._versions[name] = self._versions.get(name, 0) + 1
        dsc = write_source(self.farm.directory / "sources", name, f"{version}.0", "any", self._archive.relations())
        accepted = packages.accept(self.farm, dsc, now, distribution=_DISTRIBUTION, series_name=_SERIES)
        joined = source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id)
        query = select(stored_file.c.sha1).select_from(joined).where(source_file.c.source_id == accepted.source_id)
        with self.farm.reading() as connection:
            sha1 = connection.execute(query.where(source_file.c.name.endswith(".dsc"))).scalar_one()
        self.sources[sha1] = (name, f"{version}.0")
        return accepted.source_id, accepted.build_ids

    def new_version(self, now: float) -> int:
        """Let a newer version take the place of some source; how many builds it came with."""
        place = self._chance.randrange(_SOURCES)
        self.source_ids[place], build_ids = self.add_source(f"source{place}", now)
        return len(build_ids)

    def new_chroot(self) -> tuple[int, Callable[[Connection, float], None]]:
        """Make another chroot for one of the architectures, whose id is returned; to be set in a transaction."""
        place, chroot = self._chance.choice(self.places), self._make_chroot()

        def put(connection: Connection, now: float) -> None:
            distributions.set_chroot(connection, place, chroot, "chroot.tar", now)

        return place, put

    def set_chroots(self, connection: Connection, now: float) -> None:
        """Give each architecture another chroot."""
        for place in self.places:
            distributions.set_chroot(connection, place, self._make_chroot(), "chroot.tar", now)

    def _make_chroot(self) -> StoredFile:
        return self.farm.store.add([f"chroot {self._chance.random()}".encode()])
