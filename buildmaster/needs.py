"""The resource tags that builds need of a builder, as queries: their own, their source's and their archive's."""

from typing import Any

from sqlalchemy import Connection, FromClause, and_, bindparam, delete, func, select, update

from buildmaster.lifecycle import ACTIVE, PENDING
from buildmaster.tables import archive, build, build_queue, source, source_need
from buildmaster.tags import union

# Of what joined() gives; tags_of() takes a row with them.
COLUMNS = (
    build.c.tags,
    archive.c.tags.label("archive_tags"),
    func.coalesce(source_need.c.tags, "").label("source_tags"),
)


def joined(described: Any) -> Any:
    """The tables of a query with build, source and archive, and what says the rest."""
    theirs = and_(source_need.c.archive_id == source.c.archive_id, source_need.c.name == source.c.name)
    return described.outerjoin(source_need, theirs)


def tags_of(row: Any) -> str:
    """All that the build of a row needs.

    :raises TagsRefused: it is too much.
    """
    return union(row.tags, row.archive_tags, row.source_tags)


def of_source(connection: Connection, archive_id: int, name: str) -> str:
    """What all builds of a source package of this name need."""
    this = (source_need.c.archive_id == archive_id, source_need.c.name == name)
    return connection.execute(select(source_need.c.tags).where(*this)).scalar() or ""


def set_of_source(connection: Connection, archive_id: int, name: str, tags: str, now: float) -> None:
    """Say what all builds of a source package of this name need, whatever its version; what waits is changed, too.

    :raises TagsRefused: a build that is to be built yet would need too much.
    """
    hold_archive(connection, archive_id)
    this = (source_need.c.archive_id == archive_id, source_need.c.name == name)
    connection.execute(delete(source_need).where(*this))
    if tags:
        connection.execute(source_need.insert().values(archive_id=archive_id, name=name, tags=tags))
    renew(connection, archive_id, now)


def hold(connection: Connection, build_id: int) -> None:
    """Let nobody change what a build needs, or how urgent its archive makes it, before this transaction ends."""
    connection.execute(_HOLD, {"this": build_id})


def hold_archive(connection: Connection, archive_id: int) -> None:
    """Let nobody put builds of an archive into the queue before this transaction ends, which changes what they are
    there: who does so just now is waited for, since the change would not find them."""
    connection.execute(select(archive.c.id).where(archive.c.id == archive_id).with_for_update())


def renew(connection: Connection, archive_id: int, now: float) -> None:
    """Set anew what builds of an archive that wait need: one change for each way to need something, not each build.

    :raises TagsRefused: a build that is to be built yet, whoever has it now, would need too much: it could not go back
        into the queue.
    """
    waits = (build_queue.c.archive_id == archive_id, build_queue.c.builder_id.is_(None))
    tables = joined(_DESCRIBED)
    ours = source.c.archive_id == archive_id
    unbuilt = select(*COLUMNS).select_from(tables).where(ours, build.c.state.in_(PENDING | ACTIVE))
    for row in connection.execute(unbuilt.distinct()).all():
        tags = tags_of(row)
        like = (build.c.tags == row.tags, func.coalesce(source_need.c.tags, "") == row.source_tags)
        same = select(build.c.id).select_from(tables).where(ours, *like)
        changed = update(build_queue).where(*waits, build_queue.c.build_id.in_(same), build_queue.c.tags != tags)
        connection.execute(changed.values(tags=tags, entered_at=now))


_DESCRIBED: FromClause = build.join(source, source.c.id == build.c.source_id).join(
    archive, archive.c.id == source.c.archive_id
)
_HOLD = (
    select(archive.c.id)
    .select_from(_DESCRIBED)
    .where(build.c.id == bindparam("this"))
    .with_for_update(read=True, key_share=True, of=archive)
)
