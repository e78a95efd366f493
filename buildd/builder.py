"""The one build of a daemon: IDLE, BUILDING, WAITING, IDLE; or ABORTING before WAITING (docs/protocol.md, States)."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from buildd.build_directories import BuildDirectories
from buildd.buildlog import BuildLog
from buildd.cached_results import CachedResults
from buildd.causes import BY_STATUS
from buildd.changes import Changes, Clock
from buildd.config import BuilddConfig
from buildd.enforcement import Enforcement
from buildd.explaining import Explainer, broken, told
from buildd.filecache import FileCache, Stopped, UntrustedFile
from buildd.job import Job
from buildd.limits import parse_limits
from buildd.managers.base import BuildManager, BuildRequest, BuildResult, InThread
from buildd.protocol import (
    STATUSES_WITH_FILES,
    WAIT_MAX_S,
    BuildAnswer,
    BuilderStatus,
    BuildId,
    BuildStatus,
    Cause,
    FileName,
    Sha1,
    StatusStruct,
    parse_fast_cleanup,
)
from buildd.xmlrequest import sendable

_ABORTED = "it was aborted"

_log = Logger()


class Refused(Exception):
    """This cannot be done in the state that the builder is in; the call has changed nothing."""


class Builder:
    """Runs one build at a time, and says how it is."""

    def __init__(
        self,
        *,
        config: BuilddConfig,
        cache: FileCache,
        enforcement: Enforcement,
        managers: Mapping[str, BuildManager],
        clock: Clock,
        in_thread: InThread,
        version: str,
    ) -> None:
        """Take over nothing: what an earlier daemon left is for the build types' recover().

        :param managers: build types by the name that build() calls them.
        :param version: the daemon's own; empty when it is not known.
        """
        self.managers = managers
        self._config = config
        self._cache = cache
        self._enforcement = enforcement
        self._clock = clock
        self._in_thread = in_thread
        self._version = version
        self._directories = BuildDirectories(config.directory / "builds", in_thread)
        self._log_path = config.directory / "buildlog"
        self._status = BuilderStatus.IDLE
        self._job: Job | None = None
        self._checking: BuildId | None = None  # A build() that is not answered yet.
        self._closed = ""  # Why no build is taken any more, if so.
        self._removals = 0  # Directories that are being removed.
        self._changes = Changes(clock)

    # --- what the protocol asks

    @property
    def builder_status(self) -> BuilderStatus:
        return self._status

    @property
    def build_id(self) -> str:
        """Of the build that status() speaks of; empty when IDLE."""
        return self._job.request.build_id if self._job else ""

    @property
    def log_path(self) -> Path:
        """The log of the current or last build, if there is one."""
        return self._log_path

    def status(self) -> StatusStruct:
        """The struct that status() answers."""
        status = StatusStruct(builder_status=self._status.value)
        if self._version:
            status["builder_version"] = self._version
        job = self._job
        if not job:
            return status
        status["build_id"] = job.request.build_id
        if self._status is BuilderStatus.BUILDING:
            status.update(job.progress())
        status.update(job.outcome())
        return status

    async def wait(self, builder_status: str, build_id: str, timeout_s: float) -> StatusStruct:
        """status(), as soon as it differs from what the caller knows, or when the time is over."""

        def differs() -> bool:
            return (str(self._status), self.build_id) != (builder_status, build_id)

        await self._changes.until(differs, min(timeout_s, WAIT_MAX_S))
        return self.status()

    async def build(
        self,
        build_id: BuildId,
        manager_name: str,
        chroot: Sha1,
        files: Mapping[FileName, Sha1],
        arguments: Mapping[str, object],
    ) -> tuple[str, str]:
        """Start a build, once its build type has found nothing wrong with it.

        :returns: what build() answers.
        :raises Refused: not IDLE, or the daemon is ending.
        :raises ProtocolError: arguments or files cannot be built from; nothing has changed.
        """
        self._check_free()
        manager = self.managers.get(manager_name)
        if not manager:
            known = ", ".join(sorted(self.managers)) or "none"
            why = f"no build type {sendable(manager_name[:80])!r}; there are: {known}"
            return BuildAnswer.UNKNOWN_BUILDER.value, why
        fast_cleanup = parse_fast_cleanup(arguments)
        inputs = (chroot, *files.values())
        self._cache.pin(inputs)
        self._checking = build_id
        accepted = False
        try:
            for sha1 in inputs:
                self._cache.touch(sha1)  # Also when others are missing: what is here will be of use then.
            absent = self._absent(chroot, files)
            if absent:
                return BuildAnswer.UNKNOWN_SUM.value, f"not in the cache: {', '.join(absent)}"
            request, plan = await self._accept(build_id, manager, chroot, files, arguments)
            accepted = True
        finally:
            self._checking = None
            if not accepted:
                self._cache.unpin(inputs)
                self._changes.tell()
        explainer = Explainer(request.log, self._in_thread, self._enforcement.oom_kills)
        results = CachedResults(self._cache, self._in_thread)
        self._start(Job(request, plan, manager, inputs, fast_cleanup, explainer, results))
        return BuildAnswer.BUILDING.value, build_id

    def abort(self) -> BuilderStatus:
        """Begin to stop the build. Harmless while it is being stopped.

        :raises Refused: there is none to stop.
        """
        if self._status is BuilderStatus.ABORTING:
            return self._status
        job = self._job
        if self._status is not BuilderStatus.BUILDING or not job:
            raise Refused(f"abort() is for a build that runs, and this builder is {self._status.name}")
        _log.info("{build} on {label}: aborting", build=job.request.build_id, label=self._config.label)
        job.aborting = True
        self._set(BuilderStatus.ABORTING)
        job.abort_limit = self._clock.callLater(self._config.abort_timeout_s, self._give_up, job)
        if job.running:
            job.running.cancel()
        return BuilderStatus.ABORTING

    async def clean(self) -> BuilderStatus:
        """Forget the build, its log and the files it produced.

        :raises Refused: no build has ended.
        """
        job = self._job
        if self._status is not BuilderStatus.WAITING or not job:
            raise Refused(f"clean() is for a build that has ended, and this builder is {self._status.name}")
        job.request.log.close()
        job.request.log.path.unlink(missing_ok=True)
        self._job = None
        self._set(BuilderStatus.IDLE)
        self._cache.unpin(job.inputs)
        self._removals += 1
        try:
            await job.results.let_go()
        finally:
            Deferred.fromCoroutine(self._remove(job))
        return BuilderStatus.IDLE

    # --- the end of the daemon

    async def finish(self) -> None:
        """Take no build any more; return once the current one has ended and the master has collected it, or is slow."""
        self._close("the daemon ends after the current build")
        await self._changes.until(
            lambda: self._status in (BuilderStatus.IDLE, BuilderStatus.WAITING) and not self._checking
        )
        await self._changes.until(lambda: self._status is BuilderStatus.IDLE, self._config.collect_timeout_s)

    async def stop(self) -> None:
        """Take no build any more; abort the current one, and return once nothing is left of it."""
        self._close("the daemon is ending")
        await self._changes.until(lambda: not self._checking)
        if self._status is BuilderStatus.BUILDING:
            self.abort()
        await self._changes.until(lambda: self._status is not BuilderStatus.ABORTING)
        if self._status is BuilderStatus.WAITING:
            await self.clean()
        await self._changes.until(lambda: not self._removals)
        self._directories.clear()

    def _close(self, why: str) -> None:
        self._closed = why
        _log.info("{label}: {why}", label=self._config.label, why=why)

    # --- a build

    def _check_free(self) -> None:
        if self._closed:
            raise Refused(f"no build is taken: {self._closed}")
        if self._checking:
            raise Refused(f"build() is possible only when IDLE, and {self._checking} is about to begin")
        if self._status is not BuilderStatus.IDLE:
            raise Refused(f"build() is possible only when IDLE, and this builder is {self._status.name}")

    def _absent(self, chroot: Sha1, files: Mapping[FileName, Sha1]) -> list[str]:
        """What is not in the cache, each as "NAME (SHA1)"."""
        wanted = [("the chroot", chroot), *files.items()]
        return [f"{name} ({sha1})" for name, sha1 in wanted if sha1 not in self._cache]

    async def _accept(
        self,
        build_id: BuildId,
        manager: BuildManager,
        chroot: Sha1,
        files: Mapping[FileName, Sha1],
        arguments: Mapping[str, object],
    ) -> tuple[BuildRequest, object]:
        """Have the request checked; when it is bad, nothing has changed.

        :returns: the request, and the plan that its build type made of it.
        """
        limits = parse_limits(arguments, self._enforcement.limits)
        with contextlib.ExitStack() as undo:
            # Elsewhere at first: the log of the last build, from before a restart, stays until another is accepted.
            log = BuildLog(self._log_path.with_name("buildlog.checking"), limits.log_bytes)
            undo.callback(log.path.unlink, missing_ok=True)
            undo.callback(log.close)
            directory = await self._directories.take()
            undo.callback(directory.rmdir)
            request = BuildRequest(
                build_id=build_id,
                chroot_sha1=chroot,
                chroot=self._cache.path(chroot),
                files={name: self._cache.path(sha1) for name, sha1 in files.items()},
                arguments=arguments,
                directory=directory,
                log=log,
                begin=lambda stage: None,
                limits=limits,
            )
            plan = await self._in_thread(manager.check, request)
            if self._closed:
                raise Refused(f"no build is taken: {self._closed}")
            log.rename(self._log_path)
            undo.pop_all()
        return request, plan

    def _start(self, job: Job) -> None:
        def begin(stage: str) -> None:
            job.stage = stage
            job.explainer.stage_begins()
            _log.info("{build} on {label}: {stage}", build=job.request.build_id, label=label, stage=stage)

        label = self._config.label
        job.request = replace(job.request, begin=begin)
        self._job = job
        self._set(BuilderStatus.BUILDING)
        _log.info("{build} on {label}: accepted", build=job.request.build_id, label=label)
        Deferred.fromCoroutine(self._run(job))

    async def _run(self, job: Job) -> None:
        """The build, from being accepted to WAITING; there it ends, whatever happens."""
        try:
            result = await self._outcome(job)
        except Exception as exc:  # The outermost loop of a build. It is not the package that is to blame.
            if not (job.aborting and isinstance(exc, CancelledError)):
                _log.failure("{build} on {label}: broken builder", build=job.request.build_id, label=self._config.label)
            result = broken(exc)
        if job.aborting:
            result = BuildResult(BuildStatus.ABORTED, _ABORTED)
        job.over = True
        self._end(job, result)

    async def _outcome(self, job: Job) -> BuildResult:
        """How the build ended, with its log closed and its results in the cache."""
        try:
            job.running = Deferred.fromCoroutine(self._guarded(job))
            result = await job.running
            if not job.aborting:
                result = await job.explainer.explain(result)
        except Exception as exc:
            if not job.aborting:
                job.request.log.say(f"\n{broken(exc).status}: {broken(exc).reason}\n{told(broken(exc))}")
            raise
        finally:
            if job.aborting:
                job.request.log.say(f"\n{BuildStatus.ABORTED}: {_ABORTED}")
            job.request.log.close()
        if result.status in STATUSES_WITH_FILES and not job.aborting:
            return await self._gather(job, result)
        return result

    async def _guarded(self, job: Job) -> BuildResult:
        """The build itself, held to its limits."""
        directory = job.request.directory
        guard = self._enforcement.guard(
            job.request.build_id,
            directory,
            job.request.limits,
            usage=lambda: job.manager.usage(directory),
            make_room=job.manager.make_room,
        )
        job.guard = guard
        try:
            return await job.manager.build(replace(job.request, guard=guard), job.plan)
        finally:
            await guard.close()

    async def _gather(self, job: Job, result: BuildResult) -> BuildResult:
        """Take the results into the cache, all or none."""
        try:
            await job.results.take(result.files)
        except UntrustedFile as exc:
            return BuildResult(BuildStatus.PACKAGEFAIL, f"a result cannot be taken: {exc}", cause=Cause.PACKAGING)
        except (OSError, Stopped) as exc:
            _log.failure("{build} on {label}: results not kept", build=job.request.build_id, label=self._config.label)
            return BuildResult(BuildStatus.BUILDERFAIL, f"the results could not be kept: {exc}")
        return result

    def _give_up(self, job: Job) -> None:
        """The build cannot be stopped. What runs of it may go on, so the builder is broken."""
        job.abort_limit = None
        why = f"it could not be stopped within {self._config.abort_timeout_s:g} s"
        if job.guard is not None and (stuck := job.guard.stuck()):
            why = f"{why}: these processes do not end: {stuck}"
        self._end(job, BuildResult(BuildStatus.BUILDERFAIL, why))

    def _end(self, job: Job, result: BuildResult) -> None:
        """The build has ended: WAITING. What ends after all, once it was given up, changes nothing."""
        if job.abort_limit:
            job.abort_limit.cancel()
            job.abort_limit = None
        if job.result is None:
            reason = " ".join(result.reason.split())  # One line, also of an exception's many.
            job.result = result = replace(result, reason=reason, cause=result.cause or BY_STATUS.get(result.status))
            self._set(BuilderStatus.WAITING)
            _log.info(
                "{build} on {label}: {status}: {reason}; cause: {cause}",
                build=job.request.build_id,
                label=self._config.label,
                status=result.status.value,
                reason=result.reason,
                cause=result.cause or "none",
            )
        self._changes.tell()

    async def _remove(self, job: Job) -> None:
        """Remove the build's directory; while something of it still runs, not yet."""
        try:
            await self._changes.until(lambda: job.over)
            await job.results.let_go()  # What was still being gathered at clean().
            if not job.fast_cleanup:
                await job.manager.remove(job.request.directory)
        except Exception:  # It costs space, and the next start tries again.
            _log.failure("{build} on {label}: not removed", build=job.request.build_id, label=self._config.label)
        try:
            if not self._closed:
                await self._directories.prepare()
        finally:
            self._removals -= 1
            self._changes.tell()

    def _set(self, status: BuilderStatus) -> None:
        self._status = status
        self._changes.tell()
