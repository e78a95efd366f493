"""What is in the suites of the archives that we publish, as queries: a row for each source and binary package there.

A row is made when a source is accepted, when a build of it is BUILT, or when something is copied; it ends when its
files are out of the pool. What the rows say the publisher brings to the tree on disk, then it writes down that it has.
Rows are found by their state, or by the names of their packages: no query here reads all of an archive.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, bindparam, literal_column, select, update

from buildmaster import rows
from buildmaster.pockets import suite_name
from buildmaster.scoring import Pocket
from buildmaster.tables import archive, binary, publication, repository, series, source, suite


class State(StrEnum):
    """How far a package has come into a suite, or out of it."""

    HELD = "HELD"  # It waits for the other architectures of its source: holding.release() makes it PENDING.
    PENDING = "PENDING"  # No index names it yet, or none for certain: the publisher puts it there, and says PUBLISHED.
    PUBLISHED = (
        "PUBLISHED"  # The current index names it, until it is LEAVING, or the publisher finds it superseded: GONE.
    )
    LEAVING = "LEAVING"  # It is wanted there no more: the publisher takes it out, and says GONE.
    GONE = "GONE"  # No current index names it. Its files are there for who has an older one; retention says REMOVED.
    REMOVED = "REMOVED"  # Its files are not in the pool either, on its account. The row is history.


WANTED = frozenset({State.HELD, State.PENDING, State.PUBLISHED})  # It is to be there, now or soon.
PRESENT = WANTED | {State.LEAVING}  # It is there, or will be.
LISTED = frozenset({State.PENDING, State.PUBLISHED})  # The next index names it.
# What the components are called of debug symbols, and of the packages of Debian's installer, in that of their source.
BESIDE = ("/debug", "/debian-installer")
IN_POOL = frozenset(State) - {State.REMOVED}  # Its file's name is taken.


@dataclass(frozen=True, order=True)
class Suite:
    """A pocket of a series in an archive: what apt knows as a suite."""

    archive_id: int
    series_id: int
    pocket: Pocket


@dataclass(frozen=True)
class Known:
    """A suite as it was last published."""

    suite: Suite
    series: str
    generation: int  # 0: it never was.
    published_at: float | None
    valid_until: float | None  # None: it does not expire.

    @property
    def name(self) -> str:
        """What apt calls it."""
        return suite_name(self.series, self.suite.pocket)


@dataclass(frozen=True)
class Publication:
    """A package in a suite."""

    id: int
    suite: Suite
    component: str  # Of its source, or one of BESIDE that.
    state: State
    reason: str
    source_id: int
    source: str  # Itself, or what it was built of:
    source_version: str  # as the source package says.
    binary_id: int | None  # None: the source. What follows is its own:
    name: str
    version: str
    architecture: str  # "source", of a source.
    created_at: float
    published_at: float | None
    gone_at: float | None
    waived: tuple[str, ...]  # Architectures that it is not held for.
    kept_for_id: int | None  # A publication that depends on it, without which it would leave.


def origin(connection: Connection, source_id: int) -> Suite:
    """The suite that a source was accepted for."""
    row = connection.execute(_SOURCE, {"this": source_id}).one()
    return Suite(row.archive_id, row.series_id, Pocket(row.pocket))


def hold_sources(connection: Connection, source_ids: Iterable[int]) -> None:
    """Wait until nobody else changes what is published of sources, and let nobody before this transaction ends.

    To be called before anything else that looks at their publications, in order to make or change some by what there
    is: what it sees then is what the others left.
    """
    connection.execute(_HOLD_SOURCES, {"these": sorted(set(source_ids))})


def home(connection: Connection, source_id: int) -> list[Publication]:
    """The source packages that builds of this one belong to: itself, where it is wanted in its own archive and series.
    Empty: nowhere, so that its builds are not published."""
    row = connection.execute(_SOURCE, {"this": source_id}).one()
    here = (row.archive_id, row.series_id)
    return [
        each
        for each in of_source(connection, source_id)
        if each.binary_id is None and each.state in WANTED and (each.suite.archive_id, each.suite.series_id) == here
    ]


def of_source(connection: Connection, source_id: int) -> list[Publication]:
    """All publications of a source and of its binary packages, in all archives, the oldest first."""
    return [_publication(row) for row in connection.execute(_OF_SOURCE, {"this": source_id})]


def named(connection: Connection, archive_id: int, source_name: str) -> list[Publication]:
    """All publications of the sources of a name, and of their binary packages, in an archive, the oldest first; those
    that are gone as well."""
    return [_publication(row) for row in connection.execute(_NAMED, {"archive_id": archive_id, "name": source_name})]


def in_archive(
    connection: Connection, archive_id: int, states: Collection[State], sources: Sequence[str] = ()
) -> list[Publication]:
    """All of an archive that is in these states, by name; of sources of these names, if there are any."""
    query = _EVERY.where(publication.c.state.in_(sorted(states)), publication.c.archive_id == archive_id)
    if sources:
        query = query.where(source.c.name.in_(sources))
    found = [_publication(row) for row in connection.execute(query)]
    return sorted(found, key=lambda each: (each.source, each.source_version, each.id))


def suites_with_work(connection: Connection, now: float) -> list[Suite]:
    """Where there is something to publish, take out, or sign anew; first where something is to enter, so that what goes
    from one suite to another is in both for a moment rather than in neither."""
    enters, others = set[Suite](), {_suite(row) for row in connection.execute(_DUE, {"now": now})}
    for row in connection.execute(_CHANGED):
        (enters if row.state == State.PENDING else others).add(_suite(row))
    return [*sorted(enters), *sorted(others - enters)]


def changes(connection: Connection, where: Suite, at_most: int = 1 << 30) -> list[Publication]:
    """What is PENDING or LEAVING in a suite, the oldest first."""
    return [_publication(row) for row in connection.execute(_CHANGES, {**vars(where), "at_most": at_most})]


def listed(connection: Connection, where: Suite) -> list[Publication]:
    """All that a suite's next index names; as long as the suite is."""
    found = [_publication(row) for row in connection.execute(_LISTED_THERE, vars(where))]
    return [each for each in found if each.state in LISTED]


