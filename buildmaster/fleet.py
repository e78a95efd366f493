"""All builders of a farm, each scanned again and again, at a pace of its own."""

import math
from collections.abc import Collection
from itertools import islice

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from buildd.protocol import WAIT_MAX_S
from buildmaster.builder_answers import Status
from buildmaster.builder_http import BuilderError
from buildmaster.builders import Vitals
from buildmaster.database import DatabaseLost
from buildmaster.files import DeletedMeanwhile
from buildmaster.masters import LeaseLost
from buildmaster.pacing import Pace, Progress, pause_s, until_near_end_s
from buildmaster.ports import IMasterReactor
from buildmaster.scanner import Scanner, Work

# With one build. A builder that always has something to do with it is one that tells tales: it must not keep us busy.
_STEPS_AT_ONCE = 20
_STAND_BY_S = 1.0  # So long a builder that is to be handed over waits for that; then it goes on.


class Fleet:
    """The scans of all builders that this master holds. Builders that come, go or change hands are noticed."""

    def __init__(self, work: Work, reactor: IMasterReactor, pace: Pace) -> None:
        self._work = work
        self._reactor = reactor
        self._pace = pace
        self._patrols: dict[int, Patrol] = {}
        self._stopping = False

    async def start(self) -> None:
        """Begin to scan the builders that the snapshot knows, as they become ours."""
        self._work.snapshot.on_builders = self._changed
        await self._work.tenure.start(self)

    def _changed(self) -> None:
        self.adjust()
        self._work.tenure.balance()

    def adjust(self) -> None:
        """Scan the builders that are ours, and no others."""
        builders, tenure = self._work.snapshot.builders, self._work.tenure
        ours = {each.id for each in builders.values() if tenure.holds(each)} if not self._stopping else set()
        for builder_id in self._patrols.keys() - ours:
            self._patrols.pop(builder_id).stop()
        for builder_id in ours - self._patrols.keys():
            log = Logger(namespace=f"buildmaster.builders.{builders[builder_id].name}")
            scanner = Scanner(builder_id, self._work, log, inherited=tenure.inherited(builder_id))
            patrol = self._patrols[builder_id] = Patrol(scanner, self._work, self._reactor, self._pace)
            patrol.start()

    def resting(self, count: int) -> list[int]:
        """So many builders, or fewer, whose scans are between two steps; those without a build first. If there are
        fewer, some of the others will rest soon."""
        resting = [builder_id for builder_id, patrol in self._patrols.items() if patrol.rests]
        busy = (patrol for patrol in self._patrols.values() if not patrol.rests and not patrol.will_rest)
        for patrol in islice(busy, max(0, count - len(resting))):
            patrol.will_rest = True
        return sorted(resting, key=lambda builder_id: self._patrols[builder_id].has_job)[:count]

    async def end(self, builder_ids: Collection[int]) -> None:
        """End the scans of these builders."""
        patrols = [self._patrols.pop(each) for each in builder_ids if each in self._patrols]
        await DeferredList([patrol.stop() for patrol in patrols], consumeErrors=True)

    async def stop(self) -> None:
        """End all scans, wherever they are: the next master goes on from there."""
        self._work.snapshot.on_builders = lambda: None
        self._stopping = True
        await self.end(list(self._patrols))
        await self._work.ahead.stop()
        await self._work.tenure.stop()


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
        self.will_rest = False  # After this step, whatever there is to do: somebody waits for that.

    @property
    def rests(self) -> bool:
        """Whether it is between two steps."""
        return self._sleep is not None

    @property
    def has_job(self) -> bool:
        """Whether its builder has a build, as far as the last scan saw."""
        return self._build_id is not None

    @property
    def _build_id(self) -> int | None:
        vitals = self._scanner.vitals
        return None if vitals is None or vitals.job is None else vitals.job.build_id

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
        """Called by the snapshot."""
        self._woken = True
        if self._sleep is None:
            self._scanner.overtake(self._work.snapshot.builders.get(self._scanner.id))
        elif self._has_news():
            self._sleep.cancel()

    def _has_news(self) -> bool:
        """Whether we were woken for something; what we did ourselves is no news."""
        now = self._work.snapshot.builders.get(self._scanner.id)
        return self._woken and (now is None or now != self._scanner.vitals or now.job is None)

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
        steps, before, build_id = 0, 0.0, None
        while not self._stopping:
            self._woken = False
            rested = self._reactor.seconds() - before >= self._pace.fastest_s / 4
            progress = await self._scan(heard)
            before, heard = self._reactor.seconds(), None
            steps = 0 if rested or self._build_id not in (None, build_id) else steps + 1
            build_id = self._build_id or build_id
            if steps >= _STEPS_AT_ONCE:
                steps = 0
                await self._rest(Progress.FAILED)
            elif self.will_rest:
                await self._stand_by()
            elif progress is not Progress.CHANGED:
                self._send_ahead(progress)
                heard = await self._rest(progress)

    async def _scan(self, heard: Status | None) -> Progress:
        """One scan; what goes wrong on our own side (a full disk, a mistake) is told, and blames nobody."""
        try:
            return await self._scanner.scan(heard)
        except CancelledError:
            if not self._stopping:
                raise
        except (LeaseLost, DeletedMeanwhile) as error:
            # Of a lease that is lost the picture tells soon, and this patrol ends. What was deleted is fetched anew.
            self._scanner.log.warn("the scan ended: {error}", error=error)
        except DatabaseLost:
            pass  # Told once, where it is found; and nobody is to blame.
        except Exception:
            self._scanner.log.failure("the scan ended by an error of the master's own")
        return Progress.FAILED

    async def _stand_by(self) -> None:
        """Leave the builder alone for a moment: it may be handed over now."""
        self.will_rest = False
        if self._stopping:
            return
        self._reactor.callLater(0, self._work.tenure.balance)
        self._sleep = deferLater(self._reactor, _STAND_BY_S, lambda: None)
        try:
            await self._sleep
        except CancelledError:
            return
        finally:
            self._sleep = None

    def _send_ahead(self, progress: Progress) -> None:
        """Have the builder sent what it needs next, as far as that is worth it."""
        vitals = self._scanner.vitals
        if progress is Progress.RUNNING and vitals is not None:
            has_wait = self._scanner.client(vitals).has_wait
            if has_wait is not None:  # That is known after the first pause.
                self._work.ahead.look(vitals, has_wait=has_wait)

    async def _rest(self, progress: Progress) -> Status | None:
        """Leave the builder alone, until the time is over, somebody wakes us, or it says by wait() that it is done."""
        vitals, status = self._scanner.vitals, self._scanner.status
        seconds = pause_s(progress, self._scanner.quiet, self._to_end_s(vitals), self._pace, has_job=self.has_job)
        if self._stopping or self._has_news():
            return None
        listens = progress in (Progress.RUNNING, Progress.STOPPING)
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
