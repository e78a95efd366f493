"""The queue, asked: what a builder could be given, what waits, and how a queued build has fared so far."""

from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Select,
    String,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    update,
)

from buildmaster.builders import Cleanliness, Vitals
from buildmaster.shares import LONGEST_PAUSE_S, NOBODY, Lane, Range, in_order, waits
from buildmaster.tables import build_queue, builder
from buildmaster.tags import can_take

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


def candidates(connection: Connection, vitals: Vitals, now: float, limit: int, *, unlooked: bool = True) -> list[int]:
    """The builds that a builder could be given now, the most urgent first.

    A build that was lost by this builder is left to others, while there is another that could take it at once,
    answers, and has not failed since it last did well.

    :param unlooked: also those whose build-dependencies nobody has looked at; see depwaits.py.
    """
    kinds = _fitting(connection, vitals)
    others_take = _taken_by_others(connection, vitals, kinds)

    ranges = tuple(Range(kind.tags, vitals.id if kind in others_take else NOBODY) for kind in kinds)
    lane = Lane(vitals.architecture, vitals.virtualised, ranges, now, unlooked)
    return [each.build_id for each in islice(in_order(connection, lane, limit), limit)]


def _fitting(connection: Connection, vitals: Vitals) -> list[Kind]:
    """The kinds that wait and that a builder may have."""
    kinds = kinds_waiting(connection, vitals.architecture, vitals.virtualised)
    return [kind for kind in kinds if kind.fits(vitals)]


def kinds_waiting(connection: Connection, architecture: str, virtualised: bool) -> list[Kind]:
    """The kinds that wait for such builders."""
    here = {"architecture": architecture, "virtualised": virtualised}
    return [Kind(architecture, virtualised, tags) for tags in connection.execute(_TAGS, here).scalars()]


def _taken_by_others(connection: Connection, vitals: Vitals, kinds: list[Kind]) -> frozenset[Kind]:
    """Those of the kinds that another builder could take at once, where that matters: this one has lost something."""
    if not connection.execute(_HAS_LOST, {"this": vitals.id}).scalar():
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


def waiting(connection: Connection) -> dict[Kind, float]:
    """The kinds that something in the queue is of and waits. As quick for a long queue as for a short one.

    :returns: with each, a figure that is another when something was queued, once or again.
    """
    found = {}
    architecture = connection.execute(_FIRST_ARCHITECTURE).scalar()
    while architecture is not None:
        for virtualised in (False, True):
            for kind in kinds_waiting(connection, architecture, virtualised):
                found[kind] = connection.execute(_NEWEST, kind._asdict()).scalar() or 0.0
        architecture = connection.execute(_NEXT_ARCHITECTURE, {"architecture": architecture}).scalar()
    return found


def _tags() -> Select[Any]:
    """The tags of what waits for a kind of builders, found by leaps through the index, from each set of tags to the
    next: DISTINCT would read all of a queue that has few."""

    def first(columns: Any) -> Select[Any]:
        return select(columns.tags).where(*_place(columns)).order_by(columns.tags).limit(1)

    start, further = build_queue.alias("start"), build_queue.alias("further")
    found = select(first(start.c).scalar_subquery().label("tags")).cte("found", recursive=True)
    following = first(further.c).where(further.c.tags > found.c.tags).correlate(found)
    found = found.union_all(select(following.scalar_subquery()).where(found.c.tags.is_not(None)))
    return select(found.c.tags).where(found.c.tags.is_not(None))


def _place(columns: Any) -> tuple[ColumnElement[bool], ...]:
    """Waits for this kind of builder."""
    architecture, virtualised = bindparam("architecture", type_=String), bindparam("virtualised", type_=Boolean)
    return columns.architecture == architecture, columns.virtualised == virtualised, waits(columns)


_Q = build_queue.c
_TAGS = _tags()
# Not min() and max(): PostgreSQL, as long as it has no statistics, would read the whole queue for these.
_FIRST_ARCHITECTURE = select(_Q.architecture).where(waits(_Q)).order_by(_Q.architecture).limit(1)
_NEXT_ARCHITECTURE = _FIRST_ARCHITECTURE.where(_Q.architecture > bindparam("architecture"))
_ENTERED = _Q.entered_at >= literal_column("0")  # As the index has it that is for this.
_OF_A_KIND = (*_place(_Q), _Q.tags == bindparam("tags"), _ENTERED)
_NEWEST = select(_Q.entered_at).where(*_OF_A_KIND).order_by(_Q.entered_at.desc()).limit(1)
# In a function, so that SQLite does not take the index of builder_id, which has all that waits in one place.
_NO_BUILDER = func.coalesce(_Q.builder_id, NOBODY) == NOBODY
_HAS_LOST = select(exists().where(_Q.lost_by_id == bindparam("this"), _NO_BUILDER))


def lost_by(connection: Connection, build_id: int) -> int | None:
    """The last builder that lost a build since it was queued."""
    query = select(build_queue.c.lost_by_id).where(build_queue.c.build_id == build_id)
    return connection.execute(query).scalar()


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
