"""The resource tags that builds need of a builder, as queries: their own, their source's and their archive's."""

from typing import Any

from sqlalchemy import Connection, FromClause, and_, delete, func, select, update

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

    :raises TagsRefused: a build that waits would need too much.
    """
    this = (source_need.c.archive_id == archive_id, source_need.c.name == name)
    connection.execute(delete(source_need).where(*this))
    if tags:
        connection.execute(source_need.insert().values(archive_id=archive_id, name=name, tags=tags))
    renew(connection, archive_id, now)


def renew(connection: Connection, archive_id: int, now: float) -> None:
    """Set anew what builds of an archive that wait need: one change for each way to need something, not each build."""
    here = (build_queue.c.archive_id == archive_id, build_queue.c.builder_id.is_(None))
    tables = joined(_described())
    waits = tables.join(build_queue, build_queue.c.build_id == build.c.id)
    for row in connection.execute(select(*COLUMNS).select_from(waits).where(*here).distinct()).all():
        like = (build.c.tags == row.tags, func.coalesce(source_need.c.tags, "") == row.source_tags)
        same = select(build.c.id).select_from(tables).where(source.c.archive_id == archive_id, *like)
        changed = update(build_queue).where(*here, build_queue.c.build_id.in_(same), build_queue.c.tags != tags_of(row))
        connection.execute(changed.values(tags=tags_of(row), entered_at=now))


def _described() -> FromClause:
    tables = build.join(source, source.c.id == build.c.source_id)
    return tables.join(archive, archive.c.id == source.c.archive_id)
