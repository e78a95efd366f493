"""Packages that are held until all architectures have them, as queries: when they may go, and who lets them.

What is held is a version: its source, and all that was built of it. It goes when every build of it is BUILT, when its
time is over, or when somebody says so, as far as it is there by then. What a build brings after that is not held.
"""

from collections.abc import Iterable
from typing import Any

from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, select, update

from buildmaster import publications
from buildmaster.lifecycle import BuildState
from buildmaster.publications import STATE_OF_FOUND, Publication, State
from buildmaster.tables import binary, build, publication, series_architecture


def look(connection: Connection, source_id: int, now: float) -> bool:
    """Let a version go, if there is a build that is BUILT for each of its architectures that it waits for. Whether it
    does."""
    publications.hold_sources(connection, [source_id])
    held = _held(connection, source_id)
    if not held or lacking(connection, source_id):
        return False
    _let_go(connection, held, "", now)
    return True


def waive(connection: Connection, source_id: int, architectures: Iterable[str], now: float) -> bool:
    """Have a version that is held wait for these architectures no more. Whether it goes."""
    publications.hold_sources(connection, [source_id])
    held = _held(connection, source_id)
    waived = {*architectures, *(name for each in held for name in each.waived)}
    connection.execute(_WAIVE, {"ids": [each.id for each in held], "waived": " ".join(sorted(waived))})
    return look(connection, source_id, now)


def let_go(connection: Connection, source_id: int, now: float) -> bool:
    """Let go what there is of a version, whatever it lacks. Whether there was anything."""
    publications.hold_sources(connection, [source_id])
    held = _held(connection, source_id)
    _let_go(connection, held, "let go by hand", now)
    return bool(held)


def lacking(connection: Connection, source_id: int) -> list[str]:
    """The architectures that a version waits for that have no build which is BUILT, by name; nor packages that were
    uploaded, so that nobody builds them."""
    waived = {name for each in _held(connection, source_id) for name in each.waived}
    came = frozenset(connection.execute(_UPLOADED, {"this": source_id}).scalars())
    rows = connection.execute(_BUILDS, {"this": source_id}).all()
    there = {row.architecture for row in rows if row.state == BuildState.BUILT or _is_spared(row, came)}
    return sorted({row.architecture for row in rows} - there - waived)


def _is_spared(row: Any, came: frozenset[str]) -> bool:
    """Whether a build need not be, since its packages came."""
    indep = row.arch_indep and "all" in came
    return row.state == BuildState.SUPERSEDED and (row.architecture in came or indep)


def is_over(connection: Connection, now: float) -> bool:
    """Whether something has been held for as long as it may be."""
    return connection.execute(_OVERDUE.limit(1), {"now": now}).first() is not None


def let_go_by_time(connection: Connection, now: float) -> int:
    """Let go what has been held for as long as it may be: what there is of its version. Returns how many versions."""
    over = sorted(set(connection.execute(_OVERDUE, {"now": now}).scalars()))
    publications.hold_sources(connection, over)
    for source_id in over:
        _let_go(connection, _held(connection, source_id), "the time is over for which it was held", now)
    return len(over)


def _held(connection: Connection, source_id: int) -> list[Publication]:
    return [each for each in publications.of_source(connection, source_id) if each.state is State.HELD]


def _let_go(connection: Connection, held: list[Publication], why: str, now: float) -> None:
    """With what is held of older versions: nobody will wait for those."""
    connection.execute(_GO, {"ids": [each.id for each in held], "why": why})
    for one in (each for each in held if each.binary_id is None):
        publications.hold_sources(connection, {each.source_id for each in _older(connection, one)})
        older = [each.id for each in _older(connection, one)]
        publications.leave(connection, older, f"{one.source} {one.source_version} took its place", now)


def _older(connection: Connection, one: Publication) -> list[Publication]:
    """What is held of older versions in the same suite."""
    return [
        each
        for each in publications.named(connection, one.suite.archive_id, one.source)
        if each.state is State.HELD
        and each.suite == one.suite
        and Version(each.source_version) < Version(one.source_version)
    ]


# Made once: to make a statement takes longer than to execute it.
_BUILDS = (
    select(build.c.state, build.c.arch_indep, series_architecture.c.architecture)
    .join_from(build, series_architecture, series_architecture.c.id == build.c.series_architecture_id)
    .where(build.c.source_id == bindparam("this"), build.c.reproduces_id.is_(None))
)
_UPLOADED = select(binary.c.architecture).where(binary.c.source_id == bindparam("this"), binary.c.build_id.is_(None))
_OVERDUE = select(publication.c.source_id).where(
    publication.c.state == State.HELD, publication.c.held_until <= bindparam("now")
)
_WAIVE = (
    update(publication).where(publication.c.id.in_(bindparam("ids", expanding=True))).values(waived=bindparam("waived"))
)
_GO = (
    update(publication)
    .where(publication.c.id.in_(bindparam("ids", expanding=True)), STATE_OF_FOUND == State.HELD)
    .values(state=State.PENDING, held_until=None, reason=bindparam("why"))
)
