"""The scan of one builder: what the database says of it is compared with what it says, and one step is taken.

Level-triggered: no conversation is kept in memory, so it does not matter at which line an earlier master ended, and a
restart needs no path of its own. What is kept between scans (errors in a row, the pace) may be forgotten.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection
from twisted.logger import Logger

from buildd.protocol import BuilderStatus, BuildStatus
from buildmaster import blame, builders, builds, recovery
from buildmaster.blame import Trouble
from buildmaster.builder_answers import BadAnswer, Status
from buildmaster.builder_client import BuilderClient, CutShort, TooSlow
from buildmaster.builder_http import BuilderError, BuilderSilent, BuilderUnreachable
from buildmaster.builders import Cleanliness, Job, Vitals
from buildmaster.dispatch import Dispatcher, DispatchFailed
from buildmaster.farm import Farm
from buildmaster.gathering import Gatherer
from buildmaster.leases import Tenure
from buildmaster.lifecycle import BuildState, Event
from buildmaster.pacing import Progress, Watch
from buildmaster.resetting import ResetFailed, Resetter
from buildmaster.running_log import RunningLogs
from buildmaster.sending_ahead import SendingAhead
from buildmaster.snapshot import Snapshot


class IsolationError(BuilderError):
    """A builder does what the database says it cannot: something of another build may be in it."""


class NeverClean(BuilderError):
    """A builder without a build does not become idle, however long it is told to."""


_INHERITED_S = 600.0  # After so long, nothing that an earlier master sent arrives any more.
_CLEAN_AT_ONCE = 3  # So often clean() is called without a pause; an honest builder is idle after the first.


@dataclass(frozen=True)
class Work:
    """What every scan works with."""

    farm: Farm
    snapshot: Snapshot
    tenure: Tenure
    dispatcher: Dispatcher
    ahead: SendingAhead
    gatherer: Gatherer
    logs: RunningLogs
    resetter: Resetter
    client: Callable[[str], BuilderClient]  # By URL.
    now: Callable[[], float]  # Unix time.
    cancel_timeout_s: float
    build_timeout_s: float  # For how long a builder may have a build, unless its archive says otherwise.
    clock: Callable[[], float] = time.monotonic  # Seconds; nobody can set it.


class Scanner:
    """Scans one builder."""

    def __init__(self, builder_id: int, work: Work, log: Logger, *, inherited: bool = False) -> None:
        """:param inherited: of a master that fell silent: something that it sent may still be under way."""
        self.id = builder_id
        self.log = log
        self.vitals: Vitals | None = None  # As the last scan saw it.
        self.status: Status | None = None  # Likewise.
        self.quiet = 0  # Scans in a row that found nothing new.
        self._work = work
        self._client: BuilderClient | None = None
        self._errors = 0  # In a row.
        self._known: Status | None = None  # What the builder says, if the last step leaves no doubt of that.
        self._cancelling = Watch()  # Of the build that is to be stopped: for how long we try.
        self._building = Watch()  # Of the build that the builder has.
        self._cleaning_since: float | None = None  # When we began to make it clean.
        self._cleanings = 0  # Calls of clean() in a row.
        self._inherited_until = work.clock() + _INHERITED_S if inherited else 0.0  # By the work's clock.
        self._had_it = False  # The builder had its build, as far as we saw. If not, a master may have died before.
        self._log_tail = b""
        self._log_troubles = False

    async def scan(self, heard: Status | None = None) -> Progress:
        """Take one step.

        :param heard: what the builder has just said of itself, if it did.
        """
        heard, self._known = heard or self._known, None
        vitals = self.vitals = await self._work.snapshot.vitals(self.id)
        if vitals is None:
            return Progress.IDLE
        self.client(vitals).go_on()
        try:
            progress = await self._step(vitals, self.client(vitals), heard)
        except CutShort:
            progress = Progress.CHANGED  # By whoever cut it; see overtake().
        except BuilderError as error:
            progress = await self._failed(vitals, self.client(vitals), error)
        else:
            self._errors = 0
            if vitals.trouble and not self.client(vitals).unheard.tries:
                await self._went_well(vitals)
        self.vitals = self._work.snapshot.builders.get(self.id)
        if _is_unwanted(self.vitals) and not _is_unwanted(vitals):
            progress = Progress.CHANGED  # That is not to wait for the next look.
        self.quiet = 0 if progress is Progress.CHANGED else self.quiet + 1
        return progress

    def overtake(self, now: Vitals | None) -> None:
        """Hear what has become of the builder while a scan goes on. A transfer that nobody wants any more ends: it may
        take minutes, and whoever cancels a build or takes a builder out of service has not so long."""
        then = self.vitals
        if then is None or self._client is None:
            return
        if _is_unwanted(now) and not _is_unwanted(then):
            self._client.cut()

    def client(self, vitals: Vitals) -> BuilderClient:
        """The client for a builder, which is kept as long as its URL."""
        if self._client is None or self._client.url != vitals.url:
            self._client = self._work.client(vitals.url)
        return self._client

    async def _step(self, vitals: Vitals, client: BuilderClient, heard: Status | None) -> Progress:
        if vitals.job is not None:
            return await self._step_with_job(vitals, vitals.job, client, heard)
        if not vitals.enabled or vitals.cleanliness is Cleanliness.CLEANING:
            self._cleaned()
            if vitals.enabled:
                self._work.resetter.check_time(vitals, self._work.now())
            return Progress.IDLE
        if vitals.cleanliness is Cleanliness.DIRTY and self._work.resetter.is_for(vitals):
            return await self._reset(vitals, client)
        self.status = status = heard or await client.status()
        if vitals.cleanliness is Cleanliness.CLEAN:
            return await self._step_when_clean(vitals, client, status)
        return await self._clean(vitals, client, status)

    # With a build

    async def _step_with_job(self, vitals: Vitals, job: Job, client: BuilderClient, heard: Status | None) -> Progress:
        if vitals.cleanliness is not Cleanliness.DIRTY:
            raise IsolationError(f"it has {job.title}, and is not marked dirty")
        self._cleaned()
        if job.state is BuildState.CANCELLING and self._was_long_enough(job):
            return await self._give_up_cancelling(vitals, job)
        self.status = status = None if not vitals.enabled else heard or await client.status()
        if status is None or status.build_id != job.cookie:
            return await self._forgotten(vitals, job)
        self._had_it = True
        if job.state is BuildState.GATHERING and status.build_status is not BuildStatus.OK:
            raise BadAnswer(f"it said that {job.title} is built, and now says {status.builder_status}")
        if status.builder_status is BuilderStatus.WAITING:
            await self._work.gatherer.finish(vitals, job, status, client, self.log)
            self._known = status
            return Progress.CHANGED
        if self._is_endless(job):
            return await self._take_away(vitals, job, client)
        return await self._go_on(job, status, client)

    async def _go_on(self, job: Job, status: Status, client: BuilderClient) -> Progress:
        """The builder has not come to an end with its build."""
        match status.builder_status:
            case BuilderStatus.BUILDING if job.state is BuildState.CANCELLING:
                await client.abort()
                self.log.info("build {build}: told it to stop {title}", title=job.title, build=job.build_id)
                return Progress.STOPPING
            case BuilderStatus.BUILDING:
                return await self._running(job, status, client)
            case _:
                return Progress.STOPPING

    def _was_long_enough(self, job: Job) -> bool:
        """Whether we have tried for long enough to stop a build. Commands cancel builds also while no master runs:
        what counts is not when that was, but when this scanner first set out to tell the builder."""
        attempt = (job.build_id, job.started_at)
        return self._cancelling.elapsed_s(attempt, self._work.clock()) > self._work.cancel_timeout_s

    def _is_endless(self, job: Job) -> bool:
        """Whether the builder has had its build for longer than any may take."""
        before_s = self._work.now() - job.started_at
        had_s = self._building.elapsed_s((job.build_id, job.started_at), self._work.clock(), before_s)
        return job.state is BuildState.BUILDING and had_s > self._limit_s(job)

    def _limit_s(self, job: Job) -> float:
        return job.limit_s or self._work.build_timeout_s

    async def _take_away(self, vitals: Vitals, job: Job, client: BuilderClient) -> Progress:
        """The builder never comes to an end with its build: it is another's, or has failed; blame.py says which."""
        reason = f"{vitals.name} had it for longer than {self._limit_s(job) / 3600:.3g} h"
        outcome = await self._work.gatherer.take_away(vitals, job, reason, client)
        recovery.tell(self.log, reason, outcome)
        return Progress.CHANGED

    async def _running(self, job: Job, status: Status, client: BuilderClient) -> Progress:
        if status.stage != job.stage:
            await self._work.tenure.transact(self.id, builds.set_stage, job.build_id, status.stage)
            self.quiet = -1
        if status.log_tail != self._log_tail or not status.log_tail:
            self._log_tail = status.log_tail
            await self._follow_log(job, client)
        return Progress.RUNNING

    async def _follow_log(self, job: Job, client: BuilderClient) -> None:
        """Fetch what is new of the log. That this fails is no failure of the build: its status is still known."""
        try:
            if await self._work.logs.follow(job.build_id, client):
                self.quiet = -1
            self._log_troubles = False
        except BuilderError as error:
            if not self._log_troubles:
                self.log.warn("build {build}: cannot follow its log: {error}", error=error, build=job.build_id)
            self._log_troubles = True

    async def _forgotten(self, vitals: Vitals, job: Job) -> Progress:
        """The builder is out of service, or does not know its build: back into the queue."""
        now, outcome = self._work.now(), None
        why = "forgot the build: was its daemon started anew?" if vitals.enabled else "was taken out of service"
        reason = f"{vitals.name} {why}"
        if vitals.enabled and self._had_it:
            forgotten = recovery.requeue_forgotten
            outcome = await self._work.tenure.transact(vitals.id, forgotten, vitals.id, job, reason, now)
        else:
            await self._work.tenure.transact(vitals.id, builds.record, job.build_id, Event.REQUEUED, now, reason=reason)
        self.log.warn(  # The words of Launchpad's master: programs look for them in its log.
            "Builder {url} forgot about build {title} -- resetting buildqueue record",
            url=vitals.url, title=job.title, build=job.build_id,
        )  # fmt: skip
        self.log.info("build {build}: no longer on this builder: {reason}", build=job.build_id, reason=reason)
        if outcome is not None:
            recovery.tell(self.log, reason, outcome)
        return Progress.CHANGED

    async def _give_up_cancelling(self, vitals: Vitals, job: Job) -> Progress:
        now, reason = self._work.now(), f"it did not stop {job.title} in time"

        def give_up(connection: Connection) -> None:
            builds.record(connection, job.build_id, Event.CANCEL_TIMED_OUT, now, reason="cancelled; it did not stop")
            recovery.punish(connection, vitals.id, reason, now, may_retry=False)

        await self._work.tenure.transact(vitals.id, give_up)
        self.log.warn("build {build}: {title} did not stop in time", title=job.title, build=job.build_id)
        return Progress.CHANGED

    # Without a build

    async def _step_when_clean(self, vitals: Vitals, client: BuilderClient, status: Status) -> Progress:
        if status.builder_status is not BuilderStatus.IDLE:
            if self._work.clock() < self._inherited_until:
                return await self._clean_again(vitals, status)
            raise IsolationError(f"it is marked clean, and says {status.builder_status}")
        if status.version and status.version != vitals.version:
            await self._work.tenure.transact(
                vitals.id, builders.set_cleanliness, vitals.id, Cleanliness.CLEAN, version=status.version
            )
        if vitals.given is None and (vitals.manual or not self._work.snapshot.may_have_work(vitals)):
            return Progress.IDLE
        return await self._dispatch(vitals, client, status)

    async def _dispatch(self, vitals: Vitals, client: BuilderClient, status: Status) -> Progress:
        """Give an idle builder its next build, if there is one for it."""
        self._had_it = False
        progress = await self._work.dispatcher.dispatch(vitals, client, self.log, status.version)
        if progress is Progress.RUNNING:
            now = self._work.snapshot.builders.get(self.id)
            cookie = None if now is None or now.job is None else now.job.cookie
            self.status = Status(BuilderStatus.BUILDING, status.version, cookie)
            self._had_it = True
            self.quiet = -1
        return progress

    async def _reset(self, vitals: Vitals, client: BuilderClient) -> Progress:
        """Make a virtualised builder clean, without a question of what it does."""
        client.allowed()
        await self._work.tenure.transact(vitals.id, builders.begin_reset, vitals.id, self._work.now())
        cleanliness = await self._work.resetter.reset(vitals, client, self.log)
        await self._work.tenure.transact(vitals.id, builders.was_reset, vitals.id, cleanliness, self._work.now())
        return Progress.CHANGED

    async def _clean_again(self, vitals: Vitals, status: Status) -> Progress:
        """What the master sent that had it before, and hung or died, has arrived only now: nobody is to blame."""
        await self._work.tenure.transact(vitals.id, builders.set_cleanliness, vitals.id, Cleanliness.DIRTY)
        self.log.warn("marked clean, and says {status}: cleaned once more", status=status.builder_status)
        return Progress.CHANGED

    async def _clean(self, vitals: Vitals, client: BuilderClient, status: Status) -> Progress:
        """One step of making a builder clean."""
        now = self._work.clock()
        if status.builder_status is BuilderStatus.IDLE:
            self._cleaned()
        elif self._cleaning_since is None:
            self._cleaning_since = now
        elif now - self._cleaning_since > self._work.cancel_timeout_s:
            self._cleaned()
            raise NeverClean(f"it does not become idle, and says {status.builder_status}")
        match status.builder_status:
            case BuilderStatus.IDLE:
                return await self._dispatch(vitals, client, status)
            case BuilderStatus.WAITING:
                if await client.clean():
                    self._known = Status(BuilderStatus.IDLE, status.version)
                self._cleanings += 1
                if self._cleanings > _CLEAN_AT_ONCE:
                    return Progress.STOPPING
            case BuilderStatus.BUILDING:
                await client.abort()
                self.log.info("told it to stop {build_id}, which is not its build", build_id=status.build_id)
                return Progress.STOPPING
            case BuilderStatus.ABORTING:
                return Progress.STOPPING
        return Progress.CHANGED

    def _cleaned(self) -> None:
        self._cleaning_since, self._cleanings = None, 0

    # When it fails

    async def _failed(self, vitals: Vitals, client: BuilderClient, error: BuilderError) -> Progress:
        """Count a failed scan; when that makes a failure, or it is of the kind that is one at once, judge."""
        self._errors += 1
        at_once = isinstance(error, IsolationError | DispatchFailed | NeverClean | ResetFailed | TooSlow)
        job, trouble, unheard = vitals.job and vitals.job.build_id, _trouble(error), client.unheard
        lost = job is not None and blame.is_lost(trouble, unheard, client.timeouts.patience)
        if not (at_once or blame.is_failure(trouble, self._errors, has_job=job is not None, lost=lost)):
            if str(error) != vitals.trouble:  # Said once; `builders` shows it as long as it lasts.
                self.log.warn("scan failed (build {build}): {error}", error=error, build=job)
                await self._remember(vitals, error)
            return Progress.FAILED
        self._errors = 0
        reason = f"{vitals.name} was not heard of for {unheard.seconds:.0f} s: {error}" if lost else str(error)
        outcome = await self._work.tenure.transact(
            vitals.id,
            recovery.punish,
            vitals.id,
            reason,
            self._work.now(),
            may_retry=not (at_once or lost),
            isolation_error=isinstance(error, IsolationError),
        )
        recovery.tell(self.log, reason, outcome)
        if str(error) != vitals.trouble:
            await self._remember(vitals, error)
        return Progress.FAILED

    async def _remember(self, vitals: Vitals, error: BuilderError) -> None:
        await self._work.tenure.transact(vitals.id, builders.set_trouble, vitals.id, str(error), self._work.now())

    async def _went_well(self, vitals: Vitals) -> None:
        await self._work.tenure.transact(vitals.id, builders.set_trouble, vitals.id, "", self._work.now())
        self.log.info("scans go well again, which failed with: {trouble}", trouble=vitals.trouble)


def _is_unwanted(vitals: Vitals | None) -> bool:
    """Whether what goes on with a builder is to end: it is gone or disabled, or its build is to be cancelled."""
    if vitals is None or not vitals.enabled:
        return True
    return vitals.job is not None and vitals.job.state is BuildState.CANCELLING


def _trouble(error: BuilderError) -> Trouble:
    match error:
        case BuilderSilent():
            return Trouble.SILENT
        case BuilderUnreachable():
            return Trouble.GONE
        case _:
            return Trouble.WRONG
