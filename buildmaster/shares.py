"""Fair share between archives, as queries: their accounts, and what waits in the order that sharing.py gives it.

Nothing here reads the queue: an index leads from each archive that has something waiting to the next, and to the first
build of each. So it takes as long as there are such archives, however much they have. The statements are made once: to
make one takes longer than to execute it.
"""

from collections.abc import Iterator
from heapq import merge
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)

from buildmaster import rows, sharing
from buildmaster.scoring import Band
from buildmaster.sharing import Account, Waits
from buildmaster.tables import archive, archive_account, build_queue

LONGEST_PAUSE_S = 900.0  # A build that is to wait longer does so by a clock that was set back since: it waits no more.
NOBODY = -1  # No builder.
EVER = float(2**53)  # Later than any pause.
_ALL = 2**31 - 1
_AT_ONCE = 20  # Rows of one archive that are read at once; the next time twice as many,
_AT_ONCE_MAX = 5000  # and so on, up to these.


class Range(NamedTuple):
    """What waits with the same resource tags."""

    tags: str
    loser: int = NOBODY  # What this builder has lost is left out.


class Lane(NamedTuple):
    """What waits for builders of one kind."""

    architecture: str
    virtualised: bool
    ranges: tuple[Range, ...]
    now: float = EVER  # What is to pause longer is left out.
    unlooked: bool = True  # False: what nobody has looked at is left out; see depwaits.py.


def in_order(connection: Connection, lane: Lane, limit: int) -> Iterator[Waits]:
    """What waits in a lane, in the order in which it is taken if no more comes. Lazy.

    :param limit: no more will be asked for.
    """
    accounts: dict[int, Account] = {}
    band = _highest(connection, lane, max(Band) + 1)
    while band is not None:
        yield from _in_band(connection, lane, band, limit, accounts)
        band = _highest(connection, lane, band)


def _highest(connection: Connection, lane: Lane, below: int) -> int | None:
    """The highest band below another that something is in."""
    found = (connection.execute(_BAND_BELOW, _values(lane, each, below)).scalar() for each in lane.ranges)
    return max((band for band in found if band is not None), default=None)


def _in_band(
    connection: Connection, lane: Lane, band: int, limit: int, accounts: dict[int, Account]
) -> Iterator[Waits]:
    """No archive but those with the lowest `limit` accounts can be among the first `limit` turns.

    :param accounts: those that were charged for what is before this band.
    """
    heads: dict[int, list[Iterator[Waits]]] = {}
    for each in lane.ranges:
        values = _values(lane, each, band)
        for row in connection.execute(_ARCHIVES, values | {"limit": limit}):
            accounts.setdefault(row.archive_id, Account(row.used_s or 0.0, row.level_s or 0.0, row.weight))
            heads.setdefault(row.archive_id, []).append(_from(connection, Waits(*row[:5]), values, limit))
    level_s = level(connection, lane.architecture, lane.virtualised, band)
    yield from sharing.in_turn(accounts, level_s, {archive_id: merge(*each) for archive_id, each in heads.items()})


def _from(connection: Connection, first: Waits, values: dict[str, object], limit: int) -> Iterator[Waits]:
    """What waits of one archive, from its first build on."""
    last: Waits | None = first
    at_once = _AT_ONCE
    while last is not None:
        yield last
        place = {"minus_score": last.minus_score, "id": last.id, "archive_id": last.archive_id}
        rows = connection.execute(_NEXT, values | place | {"limit": min(limit, at_once)})
        at_once = min(2 * at_once, _AT_ONCE_MAX)
        found = [Waits(*row) for row in rows]
        yield from found[:-1]
        last = found[-1] if found else None


def _values(lane: Lane, its_range: Range, band: int) -> dict[str, object]:
    """What the statements below take."""
    values: dict[str, object] = {"architecture": lane.architecture, "virtualised": lane.virtualised, "band": band}
    values |= {"tags": its_range.tags, "loser": its_range.loser}
    return values | {"now": lane.now, "longest": lane.now + LONGEST_PAUSE_S, "unlooked": lane.unlooked}


