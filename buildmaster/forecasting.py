"""When a build begins and ends, asked of the database; and how what was told of past ones fared."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from buildmaster import rows, shares, waiting
from buildmaster.builds import AnyRow
from buildmaster.entries import EXPECTED_S
from buildmaster.forecast import Forecast, Running, Situation, Span, forecast, forecast_end, inflow, known
from buildmaster.lifecycle import ACTIVE, BuildState
from buildmaster.reasons import Code, Facts, Machine, Reason, able, given_to, reasons
from buildmaster.shares import Lane, Range
from buildmaster.tables import answer, archive, build, build_queue, series_architecture, source
from buildmaster.tags import can_take

# Something else must happen first: nobody knows when.
BLOCKING = frozenset(Code) - {
    *(Code.RUNNING, Code.PAUSE, Code.GIVEN, Code.LEFT_TO_OTHERS, Code.NEXT, Code.CLEANING, Code.BUSY, Code.UNCHECKED),
    *(Code.BAND, Code.SCORE, Code.AGE, Code.SHARE),
}
_ALL = 2**31 - 1
_LOOK_AT = 200  # Builds that tell how wrong expectations are.
_WINDOW_S = 3600.0  # What came in so long tells what will come.
_CAME_MAX = 5000  # Builds that are looked at for that.


@dataclass(frozen=True)
class Past:
    """How answers fared, of those builds that have begun since, or ended."""

    begun: int
    begun_within: int  # In the range that was told.
    ended: int
    ended_within: int


def what_blocks(facts: Facts) -> Reason | None:
    """What must happen first, of which nobody knows when; None: nothing has to."""
    return next((each for each in reasons(facts) if each.code in BLOCKING), None)


def when(connection: Connection, facts: Facts, build_id: int, now: float, draw: Callable[[], float]) -> Forecast | None:
    """When a build begins and ends; None: something else must happen first, or it has ended.

    :param facts: of the same build and moment.
    :param draw: see forecast.forecast().
    """
    if what_blocks(facts) is not None:
        return None
    ratios = known(_ratios(connection, facts.architecture))
    queue = build_queue.c
    query = select(build_queue, build.c.started_at).select_from(build_queue.join(build, build.c.id == queue.build_id))
    row = connection.execute(query.where(queue.build_id == build_id)).one()
    if facts.state in ACTIVE:
        begun_s = row.started_at - now
        return Forecast(Span(begun_s, begun_s), forecast_end(Running(-begun_s, row.expected_s), ratios, draw))
    given = given_to(facts)
    machines = able(facts) if given is None else [given]
    idle = sum(each.state == "idle" for each in machines)
    cleaning = sum(each.state == "cleaning" for each in machines)
    situation = Situation(
        own_s=row.expected_s,
        idle=idle + cleaning,
        running=_running(connection, [each.id for each in machines], now),
        ahead=_ahead(connection, facts, machines, build_id) if given is None else (),
        pause_s=max(0.0, facts.pause_s) if given is None else 0.0,
        inflow=_inflow(connection, facts, row, len(machines), now) if given is None else 0.0,
    )
    return forecast(situation, ratios, draw)


def _ratios(connection: Connection, architecture: str) -> list[float]:
    """What the last builds took, of what was expected."""
    joined = build.join(series_architecture, series_architecture.c.id == build.c.series_architecture_id)
    took = (build.c.finished_at - build.c.started_at) / build.c.expected_s
    well = (
        build.c.state == BuildState.BUILT,
        build.c.expected_s > 0,
        series_architecture.c.architecture == architecture,
    )
    query = select(took).select_from(joined).where(*well).order_by(build.c.id.desc()).limit(_LOOK_AT)
    return [max(0.0, float(ratio)) for ratio in connection.execute(query).scalars()]


def _running(connection: Connection, builder_ids: Iterable[int], now: float) -> tuple[Running, ...]:
    joined = build_queue.join(build, build.c.id == build_queue.c.build_id)
    query = select(build_queue.c.builder_id, build.c.started_at, build_queue.c.expected_s).select_from(joined)
    wanted = frozenset(builder_ids)
    found = connection.execute(query.where(build_queue.c.builder_id.is_not(None)))
    return tuple(Running(now - row.started_at, row.expected_s) for row in found if row.builder_id in wanted)


def _ahead(connection: Connection, facts: Facts, machines: Sequence[Machine], build_id: int) -> list[float]:
    """What is expected of the builds that go before it, as far as the builders that can take it can take those."""
    kinds = waiting.lane(connection, facts.architecture, facts.virtualised).ranges
    shared = [
        Range(each.tags)
        for each in kinds
        if any(can_take(each.tags, machine.tags, machine.restricted_tags) for machine in machines)
    ]
    lane = Lane(facts.architecture, facts.virtualised, tuple(shared))
    before = takewhile(lambda each: each.build_id != build_id, shares.in_order(connection, lane, _ALL))
    return [each.expected_s for each in before]


def _inflow(connection: Connection, facts: Facts, own: AnyRow, builders: int, now: float) -> float:
    """The share of builder time that what came lately needs, as far as it would go before such a build: what is of
    other archives, and what is of higher score. No archive counts for more than its share."""
    lately = select(build.c.id).order_by(build.c.id.desc()).limit(_CAME_MAX).subquery()
    tables = (
        build.join(lately, lately.c.id == build.c.id)
        .join(source, source.c.id == build.c.source_id)
        .join(archive, archive.c.id == source.c.archive_id)
        .join(series_architecture, series_architecture.c.id == build.c.series_architecture_id)
        .outerjoin(build_queue, build_queue.c.build_id == build.c.id)
    )
    goes_before: ColumnElement[bool] = or_(source.c.archive_id != own.archive_id, build_queue.c.score > own.score)
    here = and_(series_architecture.c.architecture == facts.architecture, archive.c.virtualised == facts.virtualised)
    expected = func.sum(func.coalesce(build_queue.c.expected_s, build.c.expected_s, EXPECTED_S))
    query = select(expected, func.min(build.c.created_at)).select_from(tables)
    query = query.where(here, goes_before, build.c.created_at > now - _WINDOW_S)
    came = connection.execute(query.group_by(source.c.archive_id)).all()
    if not came:
        return 0.0
    window_s = max(_WINDOW_S / 6, min(_WINDOW_S, now - min(row[1] for row in came)))
    share_s = window_s * builders / (len(came) + 1)
    return inflow(sum(min(row[0], share_s) for row in came), window_s, builders)


def keep(connection: Connection, build_id: int, told: Forecast, now: float) -> None:
    """Remember what was told of a build, in place of what was told before."""
    begins, ends = told.begins, told.ends
    values = {"begins_from": now + begins.earliest_s, "begins_to": now + begins.latest_s}
    values |= {"ends_from": now + ends.earliest_s, "ends_to": now + ends.latest_s}
    values["told_at"] = now
    if rows.add(connection, answer, {"build_id": build_id, **values}) is None:
        connection.execute(update(answer).where(answer.c.build_id == build_id).values(**values))


def past(connection: Connection) -> Past:
    """How answers fared. Of those about a build that ran already, only its end counts."""
    waited = and_(build.c.started_at.is_not(None), build.c.started_at > answer.c.told_at)
    ended = and_(build.c.state == BuildState.BUILT, build.c.finished_at > answer.c.told_at)

    def count(*conditions: ColumnElement[bool]) -> int:
        joined = answer.join(build, build.c.id == answer.c.build_id)
        return int(connection.execute(select(func.count()).select_from(joined).where(*conditions)).scalar_one())

    return Past(
        begun=count(waited),
        begun_within=count(waited, build.c.started_at.between(answer.c.begins_from, answer.c.begins_to)),
        ended=count(ended),
        ended_within=count(ended, build.c.finished_at.between(answer.c.ends_from, answer.c.ends_to)),
    )
