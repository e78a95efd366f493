"""The queue, asked: what a builder could be given, what waits, and how a queued build has fared so far."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select, update

from buildmaster.builders import Cleanliness, Vitals
from buildmaster.tables import build_queue, builder
from buildmaster.tags import can_take

LONGEST_PAUSE_S = 900.0  # A build that is to wait longer does so by a clock that was set back since: it waits no more.
_BACK_OFF_S = 15.0  # Pause before the second attempt at a build that was given back; doubled with each further one.


class Kind(NamedTuple):
    """What a build needs of a builder."""

    architecture: str
    virtualised: bool
    tags: str

    def fits(self, vitals: Vitals) -> bool:
        """Whether a builder may have such a build."""
        same = (self.architecture, self.virtualised) == (vitals.architecture, vitals.virtualised)
        return same and can_take(self.tags, vitals.tags, vitals.restricted_tags)


def candidates(connection: Connection, vitals: Vitals, now: float, limit: int) -> list[int]:
    """The builds that a builder could be given now, the most urgent first.

    A build that was lost by this builder is left to others, while there is another that could take it at once,
    answers, and has not failed since it last did well.
    """
    queue = build_queue.c
    kinds = _fitting(connection, vitals)
    others_take = _taken_by_others(connection, vitals, kinds)
    found: list[Any] = []  # Rows of three.
    for kind in kinds:
        query = (
            select(queue.build_id, queue.score, queue.id)
            .where(*_waits_for(kind))
            .where(or_(queue.not_before <= now, queue.not_before > now + LONGEST_PAUSE_S))
            .order_by(queue.score.desc(), queue.id)
            .limit(limit)
        )
        if kind in others_take:
            query = query.where(or_(queue.lost_by_id.is_(None), queue.lost_by_id != vitals.id))
        found += connection.execute(query).all()
    found.sort(key=lambda row: (-row.score, row.id))
    return [row.build_id for row in found[:limit]]


def _waits_for(kind: Kind) -> tuple[ColumnElement[bool], ...]:
    """The condition that a queue row is of this kind, and has no builder: one range of one index."""
    queue = build_queue.c
    same = (queue.architecture == kind.architecture, queue.virtualised == kind.virtualised, queue.tags == kind.tags)
    return (*same, queue.builder_id.is_(None))


def _fitting(connection: Connection, vitals: Vitals) -> list[Kind]:
    """The kinds that wait and that a builder may have. They are found by leaps through the index, from each set of tags
    to the next: DISTINCT would read all of a queue that has few."""
    queue = build_queue.c
    here = (queue.architecture == vitals.architecture, queue.virtualised == vitals.virtualised)
    next_tags = select(func.min(queue.tags)).where(*here, queue.builder_id.is_(None))
    tags = connection.execute(next_tags).scalar()
    kinds = []
    while tags is not None:
        kinds.append(Kind(vitals.architecture, vitals.virtualised, tags))
        tags = connection.execute(next_tags.where(queue.tags > tags)).scalar()
    return [kind for kind in kinds if kind.fits(vitals)]


def _taken_by_others(connection: Connection, vitals: Vitals, kinds: list[Kind]) -> frozenset[Kind]:
    """Those of the kinds that another builder could take at once, where that matters: this one has lost something."""
    lost = exists().where(build_queue.c.lost_by_id == vitals.id, build_queue.c.builder_id.is_(None))
    if not connection.execute(select(lost)).scalar():
        return frozenset()
    other = builder.alias("other")
    job = build_queue.alias("job")
    others = select(other.c.architecture, other.c.virtualised, other.c.tags, other.c.restricted_tags).where(
        other.c.id != vitals.id,
        other.c.architecture == vitals.architecture,
        other.c.virtualised == vitals.virtualised,
        other.c.enabled,
        ~other.c.manual,
        other.c.cleanliness == Cleanliness.CLEAN,
        other.c.failures == 0,
        other.c.trouble == "",
        ~exists().where(job.c.builder_id == other.c.id),
    )
    offers = connection.execute(others.distinct()).all()
    return frozenset(
        kind for kind in kinds if any(can_take(kind.tags, offer.tags, offer.restricted_tags) for offer in offers)
    )


def waiting(connection: Connection) -> dict[Kind, tuple[int, ...]]:
    """The kinds that something in the queue is of and waits.

    :returns: with each, figures that are others when something was queued, once or again.
    """
    queue = build_queue.c
    figures = (func.count(), func.max(queue.id), func.sum(queue.attempts))
    columns = (queue.architecture, queue.virtualised, queue.tags)
    rows = connection.execute(select(*columns, *figures).where(queue.builder_id.is_(None)).group_by(*columns))
    return {Kind(*row[:3]): tuple(row[3:]) for row in rows}


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