def waits(columns: Any) -> ColumnElement[bool]:
    """Has no builder: in the very words of the indexes of build_queue, which are of no use to others."""
    nobody: ColumnElement[int] = literal_column("0")
    return func.coalesce(columns.builder_id, nobody) == nobody


def _within(columns: Any) -> tuple[ColumnElement[bool], ...]:
    """Waits in a lane, with the tags of a range: the first columns of the index."""
    return (
        columns.architecture == bindparam("architecture", type_=String),
        columns.virtualised == bindparam("virtualised", type_=Boolean),
        waits(columns),
        columns.tags == bindparam("tags", type_=String),
    )


def _allowed(columns: Any) -> tuple[ColumnElement[bool], ...]:
    """Does not pause, is not what this builder has lost, and was looked at, if that matters."""
    now, longest = bindparam("now", type_=Double), bindparam("longest", type_=Double)
    loser = bindparam("loser", type_=Integer)
    return (
        or_(columns.not_before <= now, columns.not_before > longest),
        func.coalesce(columns.lost_by_id, 0) != loser,
        or_(columns.looked_at.is_not(None), bindparam("unlooked", type_=Boolean)),
    )


_BAND = bindparam("band", type_=Integer)
_BAND_BELOW = (  # Not max(): PostgreSQL, as long as it has no statistics, would read the whole queue for that.
    select(build_queue.c.band)
    .where(*_within(build_queue.c), build_queue.c.band < _BAND)
    .order_by(build_queue.c.band.desc())
    .limit(1)
)
_WAITS = tuple(build_queue.c[name] for name in Waits._fields)


def _archives() -> Select[Any]:
    """The archives that have something waiting in a band, with their accounts and first builds: those that are next."""
    start, further, other = (build_queue.alias(name) for name in ("start", "further", "other"))
    found = select(start.c.archive_id).where(*_within(start.c), start.c.band == _BAND)
    first_archive = found.order_by(start.c.archive_id).limit(1).scalar_subquery()
    archives = select(first_archive.label("archive_id")).cte("archives", recursive=True)
    leap = select(further.c.archive_id).where(*_within(further.c), further.c.band == _BAND)
    leap = leap.where(further.c.archive_id > archives.c.archive_id).correlate(archives)
    leap = leap.order_by(further.c.archive_id).limit(1)
    archives = archives.union_all(select(leap.scalar_subquery()).where(archives.c.archive_id.is_not(None)))
    first = select(other.c.id).where(*_within(other.c), other.c.band == _BAND, *_allowed(other.c))
    first = first.where(other.c.archive_id == archives.c.archive_id).correlate(archives)
    first_id = first.order_by(other.c.minus_score, other.c.id).limit(1).scalar_subquery().label("first_id")
    # Made before it is joined: PostgreSQL would look for the first of each archive once for each row of the queue.
    heads = select(archives.c.archive_id, first_id).cte("heads").prefix_with("MATERIALIZED")
    account = archive_account.c
    its_account = and_(
        account.archive_id == heads.c.archive_id,
        account.architecture == bindparam("architecture", type_=String),
        account.virtualised == bindparam("virtualised", type_=Boolean),
    )
    tables = (
        heads.join(build_queue, build_queue.c.id == heads.c.first_id)
        .join(archive, archive.c.id == heads.c.archive_id)
        .outerjoin(archive_account, its_account)
    )
    query = select(*_WAITS, account.used_s, account.level_s, archive.c.weight).select_from(tables)
    order = (func.coalesce(account.used_s, 0.0), build_queue.c.minus_score, build_queue.c.id)
    return query.order_by(*order).limit(bindparam("limit", type_=Integer))


