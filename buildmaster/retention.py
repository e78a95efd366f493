"""Packages that have left their suites, as queries: whose files may leave the pool, and that they have."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from sqlalchemy import Connection, bindparam, delete, select, union, update

from buildmaster import goods, publications
from buildmaster.goods import Goods
from buildmaster.publications import State
from buildmaster.tables import binary, build_file, publication


def archives(connection: Connection, before: float) -> list[int]:
    """The ids of the archives that have packages which have left, and whose files are there yet, or that may be
    forgotten, having left before a moment."""
    return sorted(set(connection.execute(_ARCHIVES, {"before": before}).scalars()))


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


def pool_files(connection: Connection, archive_id: int) -> dict[str, set[str]]:
    """All files that an archive's pool is to have, or may, with the SHA-256s that they have: one, if all is well."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in goods.of(connection, publications.in_archive(connection, archive_id, publications.IN_POOL)):
        for path, stored in each.files.items():
            found[path].add(stored.sha256)
    return found


def removed(connection: Connection, ids: Collection[int]) -> None:
    """Write down that the files of packages are in the pool no more, on their account."""
    for each in ids:
        connection.execute(_REMOVED, {"this": each})


def forgettable(connection: Connection, archive_id: int, before: float) -> list[int]:
    """The ids of binary packages that have left an archive for good before a moment, and are in no other one."""
    old = sorted(connection.execute(_OLD, {"archive_id": archive_id, "before": before}).scalars())
    return [each for each in old if _is_nowhere(connection, each)]


def _is_nowhere(connection: Connection, binary_id: int) -> bool:
    states = connection.execute(_STATES, {"this": binary_id}).scalars()
    return all(state == State.REMOVED for state in states)


def forget(connection: Connection, binary_id: int) -> None:
    """Forget a binary package, as long as it is in no archive: nothing refers to its files after that, `store check`
    may delete them. What its build made beside it stays."""
    if not _is_nowhere(connection, binary_id):
        return
    this = {"this": binary_id}
    row = connection.execute(_BINARY, this).one_or_none()
    if row is None:
        return
    connection.execute(_FORGET_PUBLICATIONS, this)
    connection.execute(_FORGET_BINARY, this)
    connection.execute(_FORGET_RESULT, {"build": row.build_id, "file": row.stored_file_id, "called": row.file_name})


def builds_of(connection: Connection, binary_ids: Iterable[int]) -> dict[int, int]:
    """The builds that made binary packages, by these; uploaded ones have none."""
    found = {each: connection.execute(_BINARY, {"this": each}).one().build_id for each in binary_ids}
    return {binary_id: build_id for binary_id, build_id in found.items() if build_id is not None}


# Made once: to make a statement takes longer than to execute it.
_IS_OLD = (
    publication.c.state == State.REMOVED,
    publication.c.binary_id.is_not(None),
    publication.c.gone_at < bindparam("before"),
)
_ARCHIVES = union(
    select(publication.c.archive_id).where(publication.c.state == State.GONE),
    select(publication.c.archive_id).where(*_IS_OLD),
)
_OLD = select(publication.c.binary_id).where(*_IS_OLD, publication.c.archive_id == bindparam("archive_id")).distinct()
_REMOVED = (
    update(publication)
    .where(publication.c.id == bindparam("this"), publication.c.state == State.GONE)
    .values(state=State.REMOVED)
)
_STATES = select(publication.c.state).where(publication.c.binary_id == bindparam("this"))
_BINARY = select(binary.c.build_id, binary.c.stored_file_id, binary.c.file_name).where(binary.c.id == bindparam("this"))
_FORGET_PUBLICATIONS = delete(publication).where(publication.c.binary_id == bindparam("this"))
_FORGET_BINARY = delete(binary).where(binary.c.id == bindparam("this"))
_FORGET_RESULT = delete(build_file).where(
    build_file.c.build_id == bindparam("build"),
    build_file.c.stored_file_id == bindparam("file"),
    build_file.c.name == bindparam("called"),
)
