"""Packages that have left their suites, as queries: whose files may leave the pool, and that they have."""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, bindparam, select, update

from buildmaster import goods, publications
from buildmaster.goods import Goods
from buildmaster.publications import State
from buildmaster.tables import publication


def archives(connection: Connection) -> list[int]:
    """The ids of the archives that have packages which have left, and whose files are there yet."""
    return sorted(connection.execute(_ARCHIVES).scalars())


def gone(connection: Connection, archive_id: int) -> list[Goods]:
    """Those of an archive."""
    found = publications.in_archive(connection, archive_id, [State.GONE])
    return goods.of(connection, found)


def in_use(connection: Connection, archive_id: int, sources: Iterable[str]) -> set[str]:
    """The files that an archive has of sources of these names because some package of theirs is wanted there, or was
    named by an index a moment ago. Files of other sources have other paths."""
    found: set[str] = set()
    for name in sources:
        there = publications.named(connection, archive_id, name)
        stays = [each for each in there if each.state not in (State.GONE, State.REMOVED)]
        found |= {path for each in goods.of(connection, stays) for path in each.files}
    return found


def removed(connection: Connection, ids: Collection[int]) -> None:
    """Write down that the files of packages are in the pool no more, on their account."""
    for each in ids:
        connection.execute(_REMOVED, {"this": each})


# Made once: to make a statement takes longer than to execute it.
_ARCHIVES = select(publication.c.archive_id).where(publication.c.state == State.GONE).distinct()
_REMOVED = (
    update(publication)
    .where(publication.c.id == bindparam("this"), publication.c.state == State.GONE)
    .values(state=State.REMOVED)
)
