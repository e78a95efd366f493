"""What becomes of a build that has ended: its files and log fetched, its new state recorded.

That it is gathered is recorded while files are fetched already. Files go into the store first; then one transaction
writes their rows, the new state and the end of the queue row. If
the master dies before that commit, the builder still says WAITING and all is done again, to the same end; if it dies
after it, the builder has no build any more and is cleaned.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from buildd.protocol import BuildStatus, Cause, FileName, Sha1
from buildmaster import builders, builds, debs, entering, entries, holding, publications, queue, recovery, results
from buildmaster.at_once import together
from buildmaster.binaries import Deb
from buildmaster.builder_answers import BadAnswer, Status
from buildmaster.builder_client import BuilderClient
from buildmaster.builder_http import BuilderError
from buildmaster.builders import Job, Vitals
from buildmaster.builds import Log
from buildmaster.debs import BadDeb
from buildmaster.farm import Farm
from buildmaster.fetching import Fetcher, Room, TooLong
from buildmaster.leases import Tenure
from buildmaster.lifecycle import BuildState, Event
from buildmaster.pacing import Allowance
from buildmaster.ports import IMasterReactor
from buildmaster.recovery import Outcome
from buildmaster.store import StoredFile
from buildmaster.wishes import Wishes

_FILES_AT_ONCE = 4  # Of one build. Those that wait for the store are in memory, and in threads that others need, too.
_AT_ONCE_S = 5.0  # So long is waited for the log of a build that somebody wants to be over.


class _Source(NamedTuple):
    """What was built."""

    id: int
    name: str
    version: str
    architecture: str  # That it was built on.
    makes: str  # The version that comes of it.
    archive_id: int | None  # Where its packages are to be published; None: nowhere.


@dataclass(frozen=True)
class _Ending:
    """A build that ended, and what is to be recorded of it."""

    vitals: Vitals
    job: Job
    event: Event
    log: StoredFile | None
    reason: str = ""
    dependencies: str = ""
    cause: Cause | None = None
    error: str = ""
    results: dict[FileName, StoredFile] | None = None
    source: _Source | None = None
    debs: Sequence[Deb] = ()  # To be published.

    @property
    def published(self) -> _Source | None:
        """What was built, where its packages are to be published."""
        return None if self.source is None or self.source.archive_id is None else self.source


class _Cancelled(Exception):
    """The build is to be cancelled, since a moment ago."""


@dataclass
class _Gathered:
    """What is known and here by now of a build that ended well."""

    source: _Source | None = None
    files: dict[FileName, StoredFile] = field(default_factory=dict)
    refusal: str = ""  # Why the results are none, if so.
    log: StoredFile | None = None
    debs: Sequence[Deb] = ()  # Those of the files that are to be published.


class Gatherer:
    """Takes builds that have ended from their builders."""

    def __init__(
        self,
        farm: Farm,
        tenure: Tenure,
        reactor: IMasterReactor,
        fetcher: Fetcher,
        *,
        limit_bytes: int,
        now: Callable[[], float],
    ) -> None:
        """:param limit_bytes: how long the results of a build may be together."""
        self._farm = farm
        self._tenure = tenure
        self._reactor = reactor
        self._fetcher = fetcher
        self._limit_bytes = limit_bytes
        self._now = now
        self._allowances: dict[int, tuple[int, float, Allowance]] = {}  # By builder: build, when it began, allowance.

    async def finish(self, vitals: Vitals, job: Job, status: Status, client: BuilderClient, log: Logger) -> BuildState:
        """Record how a build ended, once all of it that is kept is here. Returns its new state.

        :raises BuilderError: a file could not be fetched; nothing has changed, so it may be tried again;
        :raises TooSlow: not as it is: all the time that this builder had for this build is over.
        :raises CutShort: its scan was told that things have changed.
        """
        match status.build_status:
            case None:
                raise BadAnswer("WAITING without a build_status")
            case BuildStatus.OK if (gathered := await self._gather(vitals, job, status, client)) is not None:
                state = await self._succeeded(vitals, job, gathered)
            case BuildStatus.BUILDERFAIL:
                state = await self._builder_failed(vitals, job, status, client, log)
            case BuildStatus.ABORTED if job.state is not BuildState.CANCELLING:
                state = await self._builder_failed(vitals, job, status, client, log)
            case other:
                kept = await self._log_if_worth_it(vitals, job, client)
                reason = status.reason or _REASONS.get(other, "")
                words = (reason, status.dependencies, status.cause, status.error)
                ending = _Ending(vitals, job, _EVENTS[other], kept, *words)
                state = await self._tenure.transact(vitals.id, self._record, ending)
        self._farm.log_path(job.build_id).unlink(missing_ok=True)
        log.info(
            "build {build}: {title} ended: {status}, now {state}",
            title=job.title, build=job.build_id, status=status.build_status.value, state=state,
        )  # fmt: skip
        return state

    async def take_away(self, vitals: Vitals, job: Job, reason: str, client: BuilderClient) -> Outcome:
        """Take a build from a builder that does not come to an end with it: one failure of both. What there is of the
        log by now is kept, if it can be had at once."""
        kept = await self._log_at_once(client)
        outcome = await self._tenure.transact(
            vitals.id, recovery.punish, vitals.id, reason, self._now(), may_retry=False, log=kept
        )
        self._farm.log_path(job.build_id).unlink(missing_ok=True)
        return outcome

    async def _gather(self, vitals: Vitals, job: Job, status: Status, client: BuilderClient) -> _Gathered | None:
        """Record that a build that ended well is gathered, and fetch all of it. None: it is being cancelled."""
        if job.state is BuildState.CANCELLING:
            return None
        gathered, allowance = _Gathered(), self._allowance(vitals, job, client)
        try:
            await together(
                (
                    self._begin(vitals, job, gathered),
                    self._fetch(client, status.filemap or {}, allowance, gathered),
                    self._fetch_log(client, allowance, gathered),
                )
            )
        except _Cancelled:
            return None
        return gathered

    async def _begin(self, vitals: Vitals, job: Job, gathered: _Gathered) -> None:
        gathered.source = await self._tenure.transact(vitals.id, _begin, job.build_id, self._now())
        if gathered.source is None:
            raise _Cancelled

    async def _succeeded(self, vitals: Vitals, job: Job, gathered: _Gathered) -> BuildState:
        refusal = gathered.refusal
        if not refusal:
            assert gathered.source is not None  # Or it was cancelled.
            try:
                gathered.debs = await self._check(gathered.files, gathered.source)
            except (results.BadResults, BadDeb) as error:
                refusal = str(error)
        event = Event.RESULTS_REFUSED if refusal else Event.GATHERED
        ending = _Ending(
            vitals,
            job,
            event,
            gathered.log,
            reason=refusal,
            results=gathered.files,
            source=gathered.source,
            debs=gathered.debs,
        )
        return await self._tenure.transact(vitals.id, self._record, ending)

    def _allowance(self, vitals: Vitals, job: Job, client: BuilderClient) -> Allowance:
        """How long this build's files may still take: what earlier scans took of it is gone."""
        build_id, began, allowance = self._allowances.get(vitals.id, (0, 0.0, Allowance(0.0)))
        if (build_id, began) != (job.build_id, job.started_at):
            allowance = Allowance(client.timeouts.fetch_s)
            self._allowances[vitals.id] = (job.build_id, job.started_at, allowance)
        return allowance

    async def _log_if_worth_it(self, vitals: Vitals, job: Job, client: BuilderClient) -> StoredFile | None:
        """The log of a build without results. Nobody waits long for that of one that was cancelled."""
        if job.state is not BuildState.CANCELLING:
            return await self._fetcher.log_of(client, self._allowance(vitals, job, client))
        return await self._log_at_once(client)

    async def _log_at_once(self, client: BuilderClient) -> StoredFile | None:
        """The log of a build that is to be over, if it can be had: neither its builder nor our disk keeps the build."""
        try:
            return await self._fetcher.log_of(client, Allowance(_AT_ONCE_S))
        except (BuilderError, OSError):
            return None

    async def _fetch(
        self, client: BuilderClient, filemap: Mapping[FileName, Sha1], allowance: Allowance, gathered: _Gathered
    ) -> None:
        """Fetch a build's results, or refuse them once they are longer than they may be together.

        What is in the store then stays there, without a row, for `store check` to remove: somebody else may be about to
        need the same file.
        """
        files: dict[Sha1, StoredFile] = {}
        room, turns = Room(self._limit_bytes), DeferredSemaphore(_FILES_AT_ONCE)

        async def fetch(sha1: Sha1) -> None:
            async with turns:
                files[sha1] = await self._fetcher.file(client, sha1, allowance, room)

        try:
            await together(map(fetch, dict.fromkeys(filemap.values())))
        except TooLong:
            gathered.refusal = f"the results are longer than {self._limit_bytes} bytes together"
        else:
            gathered.files = {name: files[sha1] for name, sha1 in filemap.items()}

    async def _fetch_log(self, client: BuilderClient, allowance: Allowance, gathered: _Gathered) -> None:
        gathered.log = await self._fetcher.log_of(client, allowance)

    async def _check(self, files: dict[FileName, StoredFile], source: _Source) -> Sequence[Deb]:
        """Returns what is to be published of them."""

        def check() -> Sequence[Deb]:
            results.check(self._farm.store, files, source.name, source.makes)
            if source.archive_id is None:
                return []
            return debs.of_build(self._farm.store, files, source.name, source.version, source.architecture)

        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), check)

    async def _builder_failed(
        self, vitals: Vitals, job: Job, status: Status, client: BuilderClient, log: Logger
    ) -> BuildState:
        """The builder says that it is broken, or stopped a build that nobody asked it to stop."""
        kept = await self._log_if_worth_it(vitals, job, client)
        reason = status.reason or f"the builder says {status.build_status}"
        outcome = await self._tenure.transact(
            vitals.id,
            recovery.punish_builder,
            vitals.id,
            job,
            reason,
            self._now(),
            log=kept,
            cause=status.cause,
            error=status.error,
        )
        recovery.tell(log, reason, outcome)
        assert outcome.state is not None  # Nobody but this builder's scan takes the build away.
        return outcome.state

    def _record(self, connection: Connection, ending: _Ending) -> BuildState:
        now, build_id = self._now(), ending.job.build_id
        event, reason = ending.event, ending.reason
        if ending.published:
            publications.hold_sources(connection, [ending.published.id])  # The last two may end at once.
        row = builds.held(connection, build_id)
        standing = entries.standing(connection, build_id)
        if event is Event.GATHERED and standing.superseded:
            event = Event.GATHERED_LATE
        elif event is Event.GATHERED and (taken := _taken(connection, ending)):
            event, reason = Event.RESULTS_REFUSED, taken
        state = builds.record(
            connection,
            build_id,
            event,
            now,
            row=row,
            pause_s=queue.pause_s(standing.attempts),
            reason=reason,
            dependencies=ending.dependencies,
            cause=ending.cause,
            error=ending.error,
        )
        if ending.log is not None:
            builds.keep_log(connection, build_id, Log(ending.log, builds.log_name(row, state)), now)
        # What was refused is kept as well, for a person to look at; a retry forgets it.
        if ending.results is not None and state in (BuildState.BUILT, BuildState.FAILED_UPLOAD):
            builds.keep_results(connection, build_id, ending.results, now)
        if state is BuildState.BUILT and ending.published:
            entering.add_binaries(connection, ending.published.id, build_id, ending.debs, now)
            holding.look(connection, ending.published.id, now)
        if event in _PROPER:
            builders.did_well(connection, ending.vitals.id)
        return state


