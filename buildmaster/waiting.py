"""What waits, a page at a time, and the facts about a build from which reasons.py says why it does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, func, select

from buildmaster import listings, reasons, shares, supplies
from buildmaster.chroots import IS_THERE
from buildmaster.lifecycle import BuildState
from buildmaster.listings import Build, Builder
from buildmaster.queue import kinds_waiting, waiting
from buildmaster.reasons import Ahead, Facts, Machine
from buildmaster.shares import LONGEST_PAUSE_S, Lane, Range
from buildmaster.tables import build, build_queue

HELD = (BuildState.CHROOT_WAIT, BuildState.DEP_WAIT)
_AT_ONCE = 500  # Builds of a page that are read at once.


@dataclass(frozen=True)
class Waiting:
    """A build that no builder has yet, and what keeps it."""

    build: Build
    position: int | None  # From 1, among those for its kind of builder; None: it is held, and not in the queue.
    why: str


@dataclass(frozen=True)
class Page:
    """A part of what waits."""

    waiting: list[Waiting]
    total: int  # All that wait, on this page or not.


class _Place(NamedTuple):
    """Where a build stands."""

    position: int
    architecture: str
    virtualised: bool
    build_id: int


def page(connection: Connection, now: float, limit: int, after: int = 0, *, looks: bool) -> Page:
    """What waits: the queue in its order, then what is held for a chroot or for build-dependencies.

    Where builds wait for several kinds of builder, the first of each come first, then the second of each.

    :param now: the time, in the database's sense.
    :param after: leave out so many.
    :param looks: build-dependencies are looked at before builds are given to builders.
    """
    queued = _count(connection, select(func.count()).where(build_queue.c.builder_id.is_(None)))
    held = _count(connection, select(func.count()).where(build.c.state.in_(HELD)))
    places = list(islice(merge(*_lanes(connection, after + limit)), after, after + limit))
    found = _queued_page(connection, places, now, looks=looks)
    if (room := limit - len(places)) > 0:
        rows = listings.builds(connection, states=HELD, limit=room, offset=max(0, after - queued))
        found += [Waiting(each, None, reasons.first(_facts_of(each)).text) for each in rows]
    return Page(found, queued + held)


def _count(connection: Connection, query: Any) -> int:
    return int(connection.execute(query).scalar_one())


def _lanes(connection: Connection, limit: int) -> Iterator[Iterator[_Place]]:
    """The first builds of each kind of builder's queue, in order."""
    for architecture, virtualised in sorted({(kind.architecture, kind.virtualised) for kind in waiting(connection)}):
        order = islice(shares.in_order(connection, lane(connection, architecture, virtualised), limit), limit)
        yield (_Place(place, architecture, virtualised, each.build_id) for place, each in enumerate(order, 1))


def lane(connection: Connection, architecture: str, virtualised: bool) -> Lane:
    """All that waits for builders of a kind, whatever tags it needs, and what pauses as well."""
    kinds = kinds_waiting(connection, architecture, virtualised)
    return Lane(architecture, virtualised, tuple(Range(kind.tags) for kind in kinds))


def _queued_page(connection: Connection, places: Sequence[_Place], now: float, *, looks: bool) -> list[Waiting]:
    machines = listings.builders(connection)
    rows: dict[int, Row[Any]] = {}
    for first in range(0, len(places), _AT_ONCE):
        ids = [place.build_id for place in places[first : first + _AT_ONCE]]
        rows |= {row.id: row for row in connection.execute(_queued(build.c.id.in_(ids)))}
    return [
        Waiting(
            listings.build_of(row), place.position, reasons.first(_queued_facts(row, machines, now, looks=looks)).text
        )
        for place in places
        if (row := rows.get(place.build_id)) is not None
    ]


