"""Snapshots of archives, as queries: which there are. What they consist of is on disk; see publishing/snapshots.py."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from buildmaster import rows
from buildmaster.tables import snapshot


@dataclass(frozen=True)
class Snapshot:
    """An archive as it was at a time, kept."""

    name: str
    taken_at: float


def add(connection: Connection, archive_id: int, name: str, now: float) -> None:
    """Write down that there is one; harmless when it is written down already."""
    rows.add(connection, snapshot, {"archive_id": archive_id, "name": name, "taken_at": now})


def of(connection: Connection, archive_id: int) -> list[Snapshot]:
    """An archive's snapshots, the oldest first."""
    query = select(snapshot.c.name, snapshot.c.taken_at).where(snapshot.c.archive_id == archive_id)
    return [Snapshot(row.name, row.taken_at) for row in connection.execute(query.order_by(snapshot.c.taken_at))]


def remove(connection: Connection, archive_id: int, name: str) -> None:
    """Write down that one is gone."""
    connection.execute(delete(snapshot).where(snapshot.c.archive_id == archive_id, snapshot.c.name == name))
