"""Builds and their queue, as queries: add, claim, record what happened, cancel, retry.

:func:`record` is the one place where a build's state changes. It keeps the queue in step: a build that is queued or
active has a row in build_queue, one that ended has none; an active one has a builder there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, FromClause, Row, Select, and_, bindparam, delete, select, update

from buildd.protocol import BuildId, Cause, FileName
from buildmaster import chroots, entries, files, notifications, retention, shares
from buildmaster.lifecycle import ACTIVE, ENDED, PENDING, BuildState, Event, ImpossibleTransition, after
from buildmaster.scoring import Pocket
from buildmaster.store import StoredFile
from buildmaster.tables import (
    archive,
    build,
    build_file,
    build_queue,
    distribution,
    repository,
    series,
    series_architecture,
    source,
)
from buildmaster.wishes import NONE, Wishes

if TYPE_CHECKING:
    AnyRow: TypeAlias = Row[*tuple[Any, ...]]  # SQLAlchemy 2.0 has one parameter here, 2.1 one for each column.
else:
    AnyRow = Row


class NoSuchBuild(LookupError):
    """There is no build of this number."""

    def __init__(self, build_id: int) -> None:
        super().__init__(f"there is no build {build_id}")
        self.build_id = build_id


class ChangedMeanwhile(Exception):
    """Somebody else changed a build's state since it was read; the transaction is to be rolled back."""


@dataclass(frozen=True)
class Log:
    """A build's log in the store, gzipped."""

    file: StoredFile
    name: str


@dataclass(frozen=True)
class Repetition:
    """What a build repeats, and how."""

    build_id: int
    chroot: str  # The SHA-256 of the chroot to do it in, as long as the store has it; "": that of today.
    score: int


def described(tables: FromClause, *, outer: bool = False) -> FromClause:
    """These, of which one is that of builds, with what is said of a build. (That of the queue is joined from its own
    side: an ended build has no row there.)

    :param outer: a row need not have a build. One after the other: what is joined as a whole, SQLite reads as a whole.
    """
    for table, same in (
        (source, source.c.id == build.c.source_id),
        (archive, archive.c.id == source.c.archive_id),
        (series_architecture, series_architecture.c.id == build.c.series_architecture_id),
        (series, series.c.id == series_architecture.c.series_id),
        (distribution, distribution.c.id == series.c.distribution_id),
    ):
        tables = tables.join(table, same, isouter=outer)
    return tables


DESCRIBED = described(build)
DESCRIPTION = (
    source.c.name.label("source_name"),
    source.c.version.label("source_version"),
    source.c.pocket,
    series_architecture.c.architecture.label("architecture"),
    series.c.name.label("series_name"),
    distribution.c.name.label("distribution_name"),
)


def cookie(build_id: int) -> BuildId:
    """What a build is called on the wire."""
    return BuildId(f"PACKAGEBUILD-{build_id}")


def title_of(row: AnyRow) -> str:
    """What the build of a row with DESCRIPTION is called in messages."""
    return (
        f"{row.architecture} build of {row.source_name} {row.source_version} "
        f"in {row.distribution_name} {row.series_name} {row.pocket}"
    )


def log_name(row: AnyRow, state: BuildState) -> str:
    """The name of the log, when a build of a row with DESCRIPTION ended so."""
    place = f"{row.distribution_name}-{row.series_name}-{row.architecture}"
    return f"buildlog_{place}.{row.source_name}_{row.source_version}_{state.name}.txt.gz"


def find(connection: Connection, build_id: int) -> AnyRow:
    """A build's row, with DESCRIPTION, and as `published_in` its archive where that is one that we publish.

    :raises NoSuchBuild: there is none.
    """
    return _row(connection, _FIND, build_id)


def held(connection: Connection, build_id: int) -> AnyRow:
    """find(), after hold()."""
    return _row(connection, _HELD, build_id)


def _row(connection: Connection, query: Select[Any], build_id: int) -> AnyRow:
    row = connection.execute(query, {"this": build_id}).first()
    if row is None:
        raise NoSuchBuild(build_id)
    return row


