"""All builders of a farm, each scanned again and again, at a pace of its own."""

import math

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from buildd.protocol import WAIT_MAX_S
from buildmaster.builder_client import Status
from buildmaster.builder_http import BuilderError
from buildmaster.builders import Vitals
from buildmaster.pacing import Pace, Progress, pause_s, until_near_end_s
from buildmaster.ports import IMasterReactor
from buildmaster.scanner import Scanner, Work

_STEPS_AT_ONCE = 20  # A builder that always has something to do is one that tells tales: it must not keep us busy.


class Fleet:
    """The scans of all builders. Builders that are added or removed are noticed."""

    def __init__(self, work: Work, reactor: IMasterReactor, pace: Pace) -> None:
        self._work = work
        self._reactor = reactor
        self._pace = pace
        self._patrols: dict[int, Patrol] = {}
        work.snapshot.on_builders = self._adjust

    def start(self) -> None:
        """Begin to scan the builders that the snapshot knows."""
        self._adjust()

    def _adjust(self) -> None:
        builders = self._work.snapshot.builders
        for builder_id in builders.keys() - self._patrols.keys():
            log = Logger(namespace=f"buildmaster.builders.{builders[builder_id].name}")
            patrol = Patrol(Scanner(builder_id, self._work, log), self._work, self._reactor, self._pace)
            self._patrols[builder_id] = patrol
            patrol.start()
        for builder_id in self._patrols.keys() - builders.keys():
            self._patrols.pop(builder_id).stop()

    async def stop(self) -> None:
        """End all scans, wherever they are: the next master goes on from there."""
        self._work.snapshot.on_builders = lambda: None
        patrols, self._patrols = self._patrols, {}
        await DeferredList([patrol.stop() for patrol in patrols.values()], consumeErrors=True)


class Patrol:
    """One builder's scans, one after the other."""

    def __init__(self, scanner: Scanner, work: Work, reactor: IMasterReactor, pace: Pace) -> None:
        self._scanner = scanner
        self._work = work
        self._reactor = reactor
        self._pace = pace
        self._running: Deferred[None] | None = None
        self._sleep: Deferred[Status | None] | None = None
        self._woken = False
        self._stopping = False

    def start(self) -> None:
        self._work.snapshot.watch(self._scanner.id, self._wake)
        self._running = Deferred.fromCoroutine(self._run())

    def stop(self) -> Deferred[None]:
        """Cancel what goes on. Fires when it has ended."""
        self._stopping = True
        self._work.snapshot.unwatch(self._scanner.id)
        assert self._running is not None
        self._running.cancel()
        return self._running

    def _wake(self) -> None:
        """Called by the snapshot; what we did ourselves is no news."""
        now = self._work.snapshot.builders.get(self._scanner.id)
        if now is not None and now == self._scanner.vitals and now.job is not None:
            return
        self._woken = True
        if self._sleep is not None:
            self._sleep.cancel()
        else:
            self._scanner.overtake(now)

    async def _run(self) -> None:
        """Scan until stopped. A mistake of our own does not make us forget the builder: we begin again."""
        while not self._stopping:
            try:
                await self._scan_on()
            except Exception as error:
                if self._stopping:  # It may be that of being cancelled.
                    return
                self._scanner.log.failure("the scans have ended by an error of the master's own: {error}", error=error)
                await deferLater(self._reactor, self._pace.slowest_s)

    async def _scan_on(self) -> None:
        heard: Status | None = None
        steps, before = 0, 0.0
        while not self._stopping:
            self._woken = False
            steps = steps + 1 if self._reactor.seconds() - before < self._pace.fastest_s / 4 else 0
            progress = await self._scan(heard)
            before, heard = self._reactor.seconds(), None
            if steps >= _STEPS_AT_ONCE:
                steps = 0
                await self._rest(Progress.FAILED)
            elif progress is not Progress.CHANGED:
                heard = await self._rest(progress)

    async def _scan(self, heard: Status | None) -> Progress:
        """One scan; what goes wrong on our own side (a full disk, a mistake) is told, and blames nobody."""
        try:
            return await self._scanner.scan(heard)
        except CancelledError:
            if not self._stopping:
                raise
        except Exception:
            self._scanner.log.failure("the scan ended by an error of the master's own")
        return Progress.FAILED

    async def _rest(self, progress: Progress) -> Status | None:
        """Leave the builder alone, until the time is over, somebody wakes us, or it says by wait() that it is done."""
        vitals, status = self._scanner.vitals, self._scanner.status
        has_job = vitals is not None and vitals.job is not None
        seconds = pause_s(progress, self._scanner.quiet, self._to_end_s(vitals), self._pace, has_job=has_job)
        if self._woken or self._stopping:
            return None
        listens = progress in (Progress.RUNNING, Progress.STOPPING) and status is not None and vitals is not None
        if listens and status is not None and vitals is not None and self._scanner.client(vitals).waits:
            self._sleep = Deferred.fromCoroutine(self._listen(vitals, status, seconds))
        else:
            self._sleep = deferLater(self._reactor, seconds, lambda: None)
        try:
            return await self._sleep
        except CancelledError:
            return None
        finally:
            self._sleep = None

    async def _listen(self, vitals: Vitals, status: Status, seconds: float) -> Status | None:
        """Let the builder say when its status changes. Where it cannot, only the time passes."""
        began = self._reactor.seconds()
        try:
            heard = await self._scanner.client(vitals).wait(status, min(seconds, WAIT_MAX_S))
        except BuilderError:  # The next scan finds out what is wrong; it comes soon, but nobody is kept busy.
            await deferLater(self._reactor, pause_s(Progress.FAILED, 0, math.inf, self._pace, has_job=True))
            return None
        left = seconds - (self._reactor.seconds() - began)
        if left <= 0 or (heard is not None and _differs(heard, status)):
            return heard
        await deferLater(self._reactor, left)
        return None

    def _to_end_s(self, vitals: Vitals | None) -> float:
        if vitals is None or vitals.job is None:
            return math.inf
        return until_near_end_s(self._work.now() - vitals.job.started_at, vitals.job.expected_s)


def _differs(now: Status, before: Status) -> bool:
    """Whether a builder is in another state than before, in the sense of wait()."""
    return (now.builder_status, now.build_id) != (before.builder_status, before.build_id)