def why_not_running(connection: Connection, build_id: int, now: float, *, looks: bool) -> str:
    """What keeps a build that is in the queue, in a few words; "" when nothing does, or it is not there."""
    row = connection.execute(_queued(build.c.id == build_id)).first()
    if row is None:
        return ""
    return reasons.first(_queued_facts(row, listings.builders(connection), now, looks=looks)).text


def facts(connection: Connection, build_id: int, now: float, *, looks: bool, master_runs: bool = True) -> Facts | None:
    """All that is known of why a build is not running; None: there is no such build."""
    row = connection.execute(_queued(build.c.id == build_id)).first()
    if row is not None:
        found = _queued_facts(row, listings.builders(connection), now, looks=looks)
        return replace(found, ahead=_ahead(connection, row), master_runs=master_runs)
    known = listings.one_build(connection, build_id)
    if known is None:
        return None
    return replace(_facts_of(known), supplies=supplies.find(connection, known), master_runs=master_runs)


def _queued(condition: ColumnElement[bool]) -> Any:
    queue = build_queue.c
    extra: tuple[Any, ...] = (queue.virtualised, queue.not_before, queue.lost_by_id, queue.tags.label("queue_tags"))
    extra += (queue.id.label("queue_id"), queue.archive_id, queue.band, queue.minus_score, queue.looked_at)
    extra += (IS_THERE.label("has_chroot"),)
    waits = (build.c.state == BuildState.NEEDS_BUILD, queue.builder_id.is_(None))
    return listings.builds_query().add_columns(*extra).where(*waits, condition)


def _facts_of(each: Build) -> Facts:
    return Facts(
        state=each.state,
        told=each.why if each.cause else each.reason,
        series=each.series,
        architecture=each.architecture,
        build_id=each.id,
        archive=each.archive,
        dependencies=each.dependencies,
        builder=each.builder or "",
        stage=each.stage,
    )


def _queued_facts(row: Row[Any], everyone: Sequence[Builder], now: float, *, looks: bool) -> Facts:
    pause_s = row.not_before - now
    same = [b for b in everyone if (b.architecture, b.virtualised) == (row.architecture, bool(row.virtualised))]
    return replace(
        _facts_of(listings.build_of(row)),
        virtualised=bool(row.virtualised),
        needs=row.queue_tags,
        has_chroot=bool(row.has_chroot),
        looked_at=row.looked_at is not None or not looks,
        pause_s=pause_s if pause_s <= LONGEST_PAUSE_S else 0.0,
        lost_by=row.lost_by_id,
        machines=tuple(map(_machine, same)),
    )


def _machine(each: Builder) -> Machine:
    return Machine(
        id=each.id,
        name=each.name,
        state=each.state,
        reason=each.reason or each.trouble,
        manual=each.manual,
        failures=each.failures,
        tags=each.tags,
        restricted_tags=each.restricted_tags,
        given=each.given,
    )


def _ahead(connection: Connection, row: Row[Any]) -> Ahead:
    queue = build_queue.c
    here = (queue.architecture == row.architecture, queue.virtualised == row.virtualised, shares.waits(queue))
    own = (*here, queue.band == row.band, queue.archive_id == row.archive_id)

    def count(*conditions: ColumnElement[bool]) -> int:
        return _count(connection, select(func.count()).select_from(build_queue).where(*conditions))

    accounts = shares.accounts(connection, lane(connection, row.architecture, bool(row.virtualised)), row.band)
    used_s = {archive_id: account.used_s for archive_id, account in accounts.items()}
    lowest_s = min(used_s.values(), default=0.0)
    return Ahead(
        higher_band=count(*here, queue.band > row.band),
        higher_score=count(*own, queue.minus_score < row.minus_score),
        older=count(*own, queue.minus_score == row.minus_score, queue.id < row.queue_id),
        archives=len(used_s.keys() - {row.archive_id}),
        lower_accounts=sum(each < used_s.get(row.archive_id, 0.0) for each in used_s.values()),
        used_s=used_s.get(row.archive_id, 0.0) - lowest_s,
    )