def state(connection: Connection, build_id: int) -> BuildState:
    """A build's state.

    :raises NoSuchBuild: there is none.
    """
    return BuildState(find(connection, build_id).state)


def add(
    connection: Connection,
    source_id: int,
    series_architecture_id: int,
    now: float,
    *,
    arch_indep: bool = False,
    needs: str = "",
    wishes: Wishes = NONE,
    repeats: "Repetition | None" = None,
) -> int:
    """Add a build of a source and put it into the queue; where there is no chroot it is CHROOT_WAIT. Returns its id.

    :param needs: the resource tags that it needs of a builder, beside those that its archive's builds do.
    :param wishes: how it is to be done.
    :param repeats: it is to repeat another build, and to leave no other trace.
    :raises TagsRefused: they are too many together.
    """
    values: dict[str, object] = {"source_id": source_id, "series_architecture_id": series_architecture_id}
    values |= {
        "arch_indep": arch_indep,
        "tags": needs,
        "wishes": wishes.to_text(),
        "state": BuildState.NEEDS_BUILD,
        "created_at": now,
    }
    if repeats is not None:
        values |= {"reproduces_id": repeats.build_id, "chroot_sha256": repeats.chroot, "manual_score": repeats.score}
    build_id = int(connection.execute(_ADD, values).scalar_one())
    entries.add(connection, build_id, now)
    wait_for_chroot(connection, build_id, now)
    return build_id


def record(
    connection: Connection,
    build_id: int,
    event: Event,
    now: float,
    *,
    reason: str = "",
    dependencies: str = "",
    cause: Cause | None = None,
    error: str = "",
    pause_s: float = 0.0,
    row: AnyRow | None = None,
) -> BuildState:
    """Let an event happen to a build, and keep the queue in step. Returns the state that it leads to.

    A build that a builder had, and would have to be built again though its source was superseded meanwhile, is
    SUPERSEDED instead.

    :param reason: why, in words; kept beside the new state. One that was being cancelled keeps what was said then,
        unless it could not be stopped.
    :param dependencies: for DEPENDENCIES_MISSING, what is missing.
    :param cause: for an attempt that failed, why, as far as its builder says;
    :param error: and the lines of its log that tell.
    :param pause_s: for an event that puts it back into the queue: how long it is not to be built.
    :param row: as held() has it, of whoever has asked for it in this transaction, and changed nothing since.
    :raises NoSuchBuild: there is none.
    :raises ImpossibleTransition: it cannot take this event now.
    :raises TagsRefused: it would go into the queue, and needs too many.
    :raises ChangedMeanwhile: somebody changed it at the same time; since it is locked, that can be nobody.
    """
    row = row or held(connection, build_id)
    old = BuildState(row.state)
    new = after(old, event)
    if old is BuildState.CANCELLING and event is not Event.CANCEL_TIMED_OUT:
        reason = row.reason
    values: dict[str, object] = {"state": new, "reason": reason, "dependencies": dependencies}
    values |= {"cause": cause or "", "error": error}
    values["finished_at"] = now if new in ENDED else None
    if connection.execute(_CHANGE_FROM, {"this": build_id, "old": old, **values}).rowcount != 1:
        raise ChangedMeanwhile(f"build {build_id} is no longer {old}")
    if old in ACTIVE and new not in ACTIVE:
        shares.settle(connection, build_id, now - row.started_at)
    # Asked while the row is ours: who supersedes its source looks at it before or after.
    unwanted = old in ACTIVE and new in PENDING and entries.standing(connection, build_id).superseded
    if old in ACTIVE and new in notifications.STATES and not unwanted and row.reproduces_id is None:
        notifications.write(connection, build_id, now)
    if new in ENDED:
        connection.execute(_LEAVE_QUEUE, {"this": build_id})
    elif new is BuildState.NEEDS_BUILD and old in ENDED:
        entries.add(connection, build_id, now)
    elif new is BuildState.NEEDS_BUILD:
        entries.put_back(connection, build_id, now, pause_s)
    elif new is BuildState.CANCELLING and old is not new:
        connection.execute(update(build_queue).where(build_queue.c.build_id == build_id).values(cancelled_at=now))
    if unwanted:
        return record(connection, build_id, Event.SUPERSEDE, now, reason="its source was superseded")
    return new


