"""Snapshots of archives, as queries: which there are. What they consist of is on disk; see publishing/snapshots.py."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, or_, select

from buildmaster import rows
from buildmaster.repositories import Repository
from buildmaster.tables import publication, snapshot


@dataclass(frozen=True)
class Snapshot:
    """An archive as it was at a time, kept."""

    name: str
    taken_at: float
    was_due: bool  # It was taken by time, and not by hand.


def add(connection: Connection, archive_id: int, name: str, now: float, *, was_due: bool = False) -> None:
    """Write down that there is one; harmless when it is written down already."""
    rows.add(connection, snapshot, {"archive_id": archive_id, "name": name, "taken_at": now, "was_due": was_due})


def of(connection: Connection, archive_id: int) -> list[Snapshot]:
    """An archive's snapshots, the oldest first."""
    query = select(snapshot.c.name, snapshot.c.taken_at, snapshot.c.was_due).where(snapshot.c.archive_id == archive_id)
    return [Snapshot(**row._mapping) for row in connection.execute(query.order_by(snapshot.c.taken_at))]


def is_due(connection: Connection, where: Repository, now: float) -> bool:
    """Whether it is time for a snapshot of an archive: for long enough there was none, and something has come or gone
    since the last one."""
    if not where.snapshot_every_s:
        return False
    last = max((each.taken_at for each in of(connection, where.archive_id)), default=0.0)
    since = {"archive_id": where.archive_id, "after": last, "until": now}
    return now - last >= where.snapshot_every_s and connection.execute(_EVERY_CHANGE, since).first() is not None


def surplus(connection: Connection, where: Repository) -> list[str]:
    """The names of those that were taken by time, and are more than are kept: the oldest."""
    due = [each.name for each in of(connection, where.archive_id) if each.was_due]
    return due[: -where.snapshots_kept] if where.snapshots_kept else []


def as_at(connection: Connection, archive_id: int, moment: float) -> Snapshot | None:
    """A snapshot that has the same binary packages as the archive had at a moment: none came or went between the two.
    None: there is none."""
    found = sorted(of(connection, archive_id), key=lambda each: abs(each.taken_at - moment))
    return next((each for each in found if _is_same(connection, archive_id, each.taken_at, moment)), None)


def _is_same(connection: Connection, archive_id: int, one: float, other: float) -> bool:
    between = {"archive_id": archive_id, "after": min(one, other), "until": max(one, other)}
    return connection.execute(_CHANGES, between).first() is None


def remove(connection: Connection, archive_id: int, name: str) -> None:
    """Write down that one is gone."""
    connection.execute(delete(snapshot).where(snapshot.c.archive_id == archive_id, snapshot.c.name == name))


# Made once: to make a statement takes longer than to execute it.
_EVERY_CHANGE = (
    select(publication.c.id)
    .where(publication.c.archive_id == bindparam("archive_id"))
    .where(
        or_(
            *(
                (column > bindparam("after")) & (column <= bindparam("until"))
                for column in (publication.c.published_at, publication.c.gone_at)
            )
        )
    )
    .limit(1)
)
_CHANGES = _EVERY_CHANGE.where(publication.c.binary_id.is_not(None))
