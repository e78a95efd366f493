"""A farm's distributions, series and architectures as objects, under the names that BuilddMaster's callers know.

>>> hoary_i386 = DistributionSet(farm)["ubuntu"]["hoary"]["i386"]  # doctest: +SKIP
>>> hoary_i386.addOrUpdateChroot(Path("chroot.tar"))  # doctest: +SKIP
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from buildmaster import distributions
from buildmaster.farm import Farm
from buildmaster.store import StoredFile
from buildmaster.tables import distribution, series, series_architecture


@dataclass(frozen=True)
class Distribution:
    """A distribution, such as ubuntu; its series by their names."""

    farm: Farm = field(repr=False)
    name: str

    def __getitem__(self, name: str) -> "DistroSeries":
        for das in DistroArchSeriesSet(self.farm):
            if (das.distroseries.distribution.name, das.distroseries.name) == (self.name, name):
                return das.distroseries
        raise KeyError(name)


@dataclass(frozen=True)
class DistroSeries:
    """A series of a distribution, such as hoary; its architectures by their names."""

    distribution: Distribution
    name: str

    def __getitem__(self, architecture: str) -> "DistroArchSeries":
        for das in DistroArchSeriesSet(self.distribution.farm):
            if das.distroseries == self and das.architecturetag == architecture:
                return das
        raise KeyError(architecture)


@dataclass(frozen=True)
class DistroArchSeries:
    """An architecture of a series."""

    id: int
    distroseries: DistroSeries
    architecturetag: str

    def addOrUpdateChroot(self, chroot: StoredFile | Path) -> StoredFile:
        """Give it a chroot, or another one. Blocks. What waited for a chroot is put into the queue.

        :param chroot: a file in the farm's store, or one that is to be put there.
        :returns: the file in the store.
        """
        farm = self.distroseries.distribution.farm
        stored = farm.add_file(chroot) if isinstance(chroot, Path) else chroot
        name = chroot.name if isinstance(chroot, Path) else "chroot.tar"
        farm.write(distributions.set_chroot, self.id, stored, name, time.time())
        return stored


class DistributionSet:
    """All distributions of a farm, by their names."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def __getitem__(self, name: str) -> Distribution:
        if name not in {das.distroseries.distribution.name for das in DistroArchSeriesSet(self._farm)}:
            raise KeyError(name)
        return Distribution(self._farm, name)


class DistroArchSeriesSet:
    """All architectures of all series of a farm."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def __iter__(self) -> Iterator[DistroArchSeries]:
        joined = series_architecture.join(series, series.c.id == series_architecture.c.series_id)
        joined = joined.join(distribution, distribution.c.id == series.c.distribution_id)
        names = (distribution.c.name.label("distribution_name"), series.c.name.label("series_name"))
        query = select(series_architecture, *names).select_from(joined).order_by(series_architecture.c.id)
        with self._farm.reading() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            place = DistroSeries(Distribution(self._farm, row.distribution_name), row.series_name)
            yield DistroArchSeries(row.id, place, row.architecture)