def hold(connection: Connection, build_ids: Iterable[int]) -> None:
    """Wait until nobody else changes these builds, and let nobody before this transaction ends (SQLite has one writer).

    What is read of them from now on is as the last writer left it. Who changes several holds all of them first, so that
    nobody waits for somebody who waits for him.
    """
    connection.execute(_HOLD, {"these": list(build_ids)})


def wait_for_chroot(connection: Connection, build_id: int, now: float) -> None:
    """Take a build out of the queue when there is no chroot for it, unless somebody else has, who was quicker."""
    row = find(connection, build_id)
    chroots.hold(connection, row.series_architecture_id)  # Or one that is set now would not release this build.
    if chroots.find(connection, row.series_architecture_id, Pocket(row.pocket)) is not None:
        return
    hold(connection, [build_id])
    if state(connection, build_id) is BuildState.NEEDS_BUILD:
        place = f"{row.distribution_name} {row.series_name} {row.architecture}"
        record(connection, build_id, Event.CHROOT_UNUSABLE, now, reason=f"there is no chroot for {place}")


def claim(
    connection: Connection, build_id: int, builder_id: int, now: float, *, chroot: str = "", version: str = ""
) -> bool:
    """Take a build out of the queue for a builder. False: somebody else was quicker, or it was cancelled.

    The builder is to be marked DIRTY in the same transaction.

    :param chroot: the SHA-256 of the chroot that it gets, and
    :param version: what its builder's daemon says of itself: neither can be told later on.
    """
    expected = entries.expected_s(connection, build_id)
    values: dict[str, object] = {"state": after(BuildState.NEEDS_BUILD, Event.CLAIMED), "builder_id": builder_id}
    values |= {"started_at": now, "expected_s": expected, "reason": "", "cause": "", "error": ""}
    values |= {"chroot_sha256": chroot, "builder_version": version}
    if connection.execute(_CHANGE_FROM, {"this": build_id, "old": BuildState.NEEDS_BUILD, **values}).rowcount != 1:
        return False
    shares.charge(connection, build_id, expected)
    connection.execute(_BEGIN_ATTEMPT, {"this": build_id, "builder_id": builder_id, "expected_s": expected})
    return True


def cancel(connection: Connection, build_id: int, now: float, reason: str = "cancelled by hand") -> BuildState:
    """Cancel a build: at once when no builder has it, else its builder is told to stop (CANCELLING).

    :raises NoSuchBuild: there is none.
    :raises ImpossibleTransition: it has ended.
    """
    return record(connection, build_id, Event.CANCEL, now, reason=reason)


def retry(connection: Connection, build_id: int, now: float) -> BuildState:
    """Put a build that ended badly into the queue again, its failures and what was refused of it forgotten.

    :returns: NEEDS_BUILD, or CHROOT_WAIT while there is no chroot.
    :raises NoSuchBuild: there is none.
    :raises ImpossibleTransition: it has not ended, or ended well.
    :raises SourceForgotten: there is nothing left to build it from.
    :raises TagsRefused: what it needs by now is too much.
    """
    row = find(connection, build_id)
    chroots.hold(connection, row.series_architecture_id)  # In the order in which others do.
    retention.hold_source(connection, row.source_id)
    record(connection, build_id, Event.RETRY, now)
    connection.execute(update(build).where(build.c.id == build_id).values(failures=0))
    connection.execute(delete(build_file).where(build_file.c.build_id == build_id))
    wait_for_chroot(connection, build_id, now)
    return state(connection, build_id)