def _begin(connection: Connection, build_id: int, now: float) -> _Source | None:
    found = builds.held(connection, build_id)
    if found.state == BuildState.CANCELLING:  # Since a moment ago.
        return None
    builds.record(connection, build_id, Event.SUCCEEDED, now, row=found)
    archive_id = None if found.reproduces_id is not None else found.published_in
    makes = Wishes.from_text(found.wishes).version_of(found.source_version)
    return _Source(found.source_id, found.source_name, found.source_version, found.architecture, makes, archive_id)


def _taken(connection: Connection, ending: _Ending) -> str:
    """Why packages cannot be published, for the names of their files; "": they can."""
    if not ending.debs or ending.source is None or ending.source.archive_id is None:
        return ""
    names: dict[str, str] = {each.file_name: each.file.sha256 for each in ending.debs}
    taken = entering.conflicts(connection, ending.source.archive_id, names)
    return str(entering.PoolConflict(taken)) if taken else ""


_EVENTS = {
    BuildStatus.OK: Event.SUCCEEDED,  # And was cancelled.
    BuildStatus.PACKAGEFAIL: Event.PACKAGE_FAILED,
    BuildStatus.DEPFAIL: Event.DEPENDENCIES_MISSING,
    BuildStatus.CHROOTFAIL: Event.CHROOT_UNUSABLE,
    BuildStatus.GIVENBACK: Event.GIVEN_BACK,
    BuildStatus.ABORTED: Event.ABORTED,
}
# What is none of these was cancelled; see builds.record().
_REASONS = {
    BuildStatus.PACKAGEFAIL: "the package does not build: see the log",
    BuildStatus.DEPFAIL: "build-dependencies are missing",
    BuildStatus.CHROOTFAIL: "the chroot is broken: see the log",
    BuildStatus.GIVENBACK: "given back by the builder: see the log",
}
# A builder that ends a build so works: its failures are forgotten.
_PROPER = frozenset(
    {Event.GATHERED, Event.GATHERED_LATE, Event.PACKAGE_FAILED, Event.DEPENDENCIES_MISSING, Event.CHROOT_UNUSABLE}
)
