"""Distributions, series, their architectures with chroots, and archives, as queries."""

import base64
from collections.abc import Iterable

from sqlalchemy import Connection, Table, bindparam, select, update

from buildd.protocol import ProtocolError, parse_architecture, parse_suite
from buildmaster import builds, chroots, publications, rows
from buildmaster.scoring import ArchivePurpose, Pocket
from buildmaster.store import StoredFile
from buildmaster.tables import archive, distribution, series, series_architecture

PRIMARY = "primary"  # The name of a distribution's own archive.


class DistributionRefused(ValueError):
    """A distribution, series or architecture of this name cannot be; the message says why."""


class NoSuchSeries(LookupError):
    """There is no such distribution, series or architecture; the message says what there is."""


def ensure(
    connection: Connection, distribution_name: str, series_name: str | None = None, architecture: str | None = None
) -> int:
    """Find or add a distribution (with its primary archive), a series of it, an architecture of that.

    The first architecture added to a series is its nominated one: it builds arch:all packages.

    :returns: the id of the last one that was named.
    :raises DistributionRefused: one of them can have no such name.
    """
    try:
        parse_suite(distribution_name, "distribution")
        of = _ensure(connection, distribution, name=distribution_name)
        _ensure_archive(connection, of, PRIMARY, ArchivePurpose.PRIMARY)
        if series_name is None:
            return of
        found = _ensure(connection, series, distribution_id=of, name=parse_suite(series_name, "series"))
        if architecture is None:
            return found
        nominated = (series.c.id == found) & series.c.nominated_architecture.is_(None)
        known = parse_architecture(architecture)
        connection.execute(update(series).where(nominated).values(nominated_architecture=known))
        if known not in architectures_of(connection, found):
            publications.ensure_suites(connection, of, found)
        return _ensure(connection, series_architecture, series_id=found, architecture=known)
    except ProtocolError as error:
        raise DistributionRefused(str(error)) from error


def _ensure(connection: Connection, table: Table, **key: object) -> int:
    """The id of the row with these values, which is added if there is none."""
    query = select(table.c.id).filter_by(**key)
    row_id = connection.execute(query).scalar()
    if row_id is None:
        rows.add(connection, table, key)
        row_id = connection.execute(query).scalar_one()
    return int(row_id)


def _ensure_archive(connection: Connection, distribution_id: int, name: str, purpose: ArchivePurpose) -> None:
    there = select(archive.c.id).where(archive.c.distribution_id == distribution_id, archive.c.name == name)
    if connection.execute(there).first() is None:
        values = {"distribution_id": distribution_id, "name": name, "purpose": purpose}
        rows.add(connection, archive, values)


def set_nominated(connection: Connection, series_id: int, architecture: str) -> None:
    """Let another architecture build a series' arch:all packages, of sources that come from now on.

    :raises NoSuchSeries: the series has no such architecture.
    """
    find_architecture(connection, series_id, architecture)
    connection.execute(update(series).where(series.c.id == series_id).values(nominated_architecture=architecture))


def set_apt_lines(connection: Connection, distribution_name: str, archive_name: str, lines: str) -> None:
    """Set what builds of an archive have as their sources.list: SERIES stands for the series; "": the chroot's own.

    :raises NoSuchSeries: there is no such distribution or archive.
    """
    this = archive.c.id == find_archive(connection, distribution_name, archive_name)
    connection.execute(update(archive).where(this).values(apt_lines=lines))


def set_trusted_keys(connection: Connection, distribution_name: str, archive_name: str, keys: Iterable[bytes]) -> None:
    """Set the OpenPGP public keys that apt trusts for an archive's lines, beside those that the chroot has.

    :raises NoSuchSeries: there is no such distribution or archive.
    """
    this = archive.c.id == find_archive(connection, distribution_name, archive_name)
    encoded = "\n".join(base64.b64encode(key).decode("ascii") for key in keys)
    connection.execute(update(archive).where(this).values(trusted_keys=encoded))


def set_chroot(
    connection: Connection,
    series_architecture_id: int,
    chroot: StoredFile,
    name: str,
    now: float,
    *,
    pocket: Pocket = Pocket.RELEASE,
) -> int:
    """Give an architecture of a series, or a pocket of it, a chroot or another one; the file is in the store already.

    What waited for a chroot, and would use this one, is put into the queue.

    :returns: how many builds that were.
    """
    users = chroots.put(connection, series_architecture_id, chroot, name, now, pocket=pocket)
    return builds.release_chroot_waits(connection, series_architecture_id, now, users)


def find_architecture(connection: Connection, series_id: int, architecture: str) -> int:
    """The id of an architecture of a series.

    :raises NoSuchSeries: it has no such one.
    """
    query = select(series_architecture.c.architecture, series_architecture.c.id)
    rows = connection.execute(query.where(series_architecture.c.series_id == series_id))
    names: dict[str, int] = {row.architecture: row.id for row in rows}
    if architecture not in names:
        raise NoSuchSeries(f"the series has no architecture {architecture!r}; it has: {', '.join(sorted(names))}")
    return names[architecture]


def hold_archive(connection: Connection, archive_id: int) -> None:
    """Wait until nobody else adds sources to an archive, and let nobody before this transaction ends."""
    connection.execute(_HOLD_ARCHIVE, {"this": archive_id})


def find_archive(connection: Connection, distribution_name: str, archive_name: str = PRIMARY) -> int:
    """An archive's id.

    :raises NoSuchSeries: there is no such distribution or archive.
    """
    row_id = connection.execute(_ARCHIVE, {"distribution": distribution_name, "archive": archive_name}).scalar()
    if row_id is None:
        raise NoSuchSeries(
            f"there is no archive {archive_name!r} in {distribution_name!r}: `buildmaster archives` lists them"
        )
    return int(row_id)


def series_of(connection: Connection, archive_id: int) -> list[int]:
    """The ids of the series of an archive's distribution, the oldest first."""
    ours = series.c.distribution_id == archive.c.distribution_id
    query = select(series.c.id).join_from(series, archive, ours).where(archive.c.id == archive_id)
    return list(connection.execute(query.order_by(series.c.id)).scalars())


def architectures_of(connection: Connection, series_id: int) -> list[str]:
    """The names of a series' architectures, sorted."""
    query = select(series_architecture.c.architecture).where(series_architecture.c.series_id == series_id)
    return sorted(connection.execute(query).scalars())


def find_series(connection: Connection, distribution_name: str, series_name: str) -> int:
    """A series' id.

    :raises NoSuchSeries: there is no such distribution or series.
    """
    rows = connection.execute(_SERIES, {"distribution": distribution_name})
    names: dict[str, int] = {row.name: row.id for row in rows}
    if series_name not in names:
        there = f"there are {', '.join(sorted(names))}" if names else "add one with its first chroot"
        raise NoSuchSeries(f"there is no series {series_name!r} in {distribution_name!r}: {there}")
    return names[series_name]


# Made once: to make a statement takes longer than to execute it.
_HERE = distribution.c.name == bindparam("distribution")
_HOLD_ARCHIVE = select(archive.c.id).where(archive.c.id == bindparam("this")).with_for_update(key_share=True)
_ARCHIVE = (
    select(archive.c.id)
    .select_from(archive.join(distribution, distribution.c.id == archive.c.distribution_id))
    .where(_HERE, archive.c.name == bindparam("archive"))
)
_SERIES = (
    select(series.c.name, series.c.id)
    .select_from(series.join(distribution, distribution.c.id == series.c.distribution_id))
    .where(_HERE)
)