def release_chroot_waits(
    connection: Connection, series_architecture_id: int, now: float, pockets: Iterable[Pocket]
) -> int:
    """Put what waited for a chroot into the queue again; called when there is a new one, for these pockets. Says how
    many."""
    waits = and_(build.c.series_architecture_id == series_architecture_id, build.c.state == BuildState.CHROOT_WAIT)
    joined = build.join(source, source.c.id == build.c.source_id)
    query = select(build.c.id).select_from(joined).where(waits, source.c.pocket.in_(list(pockets)))
    released = connection.execute(query.order_by(build.c.id)).scalars().all()
    return sum(_release(connection, build_id, now) for build_id in released)


def _release(connection: Connection, build_id: int, now: float) -> bool:
    """Put a build that waited into the queue again. False: somebody was quicker, and did something else with it."""
    try:
        record(connection, build_id, Event.RELEASED, now)
    except (ImpossibleTransition, ChangedMeanwhile):  # Not on SQLite, where writers wait.
        return False
    return True


def set_score(connection: Connection, build_id: int, points: int | None) -> None:
    """Give a build a score by hand, which it keeps whatever becomes of it; None: that of scoring.py again.

    :raises NoSuchBuild: there is none.
    """
    row = update(build).where(build.c.id == build_id)
    if not connection.execute(row.values(manual_score=points)).rowcount:
        raise NoSuchBuild(build_id)
    entries.set_score(connection, build_id, points)


def set_stage(connection: Connection, build_id: int, stage: str) -> None:
    """Remember the stage that a running build is at."""
    connection.execute(_CHANGE_QUEUED, {"this": build_id, "stage": stage})


def count_failure(connection: Connection, build_id: int) -> int:
    """Count one more failure in a row against a build, and say how many there are now."""
    row = update(build).where(build.c.id == build_id).values(failures=build.c.failures + 1)
    return int(connection.execute(row.returning(build.c.failures)).scalar_one())


def log_of(connection: Connection, build_id: int, file: StoredFile) -> Log:
    """A log, named by the state that the build is in now: an attempt that was given back has it as NEEDS_BUILD."""
    row = find(connection, build_id)
    return Log(file, log_name(row, BuildState(row.state)))


def keep_log(connection: Connection, build_id: int, log: Log, now: float) -> None:
    """Remember the log of an attempt that ended; it takes the place of an earlier one."""
    values = {"log_file_id": files.keep(connection, log.file, now), "log_name": log.name}
    connection.execute(_CHANGE, {"this": build_id, **values})


def keep_results(connection: Connection, build_id: int, results: Mapping[FileName, StoredFile], now: float) -> None:
    """Remember a build's results; they take the place of those of an earlier attempt."""
    connection.execute(_FORGET_RESULTS, {"this": build_id})
    kept = files.keep_all(connection, results, now)
    its = [{"build_id": build_id, "name": name, "stored_file_id": file_id} for name, file_id in kept.items()]
    if its:
        connection.execute(_KEEP_RESULT, its)


# Made once: to make a statement takes longer than to execute it.
_ADD = build.insert().returning(build.c.id)
_THIS = build.c.id == bindparam("this")
_PUBLISHED = DESCRIBED.outerjoin(repository, repository.c.archive_id == source.c.archive_id)
_FIND = select(build, *DESCRIPTION, repository.c.archive_id.label("published_in")).select_from(_PUBLISHED).where(_THIS)
_HELD = _FIND.with_for_update(of=build, key_share=True)
_HOLD = (
    select(build.c.id)
    .where(build.c.id.in_(bindparam("these", expanding=True)))
    .order_by(build.c.id)
    .with_for_update(key_share=True)
)
_CHANGE = update(build).where(_THIS)
_CHANGE_FROM = _CHANGE.where(build.c.state == bindparam("old"))
_QUEUED = build_queue.c.build_id == bindparam("this")
_CHANGE_QUEUED = update(build_queue).where(_QUEUED)
_BEGIN_ATTEMPT = _CHANGE_QUEUED.values(attempts=build_queue.c.attempts + 1)
_LEAVE_QUEUE = delete(build_queue).where(_QUEUED)
_FORGET_RESULTS = delete(build_file).where(build_file.c.build_id == bindparam("this"))
_KEEP_RESULT = build_file.insert()
