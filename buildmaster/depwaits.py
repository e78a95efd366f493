"""Builds whose build-dependencies are to be looked at: those queued of late, and those that wait for some; as queries.

What a build's archives are depends on its archive, its chroot and its architecture: its Place. Builds of one place are
looked at together, with one list of packages. A build that was looked at remembers by which state of the archives, and
a DEP_WAIT is looked at again when they are in another: so one that was found good, and that its builder calls a
DEP_WAIT all the same, does not go round and round.
"""

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select, update
from sqlalchemy.exc import IntegrityError

from buildd.control import Dsc
from buildmaster import builds, chroots, offered
from buildmaster.apt_sources import Sources
from buildmaster.available import Lack
from buildmaster.builds import ChangedMeanwhile
from buildmaster.lifecycle import BuildState, Event, ImpossibleTransition
from buildmaster.scoring import Pocket
from buildmaster.store import Sha256
from buildmaster.tables import archive, build, build_queue, chroot_system, series, series_architecture, source
from buildmaster.wishes import Wishes

_Q = build_queue.c
_NEW = (_Q.looked_at.is_(None), _Q.builder_id.is_(None))
_QUEUED = build_queue.join(build, build.c.id == _Q.build_id).join(source, source.c.id == build.c.source_id)
_LATER_S = 1.0  # More than is lost to rounding in publications(), however many archives there are.
_FIELDS = tuple(f"Build-{kind}{part}" for kind in ("Depends", "Conflicts") for part in ("", "-Arch", "-Indep"))


@dataclass(frozen=True, order=True)
class Place:
    """Where builds are that have the same packages to choose from."""

    archive_id: int
    series_architecture_id: int
    pocket: str


@dataclass(frozen=True)
class Question:
    """A build that is to be looked at."""

    build_id: int
    relations: str | None  # As relations_of() has them; else what it waits for. None: nothing is known.
    arch_indep: bool
    profiles: tuple[str, ...]  # Active build profiles.


@dataclass(frozen=True)
class Archives:
    """What the packages of a place come from."""

    sources: Sources  # Without lines: the chroot's own.
    architecture: str
    chroot: Sha256 | None
    changed_at: float  # When something was last said to be published there; 0: never.


def relations_of(dsc: Dsc) -> str:
    """A source's build relationship fields, as its row keeps them."""
    fields = ((name, " ".join(dsc.field(name).split())) for name in _FIELDS)
    return "\n".join(f"{name}: {value}" for name, value in fields if value)


def unlooked_places(connection: Connection) -> list[Place]:
    """Where something is queued that nobody has looked at: the first such place of each archive, at least."""
    archives = connection.execute(_UNLOOKED_ARCHIVES).scalars().all()
    rows = [row for each in archives for row in connection.execute(_UNLOOKED_THERE, {"archive": each})]
    return sorted({Place(*row) for row in rows})


def unlooked(connection: Connection, place: Place, limit: int) -> list[Question]:
    """Queued builds of a place that nobody has looked at, those first that would be built first."""
    query = _question().select_from(_QUEUED).where(*_NEW, _Q.archive_id == place.archive_id, _is_of(place))
    return [_as_question(row) for row in connection.execute(query.order_by(_Q.minus_score, _Q.id).limit(limit))]


# Made once: to make a statement takes longer than to execute it.
_PLACE = (source.c.archive_id, build.c.series_architecture_id, source.c.pocket)
_UNLOOKED_ARCHIVES = select(_Q.archive_id).where(*_NEW).distinct()
_UNLOOKED_THERE = (
    select(*_PLACE)
    .select_from(_QUEUED)
    .where(*_NEW, _Q.archive_id == bindparam("archive"))
    .order_by(_Q.minus_score, _Q.id)
    .limit(100)
)


def waiting_places(connection: Connection) -> list[Place]:
    """The places where builds wait for dependencies."""
    joined = build.join(source, source.c.id == build.c.source_id)
    query = select(*_PLACE).select_from(joined).where(build.c.state == BuildState.DEP_WAIT)
    return sorted(Place(*row) for row in connection.execute(query.distinct()))


def waiting(connection: Connection, place: Place, state: str, limit: int) -> list[Question]:
    """Builds that wait for dependencies, and were last looked at when the archives were in another state."""
    joined = build.join(source, source.c.id == build.c.source_id)
    waits = (build.c.state == BuildState.DEP_WAIT, build.c.archive_state != state, _is_of(place))
    rows = connection.execute(_question().select_from(joined).where(*waits).order_by(build.c.id).limit(limit))
    return [_as_question(row) for row in rows]


def _question() -> Any:
    return select(
        build.c.id.label("build_id"),
        build.c.arch_indep,
        build.c.wishes,
        build.c.dependencies,
        source.c.relations,
        *_PLACE,
    )


def _as_question(row: Any) -> Question:
    relations = row.relations
    if relations is None and row.dependencies:
        relations = f"Build-Depends: {row.dependencies}"
    return Question(row.build_id, relations, row.arch_indep, Wishes.from_text(row.wishes).profiles)


def _is_of(place: Place) -> Any:
    here = build.c.series_architecture_id == place.series_architecture_id
    return here & (source.c.archive_id == place.archive_id) & (source.c.pocket == place.pocket)


