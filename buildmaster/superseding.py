"""Sources that a newer version takes the place of.

In the same archive, series and pocket the newest version counts. Builds of older ones that wait, for a builder or for
anything else, are SUPERSEDED at once; what a builder has is looked at when that ends (builds.record). What a person
retries, or builds once more, after its source was superseded is wanted, and is not superseded by that again.
"""

from dataclasses import dataclass

from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, func, select, update

from buildmaster import builds, publications
from buildmaster.lifecycle import PENDING, BuildState, Event
from buildmaster.scoring import Pocket
from buildmaster.tables import build, build_queue, source


@dataclass(frozen=True)
class Superseded:
    """What a new source took the place of."""

    versions: tuple[str, ...] = ()  # The oldest first.
    build_ids: tuple[int, ...] = ()  # What waited of them.


def take_place(connection: Connection, source_id: int, now: float) -> Superseded:
    """Let a source that has just been added take the place of those of its name that are older. One that is newer
    already stays, and so does the new one: a person wanted it. So does one that is in another suite by now, which what
    is built of it comes to."""
    new = connection.execute(_NEW, {"this": source_id}).one()
    others = connection.execute(_OTHERS, {"this": source_id, **{name: getattr(new, name) for name in _SAME}})
    older = [row for row in others if Version(row.version) < Version(new.version)]
    if older:
        publications.hold_sources(connection, [row.id for row in older])
    older = [row for row in older if not _is_elsewhere(connection, row.id, Pocket(new.pocket))]
    if not older:
        return Superseded()
    older.sort(key=lambda row: Version(row.version))
    ids = [row.id for row in older]
    # What is queued was queued before this, whatever the clock said by which it was: see entries.Standing.
    queued = select(func.max(build_queue.c.queued_at)).join_from(build_queue, build).where(build.c.source_id.in_(ids))
    moment = max(now, connection.execute(queued).scalar() or now)
    connection.execute(update(source).where(source.c.id.in_(ids)).values(superseded_at=moment))
    # Locked, where a database does that: a claim or an end that comes at the same time comes before or after all of it.
    theirs = select(build.c.id, build.c.state).where(build.c.source_id.in_(ids), build.c.reproduces_id.is_(None))
    theirs = theirs.order_by(build.c.id).with_for_update()
    waits = [row.id for row in connection.execute(theirs) if BuildState(row.state) in PENDING]
    for build_id in waits:
        builds.record(connection, build_id, Event.SUPERSEDE, now, reason=f"{new.name} {new.version} took its place")
    return Superseded(tuple(row.version for row in older), tuple(waits))


def _is_elsewhere(connection: Connection, source_id: int, pocket: Pocket) -> bool:
    return any(each.suite.pocket is not pocket for each in publications.home(connection, source_id))


# Made once: to make a statement takes longer than to execute it.
_SAME = ("archive_id", "series_id", "pocket", "name")
_NEW = select(source).where(source.c.id == bindparam("this"))
_OTHERS = select(source.c.id, source.c.version).where(
    *(source.c[name] == bindparam(name) for name in _SAME),
    source.c.id != bindparam("this"),
    source.c.superseded_at.is_(None),
)
