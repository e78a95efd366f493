"""Archives, as queries: added, changed with what waits of them, listed."""

from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select, update

from buildd.protocol import ProtocolError, parse_suite
from buildmaster import distributions, needs, rows
from buildmaster.scoring import BANDS, ArchivePurpose, Band, archive_points
from buildmaster.tables import archive, build_queue, distribution


class ArchiveRefused(ValueError):
    """An archive cannot be added or changed so; the message says why."""


@dataclass(frozen=True)
class Archive:
    """An archive, for people to look at."""

    id: int
    distribution: str
    name: str
    purpose: ArchivePurpose
    private: bool
    relative_score: int
    virtualised: bool
    weight: float  # Of its share of the builders.
    tags: str  # What its builds need of a builder.
    apt_lines: str
    trusted_keys: int  # How many keys it has for these.
    notify: str  # Who is told of builds that end badly.
    build_timeout_s: float  # For how long a builder may have a build of it; 0: what buildmaster.conf says.
    waiting: int  # How many builds of it are in the queue.


@dataclass(frozen=True)
class Changes:
    """What is to be changed of an archive; None: it stays."""

    private: bool | None = None
    relative_score: int | None = None
    virtualised: bool | None = None
    weight: float | None = None
    tags: str | None = None
    notify: str | None = None
    build_timeout_s: float | None = None


def add(connection: Connection, distribution_name: str, name: str, purpose: ArchivePurpose) -> int:
    """Add an archive to a distribution. Returns its id.

    :raises NoSuchSeries: there is no such distribution.
    :raises ArchiveRefused: it can have no such name, or there is one; or it would be a second primary one.
    """
    try:
        parse_suite(name, "name of an archive")
    except ProtocolError as error:
        raise ArchiveRefused(f"{error}; take letters, digits and any of . + ~ _ -, 64 at most") from error
    if purpose is ArchivePurpose.PRIMARY:
        raise ArchiveRefused(f"a distribution has one primary archive, {distributions.PRIMARY!r}")
    there = select(distribution.c.id).where(distribution.c.name == distribution_name)
    distribution_id = connection.execute(there).scalar()
    if distribution_id is None:
        raise distributions.NoSuchSeries(f"there is no distribution {distribution_name!r}")
    values = {"distribution_id": distribution_id, "name": name, "purpose": purpose}
    archive_id = rows.add(connection, archive, values)
    if archive_id is None:
        raise ArchiveRefused(f"there is an archive {name!r} in {distribution_name!r} already")
    return archive_id


def change(connection: Connection, archive_id: int, changes: Changes, now: float) -> None:
    """Change an archive, and with it what its builds that wait need and how urgent they are. What a builder has
    is looked at when it is queued again.

    :raises TagsRefused: with its new tags, a build that is to be built yet would need too many.
    """
    needs.hold_archive(connection, archive_id)
    this = archive.c.id == archive_id
    before = connection.execute(select(archive).where(this)).one()
    values = {name: value for name, value in vars(changes).items() if value is not None}
    if not values:
        return
    connection.execute(update(archive).where(this).values(**values))
    after = connection.execute(select(archive).where(this)).one()
    purpose = ArchivePurpose(after.purpose)
    more = archive_points(after.private, purpose, after.relative_score)
    more -= archive_points(before.private, purpose, before.relative_score)
    if more:
        _move(connection, archive_id, more)
    if before.virtualised != after.virtualised:
        row = update(build_queue).where(build_queue.c.archive_id == archive_id, build_queue.c.builder_id.is_(None))
        connection.execute(row.values(virtualised=after.virtualised, entered_at=now))
    if before.tags != after.tags:
        needs.renew(connection, archive_id, now)


def _move(connection: Connection, archive_id: int, more: int) -> None:
    """Change the scores of what is in the queue of an archive, but for those that a person set."""
    points = build_queue.c.score + more
    band = case(*((points >= least, int(found)) for least, found in BANDS), else_=int(Band.SPARE))
    row = update(build_queue).where(build_queue.c.archive_id == archive_id, ~build_queue.c.manual_score)
    connection.execute(row.values(score=points, minus_score=-points, band=band))


def every(connection: Connection) -> list[Archive]:
    """All archives, by distribution and name."""
    queue = build_queue.c
    # The queue is read once; joined to the archives, SQLite reads it once for each of these.
    counts = select(queue.archive_id, func.count()).where(queue.builder_id.is_(None)).group_by(queue.archive_id)
    waiting = {row[0]: row[1] for row in connection.execute(counts)}
    columns = [archive.c[name] for name in ("id", "name", "purpose", "private", "relative_score", "virtualised")]
    columns += [archive.c.weight, archive.c.tags, archive.c.apt_lines, archive.c.notify, archive.c.build_timeout_s]
    columns.append(archive.c.trusted_keys)
    tables = archive.join(distribution, distribution.c.id == archive.c.distribution_id)
    query = select(distribution.c.name.label("distribution"), *columns).select_from(tables)
    found = connection.execute(query.order_by(distribution.c.name, archive.c.name))
    return [
        Archive(
            **dict(row._mapping)
            | {
                "purpose": ArchivePurpose(row.purpose),
                "trusted_keys": len(row.trusted_keys.splitlines()),
                "waiting": waiting.get(row.id, 0),
            }
        )
        for row in found
    ]
