"""Packages that have left their suites, as queries: whose files may leave the pool, and that they have.

A package that has left is GONE, and once its files are out of the pool REMOVED. When that is over for long enough, it
is forgotten: nothing refers to its files in the store any more.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, and_, bindparam, delete, exists, func, select, union, update

from buildmaster import goods, publications
from buildmaster.goods import Goods
from buildmaster.lifecycle import ACTIVE, PENDING, QUEUED, BuildState
from buildmaster.publications import STATE_OF_FOUND, State
from buildmaster.tables import binary, build, build_file, publication, repository, snapshot, source, source_file


class SourceForgotten(LookupError):
    """The files of a source are here no more, so that nothing can be built of it: upload a newer version."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__(f"the files of {name} {version} were given up, long after it had left: upload a newer version")


def hold_source(connection: Connection, source_id: int) -> None:
    """Have the files of a source be here until this transaction ends, for what is to be built of it.

    :raises SourceForgotten: they are not.
    """
    row = connection.execute(_HOLD_SOURCE, {"this": source_id}).one()
    if row.forgotten_at is not None:
        raise SourceForgotten(row.name, row.version)


def archives(connection: Connection, now: float) -> list[int]:
    """The ids of the archives that have packages which have left, and whose files are there yet, or that have been gone
    for long enough to be forgotten."""
    return sorted(set(connection.execute(_ARCHIVES, {"now": now, "forget_s": None}).scalars()))


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
    """All files that an archive's pool is to have, or may, with the SHA-256s that they are to have: one, if all is
    well; none, of what is there for who has an older index, or was refused."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in goods.of(connection, publications.in_archive(connection, archive_id, publications.IN_POOL)):
        for path, stored in each.files.items():
            found[path] |= set() if each.publication.state is State.GONE else {stored.sha256}
    return found


def removed(connection: Connection, ids: Collection[int]) -> None:
    """Write down that the files of packages are in the pool no more, on their account."""
    for each in ids:
        connection.execute(_REMOVED, {"this": each})


def forgettable(connection: Connection, archive_id: int, now: float, forget_s: float | None = None) -> list[int]:
    """The ids of binary packages that have left an archive for long enough to be forgotten, and all others that had
    them; and that are in no snapshot.

    :param forget_s: how long is long enough; None: as each archive says.
    """
    these = {"archive_id": archive_id, "now": now, "forget_s": forget_s}
    return sorted(connection.execute(_FORGETTABLE, these).scalars())


def forgettable_sources(
    connection: Connection, archive_id: int, now: float, forget_s: float | None = None
) -> list[int]:
    """The ids of such sources, of which no binary package is known any more, and no build has yet to be done."""
    these = {"archive_id": archive_id, "now": now, "forget_s": forget_s}
    return sorted(connection.execute(_FORGETTABLE_SOURCES, these).scalars())


def forget(connection: Connection, binary_id: int, now: float, forget_s: float | None = None) -> bool:
    """Forget a binary package, if forgettable() has it by now as well: nothing refers to its files after that, `store
    check` may delete them. What its build made beside it stays. Whether it is forgotten."""
    this = {"this": binary_id}
    row = connection.execute(_BINARY, this).one_or_none()
    if row is None:
        return False
    publications.hold_sources(connection, [row.source_id])
    asked = {"now": now, "forget_s": forget_s}
    if connection.execute(_IS_FORGETTABLE, this | asked).first() is None:
        return False
    connection.execute(_FORGET_PUBLICATIONS, this)
    connection.execute(_FORGET_BINARY, this)
    connection.execute(_FORGET_RESULT, {"build": row.build_id, "file": row.stored_file_id, "called": row.file_name})
    return True


def forget_source(connection: Connection, source_id: int, now: float, forget_s: float | None = None) -> bool:
    """Forget the files of a source, likewise. Itself stays, and its builds, which nobody can repeat from then on."""
    publications.hold_sources(connection, [source_id])
    this = {"this": source_id}
    asked = {"now": now, "forget_s": forget_s}
    if connection.execute(_IS_FORGETTABLE_SOURCE, this | asked).first() is None:
        return False
    connection.execute(_FORGET_SOURCE_PUBLICATIONS, this)
    connection.execute(_FORGET_SOURCE_FILES, this)
    connection.execute(_FORGOTTEN, {"this": source_id, "now": now})
    return True


def builds_of(connection: Connection, binary_ids: Iterable[int]) -> dict[int, int]:
    """The builds that made binary packages, by these; uploaded ones have none."""
    found = {each: connection.execute(_BINARY, {"this": each}).one().build_id for each in binary_ids}
    return {binary_id: build_id for binary_id, build_id in found.items() if build_id is not None}


def builds_from(connection: Connection, source_id: int) -> list[int]:
    """The builds of a source that have ended well."""
    return sorted(connection.execute(_BUILDS_FROM, {"this": source_id}).scalars())


def _is_old(one: Any, state: Any) -> ColumnElement[bool]:
    """Whether a publication is over for so long that nobody asks for it, and in no snapshot."""
    age = func.coalesce(bindparam("forget_s", type_=Double), repository.c.forget_s)
    since = bindparam("now", type_=Double) - age
    archive_says = exists().where(repository.c.archive_id == one.archive_id, age > 0, one.gone_at < since)
    kept = exists().where(
        snapshot.c.archive_id == one.archive_id,
        snapshot.c.taken_at >= one.published_at,
        snapshot.c.taken_at < one.gone_at,
    )
    return and_(state == State.REMOVED, archive_says, ~kept)


# Made once: to make a statement takes longer than to execute it.
_HOLD_SOURCE = (
    select(source.c.name, source.c.version, source.c.forgotten_at)
    .where(source.c.id == bindparam("this"))
    .with_for_update(key_share=True)
)
_ONE, _OTHER = publication.c, publication.alias("other").c
_IS_OLD, _OTHER_IS_OLD = _is_old(_ONE, _ONE.state), _is_old(_OTHER, _OTHER.state)
_ARCHIVES = union(
    select(_ONE.archive_id).where(_ONE.state == State.GONE),
    select(_ONE.archive_id).where(_IS_OLD),
)
_TO_BE_DONE = sorted(QUEUED | ACTIVE | PENDING)
_NO_OTHER_PACKAGE = ~exists().where(_OTHER.binary_id == _ONE.binary_id, ~_OTHER_IS_OLD)
_NOTHING_OF_SOURCE = and_(
    _ONE.binary_id.is_(None),
    ~exists().where(_OTHER.source_id == _ONE.source_id, ~_OTHER_IS_OLD),
    ~exists().where(binary.c.source_id == _ONE.source_id),
    ~exists().where(build.c.source_id == _ONE.source_id, build.c.state.in_(_TO_BE_DONE)),
)
_HERE = _ONE.archive_id == bindparam("archive_id")
_FORGETTABLE = select(_ONE.binary_id).where(_HERE, _ONE.binary_id.is_not(None), _IS_OLD, _NO_OTHER_PACKAGE).distinct()
_FORGETTABLE_SOURCES = select(_ONE.source_id).where(_HERE, _IS_OLD, _NOTHING_OF_SOURCE).distinct()
# The same of one, found by its id and not by the state of many.
_FOUND_IS_OLD = _is_old(_ONE, STATE_OF_FOUND)
_IS_FORGETTABLE = select(_ONE.id).where(_ONE.binary_id == bindparam("this"), _FOUND_IS_OLD, _NO_OTHER_PACKAGE)
_IS_FORGETTABLE_SOURCE = select(_ONE.id).where(_ONE.source_id == bindparam("this"), _FOUND_IS_OLD, _NOTHING_OF_SOURCE)
_REMOVED = (
    update(publication)
    .where(publication.c.id == bindparam("this"), publication.c.state == State.GONE)
    .values(state=State.REMOVED)
)
_BINARY = select(binary.c.source_id, binary.c.build_id, binary.c.stored_file_id, binary.c.file_name).where(
    binary.c.id == bindparam("this")
)
_BUILDS_FROM = select(build.c.id).where(
    build.c.source_id == bindparam("this"), build.c.state == BuildState.BUILT, build.c.reproduces_id.is_(None)
)
_FORGET_PUBLICATIONS = delete(publication).where(publication.c.binary_id == bindparam("this"))
_FORGET_BINARY = delete(binary).where(binary.c.id == bindparam("this"))
_FORGET_RESULT = delete(build_file).where(
    build_file.c.build_id == bindparam("build"),
    build_file.c.stored_file_id == bindparam("file"),
    build_file.c.name == bindparam("called"),
)
_FORGET_SOURCE_PUBLICATIONS = delete(publication).where(publication.c.source_id == bindparam("this"))
_FORGET_SOURCE_FILES = delete(source_file).where(source_file.c.source_id == bindparam("this"))
_FORGOTTEN = update(source).where(source.c.id == bindparam("this")).values(forgotten_at=bindparam("now"))
