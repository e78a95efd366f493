"""The rows of build_queue, as queries: what builds.py writes there when a build goes into the queue, or back, and how
that has fared since.

A row says again what its build, source and archive say, so that candidates are found by one index. So whoever changes
those changes what waits as well, and holds the archive meanwhile: see needs.py.
"""

from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, select, update

from buildmaster import needs
from buildmaster.lifecycle import BuildState
from buildmaster.scoring import ArchivePurpose, Pocket, Urgency, band, score
from buildmaster.tables import archive, build, build_queue, series_architecture, source, source_file, stored_file

EXPECTED_S = 300.0  # How long a build takes that we know nothing of.
_LATER_S = 0.001
_SOURCE_BYTES_A_SECOND = 20_000  # A rough figure: hello's 1 MB takes a minute.

_DESCRIBED = (
    build.join(source, source.c.id == build.c.source_id)
    .join(archive, archive.c.id == source.c.archive_id)
    .join(series_architecture, series_architecture.c.id == build.c.series_architecture_id)
)
_QUEUED_AS = (
    select(
        archive.c.id.label("archive_id"),
        archive.c.private,
        archive.c.purpose,
        archive.c.relative_score,
        archive.c.virtualised,
        *needs.COLUMNS,
        build.c.manual_score,
        source.c.urgency,
        source.c.component,
        source.c.pocket,
        source.c.superseded_at,
        series_architecture.c.architecture,
    )
    .select_from(needs.joined(_DESCRIBED))
    .where(build.c.id == bindparam("this"))
)


def add(connection: Connection, build_id: int, now: float) -> None:
    """Put a build into the queue.

    :raises TagsRefused: it needs too many.
    """
    row = _queued_as(connection, build_id)
    manual = row.manual_score is not None
    values = {"build_id": build_id, "architecture": row.architecture, "archive_id": row.archive_id}
    values |= {**_needs(row), **_place(row.manual_score if manual else _points(row)), "manual_score": manual}
    # What is queued now is wanted in spite of a newer source, also if that came by a clock that was fast.
    queued_at = now if row.superseded_at is None else max(now, row.superseded_at + _LATER_S)
    values |= {"queued_at": queued_at, "entered_at": now, "expected_s": expected_s(connection, build_id)}
    connection.execute(_ADD, values)


def put_back(connection: Connection, build_id: int, now: float, pause_s: float) -> None:
    """Take a build's row from its builder. It keeps its score and place; its archive may have changed meanwhile.

    :param pause_s: how long it is not to be built.
    :raises TagsRefused: it needs too many.
    """
    values: dict[str, object] = {"lost_by_id": build_queue.c.builder_id, "builder_id": None, "stage": ""}
    values |= {"not_before": now + pause_s, "entered_at": now, "cancelled_at": None}
    values |= _needs(_queued_as(connection, build_id))
    connection.execute(update(build_queue).where(build_queue.c.build_id == build_id).values(**values))


def set_score(connection: Connection, build_id: int, points: int | None) -> None:
    """Give a build, if it is in the queue, this score, which sticks; None: that of scoring.py again."""
    found = _points(_queued_as(connection, build_id)) if points is None else points
    place = _place(found) | {"manual_score": points is not None}
    connection.execute(update(build_queue).where(build_queue.c.build_id == build_id).values(**place))


def _queued_as(connection: Connection, build_id: int) -> Any:
    needs.hold(connection, build_id)
    return connection.execute(_QUEUED_AS, {"this": build_id}).one()


def _points(row: Any) -> int:
    """How urgent the build of a row of _QUEUED_AS is."""
    return score(
        Urgency(
            private=row.private,
            purpose=ArchivePurpose(row.purpose),
            relative_score=row.relative_score,
            urgency=row.urgency,
            pocket=Pocket(row.pocket),
            component=row.component,
        )
    )


def _needs(row: Any) -> dict[str, object]:
    """What the build of a row of _QUEUED_AS needs of a builder beside its architecture."""
    return {"virtualised": row.virtualised, "tags": needs.tags_of(row)}


def _place(points: int) -> dict[str, int]:
    """What a queue row says of a score."""
    return {"score": points, "band": band(points), "minus_score": -points}


def expected_s(connection: Connection, build_id: int) -> float:
    """How long a build will take: as its source did there last, else by its size."""
    last_s, size = connection.execute(_EXPECTED, {"this": build_id}).one()
    if last_s is not None:
        return float(last_s)
    return EXPECTED_S if size is None else max(30.0, float(size) / _SOURCE_BYTES_A_SECOND)


class Standing(NamedTuple):
    """How a build has fared since it was queued."""

    attempts: int = 0  # So often it was claimed.
    # A newer source has taken the place of its own since: what a person has retried in spite of that is wanted, and so
    # is a reproduction, whatever has become of the original.
    superseded: bool = False


def standing(connection: Connection, build_id: int) -> Standing:
    """How a build has fared; as at its beginning where it is not in the queue."""
    row = connection.execute(_STANDING, {"this": build_id}).first()
    return Standing() if row is None else Standing(row.attempts, bool(row.superseded))


# Made once: to make a statement takes longer than to execute it.
_ADD = build_queue.insert()
_BEFORE, _ITS_SOURCE = build.alias("before"), source.alias("its_source")
_LAST_TOOK = (
    select(_BEFORE.c.finished_at - _BEFORE.c.started_at)
    .select_from(_BEFORE.join(_ITS_SOURCE, _ITS_SOURCE.c.id == _BEFORE.c.source_id))
    .where(
        _ITS_SOURCE.c.name == source.c.name,
        # In functions, so that the sources of that name are where it begins, and not all builds of the architecture.
        func.coalesce(_BEFORE.c.series_architecture_id, 0) == build.c.series_architecture_id,
        func.coalesce(_BEFORE.c.state, "") == BuildState.BUILT,
    )
    .order_by(_BEFORE.c.id.desc())
    .limit(1)
)
_SIZE = (
    select(func.sum(stored_file.c.size))
    .select_from(source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id))
    .where(source_file.c.source_id == build.c.source_id)
)
_EXPECTED = (
    select(_LAST_TOOK.scalar_subquery(), _SIZE.scalar_subquery())
    .select_from(build.join(source, source.c.id == build.c.source_id))
    .where(build.c.id == bindparam("this"))
)
_STANDING = (
    select(
        build_queue.c.attempts,
        and_(build.c.reproduces_id.is_(None), source.c.superseded_at >= build_queue.c.queued_at).label("superseded"),
    )
    .select_from(
        build_queue.join(build, build.c.id == build_queue.c.build_id).join(source, source.c.id == build.c.source_id)
    )
    .where(build.c.id == bindparam("this"))
)
