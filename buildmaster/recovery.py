"""What follows when a builder fails: blame.py judges, this carries the verdict out, in one transaction."""

from dataclasses import dataclass

from sqlalchemy import Connection
from twisted.logger import Logger

from buildd.protocol import Cause
from buildmaster import blame, builders, builds, entries, queue
from buildmaster.blame import BuilderVerdict, JobVerdict, Verdict
from buildmaster.builders import Cleanliness
from buildmaster.lifecycle import BuildState, Event
from buildmaster.store import StoredFile

PAUSE_S = 10.0  # Before a build is begun again that was lost by a failure; five of these, and the builder is out.


@dataclass(frozen=True)
class Outcome:
    """What a failure led to."""

    verdict: Verdict
    builder_failures: int
    build_id: int | None  # The build that the builder had.
    title: str
    job_failures: int
    state: BuildState | None  # Of the build, now.


def punish(
    connection: Connection,
    builder_id: int,
    reason: str,
    now: float,
    *,
    may_retry: bool,
    isolation_error: bool = False,
    log: StoredFile | None = None,
) -> Outcome:
    """Count a failure against a builder and the build that it has, judge it, and do what the verdict says.

    :param reason: what failed, in words; kept with a builder that is taken out of service and with a build.
    :param may_retry: the build may still run there, so that looking again could help.
    :param log: the build's, gzipped, as far as it has come.
    """
    job = builders.job_of(connection, builder_id)
    builder_failures = builders.count_failure(connection, builder_id)
    job_failures = 0 if job is None else _count_against_job(connection, job, builder_id)
    verdict = blame.judge(builder_failures, job_failures, may_retry=may_retry, isolation_error=isolation_error)
    if job is not None:
        verdict = _with_losses(connection, verdict, builder_id, job)
    _apply_to_builder(connection, builder_id, verdict.builder, reason)
    state = None if job is None else _apply_to_job(connection, job, verdict.job, reason, now)
    if job is not None and log is not None:
        builds.keep_log(connection, job.build_id, builds.log_of(connection, job.build_id, log), now)
    build_id, title = (None, "") if job is None else (job.build_id, job.title)
    return Outcome(verdict, builder_failures, build_id, title, job_failures, state)


def punish_builder(
    connection: Connection,
    builder_id: int,
    job: builders.Job,
    reason: str,
    now: float,
    *,
    log: StoredFile | None,
    cause: Cause | None = None,
    error: str = "",
) -> Outcome:
    """Count a failure against a builder that says itself that it has failed, and requeue the build that it has, unless
    too many builders have said so of it. One that has done nothing well since it said so tells nothing new.

    :param reason: what failed, in words; kept with a builder that is taken out of service and with the build.
    :param log: the build's log, gzipped; None: the builder has none.
    :param cause: see builds.record(), as is
    :param error: this.
    """
    failures = builders.count_failure(connection, builder_id)
    breakdowns = queue.breakdowns(connection, job.build_id)
    if failures == 1 or builder_id not in breakdowns:
        breakdowns = queue.count_breakdown(connection, job.build_id, builder_id)
    verdict = _with_losses(connection, blame.judge_builder(failures, len(breakdowns)), builder_id, job)
    _apply_to_builder(connection, builder_id, verdict.builder, reason)
    if verdict.job is JobVerdict.FAIL:
        event, pause_s, why = Event.CONDEMNED, 0.0, f"builders have failed with it {len(breakdowns)} times: {reason}"
    else:
        event, pause_s, why = Event.REQUEUED, queue.pause_s(entries.standing(connection, job.build_id).attempts), reason
    state = builds.record(connection, job.build_id, event, now, reason=why, cause=cause, error=error, pause_s=pause_s)
    if log is not None:
        builds.keep_log(connection, job.build_id, builds.log_of(connection, job.build_id, log), now)
    return Outcome(verdict, failures, job.build_id, job.title, job.failures, state)


def requeue_forgotten(
    connection: Connection, builder_id: int, job: builders.Job, reason: str, now: float
) -> Outcome | None:
    """Requeue the build that a builder has and does not know: at once, and nobody is to blame. None: so it was.

    Once may be an accident: a machine was switched off and on. A builder that forgets the same build twice in a row has
    failed; one that forgets one after the other is taken out of service.
    """
    if queue.lost_by(connection, job.build_id) == builder_id:
        return punish(connection, builder_id, reason, now, may_retry=False)
    verdict = Verdict(BuilderVerdict.NOTHING, JobVerdict.REQUEUE)
    verdict = _with_losses(connection, verdict, builder_id, job)
    _apply_to_builder(connection, builder_id, verdict.builder, reason)
    state = builds.record(connection, job.build_id, Event.REQUEUED, now, reason=reason)
    if verdict.builder is BuilderVerdict.NOTHING:
        return None
    return Outcome(verdict, 0, job.build_id, job.title, job.failures, state)


def _with_losses(connection: Connection, verdict: Verdict, builder_id: int, job: builders.Job) -> Verdict:
    """Count a build that a verdict takes from a builder, unless somebody cancels it, or that tells nothing new; and the
    verdict when that is weighed."""
    if verdict.job is not JobVerdict.REQUEUE or builds.state(connection, job.build_id) is BuildState.CANCELLING:
        return verdict
    if _is_known(connection, job, builder_id):
        return verdict
    return blame.weigh_losses(verdict, builders.count_loss(connection, builder_id))


def _count_against_job(connection: Connection, job: builders.Job, builder_id: int) -> int:
    """Count a failure against a build, unless it tells nothing new. Returns the count."""
    if _is_known(connection, job, builder_id):
        return job.failures
    return builds.count_failure(connection, job.build_id)


def _is_known(connection: Connection, job: builders.Job, builder_id: int) -> bool:
    """Whether it tells nothing of a build that this builder loses it: it was the last to lose it too, and has ended
    none properly since. A broken builder that is the only one gets the same build again and again."""
    return queue.lost_by(connection, job.build_id) == builder_id and builders.has_lost(connection, builder_id)


def _apply_to_builder(connection: Connection, builder_id: int, verdict: BuilderVerdict, reason: str) -> None:
    match verdict:
        case BuilderVerdict.CLEAN:
            builders.set_cleanliness(connection, builder_id, Cleanliness.DIRTY)
        case BuilderVerdict.FORGIVE:
            builders.forgive(connection, builder_id)
        case BuilderVerdict.DISABLE:
            builders.fail(connection, builder_id, reason)
        case BuilderVerdict.NOTHING:
            pass


def _apply_to_job(
    connection: Connection, job: builders.Job, verdict: JobVerdict, reason: str, now: float
) -> BuildState:
    match verdict:
        case JobVerdict.REQUEUE:
            return builds.record(connection, job.build_id, Event.REQUEUED, now, reason=reason, pause_s=PAUSE_S)
        case JobVerdict.FAIL:
            return builds.record(connection, job.build_id, Event.CONDEMNED, now, reason=reason)
        case JobVerdict.NOTHING:
            return job.state


def tell(log: Logger, reason: str, outcome: Outcome) -> None:
    """Log what a failure led to."""
    log.warn(
        "failed: {reason}; failure {failures} in a row, verdict on the builder: {builder}; on build {build}: {job}",
        reason=reason,
        failures=outcome.builder_failures,
        builder=outcome.verdict.builder,
        build=outcome.build_id,
        job=outcome.verdict.job,
    )
    if outcome.verdict.builder is BuilderVerdict.DISABLE:
        log.error("taken out of service: {reason}", reason=reason)