def related(connection: Connection, where: Suite, sources: Iterable[str], packages: Iterable[str]) -> list[Publication]:
    """What is listed in a suite of sources of these names, with all that was built of them, and binary packages of
    these names."""
    these = {**vars(where), "sources": list(sources), "packages": list(packages)}
    found = [*connection.execute(_RELATED_SOURCES, these), *connection.execute(_RELATED_PACKAGES, these)]
    every = {row.id: _publication(row) for row in found}
    return [each for _, each in sorted(every.items()) if each.state in LISTED]


def kept_for(connection: Connection, ids: Sequence[int]) -> list[Publication]:
    """What is listed, and was superseded, but stays because one of these depends on it."""
    found = [row for part in rows.parts(ids) for row in connection.execute(_KEPT_FOR, {"these": part})]
    return [each for each in map(_publication, found) if each.state in LISTED]


def leave(connection: Connection, ids: Iterable[int], reason: str, now: float) -> int:
    """Have packages leave their suites: what is held was in no index, and is gone at once. Returns how many do."""
    these = {"these": list(ids), "reason": reason, "now": now}
    return connection.execute(_LEAVE, these).rowcount + connection.execute(_LEAVE_HELD, these).rowcount


def refuse(connection: Connection, publication_id: int, reason: str, now: float) -> None:
    """Have a package out of its suite that no index can name."""
    connection.execute(_REFUSE, {"this": publication_id, "reason": reason, "now": now})


def ensure_suite(connection: Connection, where: Suite, now: float) -> None:
    """Let there be a suite, and be published, if only as an empty one."""
    rows.add(connection, suite, {**vars(where), "refresh_at": now})


def ensure_suites(connection: Connection, distribution_id: int, series_id: int) -> None:
    """Let all archives of a distribution that we publish have a suite for a series, and have all suites that there are
    published anew: it has another architecture."""
    for row in connection.execute(_REPOSITORIES, {"this": distribution_id}):
        ensure_suite(connection, Suite(row.archive_id, series_id, Pocket.RELEASE), 0.0)
    connection.execute(update(suite).where(suite.c.series_id == series_id).values(refresh_at=0.0))


def suites_of(connection: Connection, archive_id: int) -> list[Known]:
    """An archive's suites, by name."""
    rows = connection.execute(_SUITES, {"this": archive_id})
    found = [Known(_suite(row), row.series, row.generation, row.published_at, row.valid_until) for row in rows]
    return sorted(found, key=lambda each: each.name)


def refresh(connection: Connection, archive_id: int, when: float) -> None:
    """Have all suites of an archive signed anew at a moment, or before."""
    due = suite.c.refresh_at.is_(None) | (suite.c.refresh_at > when)
    connection.execute(update(suite).where(suite.c.archive_id == archive_id, due).values(refresh_at=when))


def add(
    connection: Connection,
    where: Suite,
    now: float,
    *,
    component: str,
    source_id: int,
    binary_id: int | None = None,
    held: bool = False,
    held_until: float | None = None,
) -> None:
    """Let a package be published in a suite, which is made if it is not there."""
    values = {**vars(where), "component": component, "source_id": source_id, "binary_id": binary_id, "created_at": now}
    values |= {"state": State.HELD if held else State.PENDING, "held_until": held_until}
    connection.execute(_ADD, values)
    if connection.execute(_SUITE_THERE, vars(where)).first() is None:
        ensure_suite(connection, where, now)