def _next() -> Select[Any]:
    """What follows a build in its archive and band."""
    queue = build_queue.c
    score, last = bindparam("minus_score", type_=Integer), bindparam("id", type_=Integer)
    here = (*_within(queue), queue.band == _BAND, queue.archive_id == bindparam("archive_id", type_=Integer))
    # Two conditions where the second would do: the first is a place in the index.
    after = (queue.minus_score >= score, or_(queue.minus_score > score, queue.id > last))
    query = select(*_WAITS).where(*here, *after, *_allowed(queue)).order_by(queue.minus_score, queue.id)
    return query.limit(bindparam("limit", type_=Integer))


_ARCHIVES, _NEXT = _archives(), _next()


def accounts(connection: Connection, lane: Lane, band: int) -> dict[int, Account]:
    """The accounts of all archives that have something waiting in a band."""
    return {
        row.archive_id: Account(row.used_s or 0.0, row.level_s or 0.0, row.weight)
        for each in lane.ranges
        for row in connection.execute(_ARCHIVES, _values(lane, each, band) | {"limit": _ALL})
    }


def level(connection: Connection, architecture: str, virtualised: bool, band: int) -> float:
    """Where accounts stand from which builds begin."""
    place = {"architecture": architecture, "virtualised": virtualised, "band": band}
    return connection.execute(_LEVEL, place).scalar() or 0.0


def charge(connection: Connection, build_id: int, expected_s: float) -> None:
    """Put a build that begins on its archive's account. Before its queue row says that it has begun."""
    row = connection.execute(_ACCOUNT, {"this": build_id}).first()
    if row is None:
        queued = connection.execute(_QUEUED, {"this": build_id}).one()
        values = {name: getattr(queued, name) for name in ("archive_id", "architecture", "virtualised")}
        rows.add(connection, archive_account, values)  # Or another master was quicker.
        row = connection.execute(_ACCOUNT, {"this": build_id}).one()
    level_s = level(connection, row.architecture, row.virtualised, row.band)
    charged = sharing.charge(Account(row.used_s, weight=row.weight), level_s, expected_s)
    values = {"used_s": charged.used_s, "level_s": charged.level_s, "band": row.band}
    connection.execute(_SET, {"this": row.id, **values})


def settle(connection: Connection, build_id: int, took_s: float) -> None:
    """Set an account right when a build leaves its builder. Before its queue row is changed."""
    row = connection.execute(_QUEUED, {"this": build_id}).one()
    more_s = sharing.correction_s(row.expected_s, took_s, row.weight)
    mine = {"archive": row.archive_id, "arch": row.architecture, "virtual": row.virtualised}
    connection.execute(_CORRECT, {**mine, "more_s": more_s})


_A, _Q = archive_account.c, build_queue.c
_KIND = (_A.architecture == bindparam("architecture"), _A.virtualised == bindparam("virtualised"))
_LEVEL = select(func.max(_A.level_s)).where(*_KIND, _A.band == _BAND)
_QUEUED = (
    select(_Q.archive_id, _Q.architecture, _Q.virtualised, _Q.band, _Q.expected_s, archive.c.weight)
    .select_from(build_queue.join(archive, archive.c.id == _Q.archive_id))
    .where(_Q.build_id == bindparam("this"))
)
_ACCOUNT = (  # Locked, where a database has that.
    select(_A.id, _A.used_s, _Q.architecture, _Q.virtualised, _Q.band, archive.c.weight)
    .select_from(
        build_queue.join(archive, archive.c.id == _Q.archive_id).join(
            archive_account,
            and_(
                _A.archive_id == _Q.archive_id,
                _A.architecture == _Q.architecture,
                _A.virtualised == _Q.virtualised,
            ),
        )
    )
    .where(_Q.build_id == bindparam("this"))
    .with_for_update(of=archive_account)
)
_SET = update(archive_account).where(_A.id == bindparam("this"))
_CORRECT = (  # An UPDATE takes no parameter that is called as a column.
    update(archive_account)
    .where(
        _A.archive_id == bindparam("archive"),
        _A.architecture == bindparam("arch"),
        _A.virtualised == bindparam("virtual"),
    )
    .values(used_s=_A.used_s + bindparam("more_s"))
)
