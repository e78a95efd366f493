"""The queue, asked: what a builder could be given, what waits, and how a queued build has fared so far."""

from sqlalchemy import Connection, exists, func, or_, select, update

from buildmaster.builders import Cleanliness
from buildmaster.tables import build_queue, builder

LONGEST_PAUSE_S = 900.0  # A build that is to wait longer does so by a clock that was set back since: it waits no more.
_BACK_OFF_S = 15.0  # Pause before the second attempt at a build that was given back; doubled with each further one.


def candidates(
    connection: Connection, architecture: str, *, virtualised: bool, builder_id: int, now: float, limit: int
) -> list[int]:
    """The builds that a builder could be given now, the most urgent first.

    A build that was lost by this builder is left to others, while there is another that could take it at once, and has
    not failed since it last did well.
    """
    other = builder.alias("other")
    job = build_queue.alias("job")
    another = exists().where(
        other.c.id != builder_id,
        other.c.architecture == architecture,
        other.c.virtualised == virtualised,
        other.c.enabled,
        ~other.c.manual,
        other.c.cleanliness == Cleanliness.CLEAN,
        other.c.failures == 0,
        ~exists().where(job.c.builder_id == other.c.id),
    )
    queue = build_queue.c
    query = (
        select(queue.build_id)
        .where(queue.architecture == architecture, queue.virtualised == virtualised, queue.builder_id.is_(None))
        .where(or_(queue.not_before <= now, queue.not_before > now + LONGEST_PAUSE_S))
        .where(or_(queue.lost_by_id.is_(None), queue.lost_by_id != builder_id, ~another))
        .order_by(queue.score.desc(), queue.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def waiting(connection: Connection) -> dict[tuple[str, bool], tuple[int, ...]]:
    """The kinds of builder, by architecture and whether virtualised, that something in the queue waits for.

    :returns: with each, figures that are others when something was queued, once or again.
    """
    queue = build_queue.c
    figures = (func.count(), func.max(queue.id), func.sum(queue.attempts))
    query = select(queue.architecture, queue.virtualised, *figures).where(queue.builder_id.is_(None))
    rows = connection.execute(query.group_by(queue.architecture, queue.virtualised))
    return {(row[0], row[1]): tuple(row[2:]) for row in rows}


def lost_by(connection: Connection, build_id: int) -> int | None:
    """The last builder that lost a build since it was queued."""
    query = select(build_queue.c.lost_by_id).where(build_queue.c.build_id == build_id)
    return connection.execute(query).scalar()


def attempts(connection: Connection, build_id: int) -> int:
    """How often a build was claimed since it was queued; 0 when it is not in the queue."""
    query = select(build_queue.c.attempts).where(build_queue.c.build_id == build_id)
    return connection.execute(query).scalar() or 0


def breakdowns(connection: Connection, build_id: int) -> tuple[int, ...]:
    """The builders that said of a build since it was queued that they have failed, as far as that was counted."""
    query = select(build_queue.c.broken_by).where(build_queue.c.build_id == build_id)
    return tuple(map(int, (connection.execute(query).scalar() or "").split()))


def count_breakdown(connection: Connection, build_id: int, builder_id: int) -> tuple[int, ...]:
    """Count one more of these; all that there are now."""
    counted = (*breakdowns(connection, build_id), builder_id)
    row = update(build_queue).where(build_queue.c.build_id == build_id)
    connection.execute(row.values(broken_by=" ".join(map(str, counted))))
    return counted


def pause_s(attempts: int) -> float:
    """How long a build that goes back into the queue after so many attempts is left alone, so that nothing spins."""
    return float(min(_BACK_OFF_S * 2 ** min(max(0, attempts - 1), 20), LONGEST_PAUSE_S))
