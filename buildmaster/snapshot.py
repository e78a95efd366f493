"""The master's picture of its database: builders with their builds, and what waits. A scan that changes nothing asks
the picture, not the database.

A commit of our own that is about one builder brings along how that builder is now. Any commit makes the rest stale: one
of our own at once, one of another process when it is noticed: PostgreSQL tells of it, and SQLite is asked again and
again. It is then taken anew, once for all scans: of the builders that were concerned, or of all when nobody knows
which. Those whose builder changed, or could take what waits, are woken. Once a minute it is taken anew of all in any
case. Nobody waits for what else our own commit about a builder has changed: that is taken in at leisure, or a farm that
is busy would do little else.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from buildmaster import builders, queue
from buildmaster.builders import Vitals
from buildmaster.commits import CannotSee, Commits
from buildmaster.database import DatabaseLost
from buildmaster.farm import Farm
from buildmaster.queue import Kind

_SETTLE_S = 0.02  # Commits come in bunches; the picture is taken once for each bunch,
_SOONEST_S = 0.005  # or sooner, where
_SHARE = 5  # times as long as it takes are less than that.
_LEISURE_S = 0.1  # And that of our own about builders, which show how those are, once for more of them.
_AGAIN_S = 0.05  # When it could not be taken.
_RETAKE_S = 60.0  # However quiet it is: a commit that was missed costs a minute, and not for ever.


class Snapshot:
    """The picture, and who wants to be told when it changes."""

    log = Logger()

    def __init__(self, farm: Farm, clock: IReactorTime, poll_s: float) -> None:
        """:param poll_s: how often to look for commits by other processes."""
        self._farm = farm
        self._clock = clock
        self._poll_s = poll_s
        self._poll: LoopingCall | None = None
        self._commits: Commits | None = None
        self._taking: IDelayedCall | None = None
        self._asked = 0.0  # When the last picture was asked for, by the clock.
        self._follows = False  # Between start() and stop().
        self._blind = False  # The last look for commits failed.
        self._turn = DeferredLock()  # What was read last is what is shown last.
        self._changed: set[int] | None = None  # Builders that the next picture is of; None: all.
        self._wakers: dict[int, Callable[[], None]] = {}
        self._shown: Mapping[int, Vitals] = {}  # The builders as they were when whom it concerned was last woken.
        self._meanwhile: dict[int, Vitals] = {}  # What our own commits brought along while a picture was taken.
        self._doubtful: dict[int, int] = {}  # Builders of which a commit brought nothing; the generation that it made.
        self.builders: dict[int, Vitals] = {}
        self.waiting: Mapping[Kind, float] = {}
        self.generation = 0  # Counts commits that we know of,
        self.news = 0  # and those that were not just ours about a builder, as far as can be told.
        self._own = False  # There was one of ours since the last look for commits.
        self.taken = -1  # The generation that the picture shows.
        self.on_builders: Callable[[], None] = lambda: None  # Called when builders came, went, or changed hands,
        self.on_news: Callable[[], None] = lambda: None  # and when there is news.
        self._settle_s = _SETTLE_S

    async def start(self) -> None:
        """Take the first picture, and follow the commits."""
        # Before the picture: what is committed while it is taken must be seen.
        commits = self._commits = self._farm.commits(self._told, self._poll_s)
        self._follows = True
        self._farm.database.on_commit, self._farm.database.look = self.stale, builders.by_id
        try:
            await self.take()
        except BaseException:
            self.stop()
            commits.close()
            raise
        self._poll = LoopingCall(self._look, commits)
        self._poll.clock = self._clock
        self._poll.start(self._poll_s).addBoth(lambda _: commits.close())

    def _told(self) -> None:
        """The database has something to tell: look at once."""
        if self._follows and self._commits is not None:
            self._look(self._commits)

    def _look(self, commits: Commits) -> None:
        """Look for commits by others. That it fails once does not end it."""
        try:
            seen, self._blind = commits.seen(), False
        except CannotSee as error:
            if not self._blind:
                self.log.error("cannot see what other processes commit; trying again: {error}", error=error)
            seen, self._blind = False, True
        own, self._own = self._own, False
        if seen:  # It may have been ourselves; the next picture finds out.
            self._count(_LEISURE_S if own else self._settle_s)
        elif self._clock.seconds() - self._asked >= _RETAKE_S:
            self._changed = None
            self._take_in(0)

    def stop(self) -> None:
        """Follow no longer."""
        self._follows = False
        self._farm.database.on_commit = lambda _, __: None
        self._farm.database.look = lambda _, __: None
        if self._poll is not None and self._poll.running:
            self._poll.stop()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def stale(self, builder_id: int | None = None, seen: Vitals | None = None) -> None:
        """Something was committed.

        :param builder_id: the only builder that it concerns, beside the queue; None: nobody knows.
        :param seen: that builder as it was then; None: nobody knows.
        """
        self._own = True
        self._count(self._settle_s if seen is None else _LEISURE_S)
        if builder_id is None:
            self._changed = None
        else:
            if seen is not None:
                self.builders[builder_id] = self._meanwhile[builder_id] = seen
                self._doubtful.pop(builder_id, None)
            else:
                self._doubtful[builder_id] = self.generation
            if self._changed is not None:  # Others may have committed since that was seen, and have been shown before.
                self._changed.add(builder_id)

    def _count(self, settle_s: float) -> None:
        """There is one more commit, which is to show within so long."""
        self.generation += 1
        self._take_in(settle_s)
        if settle_s < _LEISURE_S:
            self.news += 1
            self.on_news()

    def _take_in(self, seconds: float) -> None:
        if not self._follows:
            return
        if self._taking is None:
            self._taking = self._clock.callLater(seconds, self._take_now)
        elif self._taking.getTime() > self._clock.seconds() + seconds:
            self._taking.reset(seconds)

    def _take_now(self) -> None:
        """Take it, unless that goes on already: where commits come faster than pictures, these must not queue up."""
        self._taking = None
        if self._turn.locked:
            return

        def failed(failure: Any) -> None:
            if self._follows:
                if not failure.check(DatabaseLost):  # Which is told once, where it is found.
                    self.log.failure("cannot read the database; trying again", failure)
                self._take_in(_AGAIN_S)

        self._turn.run(lambda: Deferred.fromCoroutine(self._retake())).addErrback(failed)

    async def take(self) -> None:
        """Take the whole picture now, and wake whom it concerns."""
        self._changed = None
        await self._turn.run(lambda: Deferred.fromCoroutine(self._retake()))

    async def _retake(self) -> None:
        """Bring the picture up to date, and wake whom it concerns."""
        generation, news, before, waited = self.generation, self.news, self._shown, self.waiting
        changed, self._changed = self._changed, set()
        self._meanwhile = {}
        began = self._clock.seconds()
        try:
            look = await self._farm.read(_read, changed, self._commits)
        except BaseException:
            self._changed = None
            raise
        took = self._clock.seconds() - began
        self._settle_s = min(_SETTLE_S, max(_SOONEST_S, _SHARE * took))
        kept: Mapping[int, Vitals] = {}
        if look.only is None:
            self._asked = self._clock.seconds()
        else:
            kept = {id: each for id, each in self.builders.items() if id not in look.only}
        brought, self.builders = self.builders, {**kept, **look.builders, **self._meanwhile}
        self._shown = dict(self.builders)
        self.waiting = look.waiting
        self.taken = generation
        new = [kind for kind, figures in self.waiting.items() if figures != waited.get(kind)]
        for builder_id, waker in list(self._wakers.items()):
            now = self.builders.get(builder_id)
            # Also when it is what was shown before: one of our commits may have brought along an older one meanwhile.
            known = (before.get(builder_id), brought.get(builder_id))
            if any(now is not was and now != was for was in known) or (now is not None and _could_take(now, new)):
                waker()
        if _holders(before) != _holders(self.builders):
            self.on_builders()
        if self.taken < self.generation:
            self._take_in(self._settle_s if self.news > news else _LEISURE_S)

    def may_have_work(self, vitals: Vitals) -> bool:
        """Whether something may be in the queue for a builder."""
        return self.taken < self.generation or any(kind.fits(vitals) for kind in self.waiting)

    def watch(self, builder_id: int, waker: Callable[[], None]) -> None:
        """Have this called when something may be to do for a builder."""
        self._wakers[builder_id] = waker

    def unwatch(self, builder_id: int) -> None:
        self._wakers.pop(builder_id, None)

    async def vitals(self, builder_id: int) -> Vitals | None:
        """A builder, no older than our own last commit about it. None: there is no such builder any more."""
        since = self._doubtful.get(builder_id, self.taken)
        if self.taken >= since:
            return self.builders.get(builder_id)
        found = await self._farm.read(builders.by_id, builder_id)
        # Whoever was woken by a picture of that time is not woken again by what it shows, so that is what counts.
        return self.builders.get(builder_id) if self.taken >= since else found


def _could_take(vitals: Vitals, kinds: Collection[Kind]) -> bool:
    return vitals.job is None and any(kind.fits(vitals) for kind in kinds)


def _holders(builders: Mapping[int, Vitals]) -> dict[int, int | None]:
    return {each.id: each.master_id for each in builders.values()}


@dataclass(frozen=True)
class _Look:
    """What was read."""

    only: Collection[int] | None  # The builders that were looked at; None: all.
    builders: dict[int, Vitals]
    waiting: dict[Kind, float]


def _read(connection: Connection, only: Collection[int] | None, commits: Commits | None) -> _Look:
    """Look at these builders and those that others have changed; None: at all."""
    by_others = None if commits is None else commits.by_others(connection)
    only = None if only is None or by_others is None else {*only, *by_others}
    found = {} if only is not None and not only else builders.vitals(connection, only)
    return _Look(only, found, queue.waiting(connection))