def _suite(row: Any) -> Suite:
    return Suite(row.archive_id, row.series_id, Pocket(row.pocket))


def _publication(row: Any) -> Publication:
    of_binary = row.binary_id is not None
    return Publication(
        id=row.id,
        suite=_suite(row),
        component=row.component,
        state=State(row.state),
        reason=row.reason,
        source_id=row.source_id,
        source=row.source_name,
        source_version=row.source_version,
        binary_id=row.binary_id,
        name=row.binary_name if of_binary else row.source_name,
        version=row.binary_version if of_binary else row.source_version,
        architecture=row.binary_architecture if of_binary else "source",
        created_at=row.created_at,
        published_at=row.published_at,
        gone_at=row.gone_at,
        waived=tuple(row.waived.split()),
        kept_for_id=row.kept_for_id,
    )


# Made once: to make a statement takes longer than to execute it.
_SOURCE = select(source).where(source.c.id == bindparam("this"))
# Before their builds, as who has others take their place holds them.
_HOLD_SOURCES = (
    select(source.c.id)
    .where(source.c.id.in_(bindparam("these", expanding=True)))
    .order_by(source.c.id)
    .with_for_update(key_share=True)
)
_ADD = publication.insert()
_ROW = select(
    publication,
    source.c.name.label("source_name"),
    source.c.version.label("source_version"),
    binary.c.name.label("binary_name"),
    binary.c.version.label("binary_version"),
    binary.c.architecture.label("binary_architecture"),
)
_WITH_SOURCE = publication.join(source, source.c.id == publication.c.source_id)
_IS_ITS = binary.c.id == publication.c.binary_id
_EVERY = _ROW.select_from(_WITH_SOURCE.outerjoin(binary, _IS_ITS))
_BINARIES = _ROW.select_from(_WITH_SOURCE.join(binary, _IS_ITS))
_THERE = and_(*(publication.c[name] == bindparam(name) for name in ("archive_id", "series_id", "pocket")))
_SUITE_THERE = select(suite.c.id).where(
    *(suite.c[name] == bindparam(name) for name in ("archive_id", "series_id", "pocket"))
)
_OF_SOURCE = _EVERY.where(publication.c.source_id == bindparam("this")).order_by(publication.c.id)
_NAMED = _EVERY.where(source.c.name == bindparam("name"), publication.c.archive_id == bindparam("archive_id")).order_by(
    publication.c.id
)
# In the very words of ix_publication_changing, which is of no use to others.
_CHANGING = publication.c.state.in_([literal_column(f"'{each}'") for each in (State.PENDING, State.LEAVING)])
_CHANGES = _EVERY.where(_THERE, _CHANGING).order_by(publication.c.id).limit(bindparam("at_most"))
_LISTED_THERE = _EVERY.where(_THERE, publication.c.state.in_(sorted(LISTED))).order_by(publication.c.id)
_RELATED_SOURCES = _EVERY.where(source.c.name.in_(bindparam("sources", expanding=True)), _THERE)
_RELATED_PACKAGES = _BINARIES.where(binary.c.name.in_(bindparam("packages", expanding=True)), _THERE)
_KEPT_FOR = _EVERY.where(publication.c.kept_for_id.in_(bindparam("these", expanding=True)))
_REPOSITORIES = (
    select(repository.c.archive_id)
    .join(archive, archive.c.id == repository.c.archive_id)
    .where(archive.c.distribution_id == bindparam("this"))
)
_SUITES = (
    select(suite, series.c.name.label("series")).join_from(suite, series).where(suite.c.archive_id == bindparam("this"))
)
_WHERE = (publication.c.archive_id, publication.c.series_id, publication.c.pocket)
_CHANGED = select(*_WHERE, publication.c.state).where(_CHANGING).distinct()
_DUE = select(suite.c.archive_id, suite.c.series_id, suite.c.pocket).where(suite.c.refresh_at <= bindparam("now"))
# The same, for who finds rows by their ids: SQLite would take the index of states.
STATE_OF_FOUND = publication.c.state.concat("")
_LEAVE = (
    update(publication)
    .where(
        publication.c.id.in_(bindparam("these", expanding=True)),
        STATE_OF_FOUND.in_([State.PENDING, State.PUBLISHED]),
    )
    .values(state=State.LEAVING, reason=bindparam("reason"), leaves_at=bindparam("now"))
)
_LEAVE_HELD = (
    update(publication)
    .where(publication.c.id.in_(bindparam("these", expanding=True)), STATE_OF_FOUND == State.HELD)
    .values(state=State.GONE, reason=bindparam("reason"), leaves_at=bindparam("now"), gone_at=bindparam("now"))
)
_REFUSE = (
    update(publication)
    .where(publication.c.id == bindparam("this"))
    .values(state=State.GONE, reason=bindparam("reason"), leaves_at=bindparam("now"), gone_at=bindparam("now"))
)