def archives_of(connection: Connection, place: Place) -> Archives:
    """What the packages of a place come from now."""
    columns = (archive.c.changed_at,)
    architecture = (series_architecture.c.architecture, series.c.name.label("series_name"))
    joined = series_architecture.join(series, series.c.id == series_architecture.c.series_id)
    joined = joined.join(archive, archive.c.distribution_id == series.c.distribution_id)
    here = (archive.c.id == place.archive_id, series_architecture.c.id == place.series_architecture_id)
    row = connection.execute(select(*columns, *architecture).select_from(joined).where(*here)).one()
    chroot = chroots.find(connection, place.series_architecture_id, Pocket(place.pocket))
    return Archives(
        sources=offered.sources(connection, place.archive_id, row.series_name, Pocket(place.pocket)),
        architecture=row.architecture,
        chroot=None if chroot is None else chroot.file.sha256,
        changed_at=row.changed_at or 0.0,
    )


def system(connection: Connection, chroot: Sha256) -> bytes | None:
    """What is known of a chroot, packed; empty: it has no such thing. None: nobody has looked."""
    known = (chroot_system.c.sha256 == chroot, chroot_system.c.lines.is_not(None))
    content = connection.execute(select(chroot_system.c.content).where(*known)).scalar()
    return None if content is None else base64.b64decode(content)


def keep_system(connection: Connection, chroot: Sha256, content: bytes, sources: Sources) -> None:
    """Remember it, unless another master was quicker.

    :param sources: what its own are.
    """
    values = {"content": base64.b64encode(content).decode()}
    values |= {"lines": "\n".join(sources.lines), "line_keys": "\n".join(sources.keys)}
    with suppress(IntegrityError), connection.begin_nested():
        connection.execute(chroot_system.insert().values(sha256=chroot, **values))
        return
    connection.execute(update(chroot_system).where(chroot_system.c.sha256 == chroot).values(**values))


def own_sources(connection: Connection, chroot: Sha256) -> Sources:
    """What a chroot's own sources are; without lines when nobody has looked, or it has none."""
    row = connection.execute(_OWN_SOURCES, {"this": chroot}).first()
    if row is None:
        return Sources()
    return Sources(lines=tuple((row.lines or "").splitlines()), keys=tuple(row.line_keys.splitlines()))


def let_pass(connection: Connection, build_ids: Sequence[int], now: float, archive_state: str = "") -> None:
    """Let queued builds be dispatched: their dependencies are there, or nobody can tell."""
    builds.hold(connection, build_ids)  # Before their queue rows, as everybody does.
    here = build_queue.c.build_id.in_(build_ids) & build_queue.c.looked_at.is_(None)
    connection.execute(update(build_queue).where(here).values(looked_at=now, entered_at=now))
    connection.execute(update(build).where(build.c.id.in_(build_ids)).values(archive_state=archive_state))


def settle(
    connection: Connection, verdicts: Mapping[int, Lack | None], archive_state: str, now: float
) -> dict[int, BuildState]:
    """Record what was found: who lacks nothing is, or goes, into the queue; who lacks something waits for it.

    :param verdicts: by build; None: it lacks nothing.
    :returns: the builds whose state is another now.
    """
    builds.hold(connection, verdicts)
    let_pass(connection, [build_id for build_id, lack in verdicts.items() if lack is None], now, archive_state)
    changed = {}
    for build_id, lack in verdicts.items():
        state = builds.state(connection, build_id)
        try:
            if lack is None and state is BuildState.DEP_WAIT:
                changed[build_id] = builds.record(connection, build_id, Event.RELEASED, now)
                let_pass(connection, [build_id], now, archive_state)
            elif lack is not None and state is BuildState.NEEDS_BUILD:
                event, reason = Event.DEPENDENCIES_MISSING, lack.reason
                changed[build_id] = builds.record(
                    connection, build_id, event, now, reason=reason, dependencies=lack.missing
                )
        except (ImpossibleTransition, ChangedMeanwhile):
            continue  # Somebody else was quicker.
        if lack is not None:
            said = {"reason": lack.reason, "dependencies": lack.missing} if state is BuildState.DEP_WAIT else {}
            waits = (build.c.id == build_id) & (build.c.state == BuildState.DEP_WAIT)
            connection.execute(update(build).where(waits).values(archive_state=archive_state, **said))
    return changed


def count(connection: Connection, archive_id: int) -> int:
    """How many builds of an archive wait for dependencies."""
    joined = build.join(source, source.c.id == build.c.source_id)
    query = select(func.count()).select_from(joined).where(build.c.state == BuildState.DEP_WAIT)
    return int(connection.execute(query.where(source.c.archive_id == archive_id)).scalar_one())


def publications(connection: Connection) -> float:
    """A figure that is another when it was said that something was published, in any archive."""
    return connection.execute(select(func.sum(archive.c.changed_at))).scalar() or 0.0


def when_published(connection: Connection) -> dict[int, float]:
    """By archive, when something was last said to be published there."""
    rows = connection.execute(select(archive.c.id, archive.c.changed_at).where(archive.c.changed_at.is_not(None)))
    return {row.id: row.changed_at for row in rows}


def published(connection: Connection, archive_id: int, now: float) -> None:
    """Something was published in an archive: whoever waits for packages of it is looked at at once. Also when whoever
    said so last has a clock that is fast."""
    told = archive.c.changed_at
    moment = case((told > now - _LATER_S, told + _LATER_S), else_=now)
    connection.execute(update(archive).where(archive.c.id == archive_id).values(changed_at=moment))


_OWN_SOURCES = select(chroot_system.c.lines, chroot_system.c.line_keys).where(
    chroot_system.c.sha256 == bindparam("this")
)
