"""Looks at the build-dependencies of builds before builders get them, and again when archives have changed.

A build that is queued is looked at before it is given to a builder: who lacks something becomes a DEP_WAIT at once, and
no builder is used. While builds wait for dependencies, their archives are asked every few seconds whether they have
changed, and all that wait are looked at when they have. Where nobody can tell, since the lists of an archive cannot be
had, builds are let pass: the builder will tell. See depwaits.py for what is recorded; nothing is kept here that may not
be forgotten. Masters that share a farm each look, and what the first of them finds counts.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from buildmaster import depwaits
from buildmaster.apt_sources import chroot_sources
from buildmaster.chroot_system import System
from buildmaster.credentials import NOWHERE, Access
from buildmaster.database import DatabaseLost
from buildmaster.depwaits import Archives, Place, Question
from buildmaster.farm import Farm
from buildmaster.looking import LOOKS_MAX, CannotLook, Look, Looker
from buildmaster.package_lists import Changed, Curiosity, Lists, ListSource, NoLists, fetch, sweep, use
from buildmaster.ports import IMasterReactor
from buildmaster.programs import Children, ProgramFailed
from buildmaster.snapshot import Snapshot
from buildmaster.store import NotStored, Sha256
from buildmaster.turns import DATABASE_AGAIN_S, Turns

P = ParamSpec("P")
T = TypeVar("T")

_SETTLE_S = 0.02  # Between two looks at what is new, however much is committed,
_TICK_S = 0.1  # and though nothing is; they cost microseconds then.
_FETCHERS = 4  # So many archives are asked, and lists fetched, at once.
_APT_AGAIN_S = 15.0  # Where only apt can tell whether an archive has changed, or the lists could not be had.
_LATELY_S = 1800.0  # Who uploaded so lately will perhaps upload again.
_REST = 4  # Times as long as it took: being early may take a fifth of a processor, however much is published.
_SWEEP_S = 3600.0  # Between two looks for lists that nobody uses any more.
_RETAKE_S = 60.0  # However quiet it is: a commit that was missed costs a minute, and not for ever.
_SYSTEM_S = 600.0  # To read a chroot tarball.
_SYSTEMS_KEPT = 20  # Of some 300 kB each.
FOLDER = "lists"  # In the farm's directory.


@dataclass
class _Shelf:
    """Lists that may be kept up to date; one at a time works on them."""

    curiosity: Curiosity
    lists: Lists | None = None
    asked: float = float("-inf")  # When it was last found out whether they have changed, by the clock,
    # and what was said then, by archive, of when something was published there: several can have the same lines.
    published_at: dict[int, float] = field(default_factory=dict)
    fetched: float = float("-inf")  # When apt last fetched them, or tried to, by the clock.
    trouble: str = ""  # Why they cannot be had.
    turn: DeferredLock = field(default_factory=DeferredLock)


class Examiner:
    """Looks at builds, for one master."""

    log = Logger()

    def __init__(
        self,
        farm: Farm,
        reactor: IMasterReactor,
        snapshot: Snapshot,
        poll_s: float,
        *,
        proxy: str = "",
        archives: Access = NOWHERE,
        now: Callable[[], float] = time.time,
    ) -> None:
        """:param poll_s: how often archives that builds wait for are asked whether they have changed.
        :param proxy: the http proxy by which they are asked; "": what the environment says.
        :param archives: that we publish.
        """
        self._archives = archives
        self._farm = farm
        self._reactor = reactor
        self._snapshot = snapshot
        self._poll_s = poll_s
        self._proxy = proxy
        self._now = now
        self._seen = (-1, -1)  # What the snapshot had seen of the database when the following was read.
        self._unlooked: set[Place] = set()
        self._waiting: set[Place] = set()
        self._waiting_known = float("-inf")  # When that was read, by the clock,
        self._waiting_seen = (-1, -1)  # and what the snapshot had seen.
        self._busy: dict[Place, Deferred[None]] = {}
        self._attended: dict[Place, float] = {}  # When, by the clock.
        self._published = 0.0
        self._when_published: dict[int, float] = {}  # By archive, as that was last read.
        self._lately: dict[Place, float] = {}  # Where something was queued, and when, by the clock.
        self._rests: dict[Place, float] = {}  # Until when nothing is done ahead, by the clock.
        self._ahead: set[Place] = set()  # Of those, whose lists are to be brought up to date with nobody asking.
        self._shelves: dict[str, _Shelf] = {}
        self._systems: dict[Sha256, System | None] = {}
        self._children = Children()
        self._looker = Looker()
        self._looking = ThreadPool(1, 1, name="looking")
        self._fetching = ThreadPool(0, _FETCHERS, name="fetching")
        what = "looking at build-dependencies"
        times = {"least_s": _SETTLE_S, "most_s": _TICK_S, "after_error_s": _APT_AGAIN_S}
        self._turns = Turns(reactor, self.log, what, self._turn, **times)
        sweeps = {"least_s": _SWEEP_S, "most_s": _SWEEP_S, "after_error_s": _SWEEP_S}
        self._sweeps = Turns(reactor, self.log, "removing package lists that nobody uses", self._sweep, **sweeps)
        self._stopping = False

    def start(self) -> None:
        """Begin."""
        self._looking.start()
        self._fetching.start()
        self._snapshot.on_news = self._turns.call
        self._turns.start()
        self._sweeps.start()

    async def stop(self) -> None:
        """End all of it, wherever it is: the next master goes on from there."""
        self._stopping = True
        self._snapshot.on_news = lambda: None
        self._looker.close()
        self._children.close()
        await self._turns.stop()
        await self._sweeps.stop()
        for task in list(self._busy.values()):
            task.cancel()
            await task
        for pool in (self._looking, self._fetching):  # They wait for what an archive is asked, for some seconds.
            await self._in(self._reactor.getThreadPool(), pool.stop)

    async def _sweep(self) -> None:
        try:
            for key in await self._in(self._fetching, sweep, self._farm.directory / FOLDER, self._now()):
                self._shelves.pop(key, None)
                self.log.info("removed package lists that nobody has used for a week: {key}", key=key)
        except OSError as exc:
            self.log.warn("package lists that nobody uses are not removed: {exc}", exc=exc)

    async def _turn(self) -> None:
        """See what there is to do, and begin with it."""
        now, seen = self._reactor.seconds(), (self._snapshot.news, self._snapshot.taken)
        if seen != self._seen:
            self._unlooked, published = await self._farm.read(_news)
            if published != self._published:
                self._look_ahead(await self._farm.read(depwaits.when_published))
                self._attended.clear()
                self._waiting_known = float("-inf")
            self._seen, self._published = seen, published
        if now - self._waiting_known >= (self._poll_s if seen != self._waiting_seen else _RETAKE_S):
            self._waiting_known = now
            self._waiting = set(await self._farm.read(depwaits.waiting_places))
            self._waiting_seen = seen
        due = {place for place in self._waiting if now - self._attended.get(place, float("-inf")) >= self._poll_s}
        ahead = {place for place in self._ahead if now >= self._rests.get(place, now)}
        for place in (self._unlooked | due | ahead) - self._busy.keys():
            self._ahead.discard(place)
            if place in self._unlooked:
                self._lately[place] = now
            self._attended[place] = now
            task = self._busy[place] = Deferred.fromCoroutine(self._attend(place))
            task.addBoth(self._attended_to, place, now)

    def _look_ahead(self, when: dict[int, float]) -> None:
        """Have new lists of an archive where something was published before the next source for it comes."""
        since = self._reactor.seconds() - _LATELY_S
        self._lately = {place: told for place, told in self._lately.items() if told > since}
        self._rests = {place: until for place, until in self._rests.items() if place in self._lately}
        changed = {archive for archive, told in when.items() if told != self._when_published.get(archive)}
        self._ahead |= {place for place in self._lately if place.archive_id in changed}
        self._when_published = when

    def _attended_to(self, _: object, place: Place, began: float) -> None:
        del self._busy[place]
        ended = self._reactor.seconds()
        self._rests[place] = ended + _REST * (ended - began)

    async def _attend(self, place: Place) -> None:
        """Look at all that is to be looked at of one place now."""
        try:
            lists = await self._lists(place, await self._farm.read(depwaits.archives_of, place))
            while questions := await self._farm.read(depwaits.unlooked, place, LOOKS_MAX):
                await self._look_at_queued(questions, lists)
            while lists is not None and (
                questions := await self._farm.read(depwaits.waiting, place, lists.state, LOOKS_MAX)
            ):
                await self._look(questions, lists)
        except CancelledError:
            return
        except DatabaseLost:
            await self._pause(DATABASE_AGAIN_S)
        except (CannotLook, OSError) as exc:
            self.log.warn("build-dependencies are not looked at now: {exc}", exc=exc)
            await self._pause()
        except Exception:
            self.log.failure("looking at build-dependencies ended by an error of the master's own; trying again")
            await self._pause()

    async def _pause(self, seconds: float = _APT_AGAIN_S) -> None:
        with suppress(CancelledError):
            await deferLater(self._reactor, seconds)

    async def _look_at_queued(self, questions: list[Question], lists: Lists | None) -> None:
        """Nobody waits for long because nobody can tell: the builder will."""
        known = [question for question in questions if lists is not None and question.relations is not None]
        pass_by = {question.build_id for question in questions}
        try:
            if lists is not None and known:
                await self._look(known, lists)
                pass_by -= {question.build_id for question in known}
        except CannotLook as exc:
            if self._stopping:
                raise
            self.log.warn("builds are dispatched without a look at their build-dependencies: {exc}", exc=exc)
        if pass_by:
            await self._farm.transact(depwaits.let_pass, sorted(pass_by), self._now())

    async def _look(self, questions: list[Question], lists: Lists) -> None:
        """:raises CannotLook: nothing is recorded."""
        looks = [Look(question.relations or "", question.arch_indep, question.profiles) for question in questions]
        lacks = await self._in(self._looking, self._looker.look, lists, looks)
        verdicts = {question.build_id: lack for question, lack in zip(questions, lacks, strict=True)}
        changed = await self._farm.transact(depwaits.settle, verdicts, lists.state, self._now())
        for build_id, state in changed.items():
            lack = verdicts[build_id]
            why = lack.reason if lack is not None else "its build-dependencies are there"
            self.log.info("build {build}: now {state}: {why}", build=build_id, state=state, why=why)

    # What the archives have

    async def _lists(self, place: Place, archives: Archives) -> Lists | None:
        """The lists of a place, no older than the archives as they were asked last. None: they cannot be had."""
        try:
            system = await self._system(archives.chroot)
        except (NotStored, ProgramFailed, OSError) as exc:
            self.log.warn("the chroot {chroot} cannot be read: {exc}", chroot=archives.chroot, exc=exc)
            return None
        if system is None or archives.chroot is None:
            return None
        sources = archives.sources.complete(chroot_sources(system.files))
        lines = sources.at(self._archives.url, self._archives.of_farm())
        source = ListSource(archives.chroot, system, lines, sources.keys, archives.architecture)
        shelf = self._shelves.setdefault(source.key, _Shelf(Curiosity(self._proxy)))
        await shelf.turn.acquire()
        try:
            await self._bring_up_to_date(shelf, source, place.archive_id, archives.changed_at)
        finally:
            shelf.turn.release()
        return shelf.lists

    async def _bring_up_to_date(self, shelf: _Shelf, source: ListSource, archive: int, published_at: float) -> None:
        now = self._reactor.seconds()
        published = published_at != shelf.published_at.get(archive, 0.0)  # By clocks that may be wrong.
        if not use(self._farm.directory / FOLDER / source.key, self._now()) and shelf.lists is not None:
            shelf.lists, shelf.asked, shelf.fetched = None, float("-inf"), float("-inf")  # Another master has swept.
        # Half, or every other time that a place is due it would be so some milliseconds too early.
        if now - shelf.asked < self._poll_s / 2 and not published:
            return
        shelf.asked, shelf.published_at[archive] = now, published_at
        changed = Changed.UNKNOWN
        if shelf.lists is not None:
            changed = await self._in(self._fetching, shelf.curiosity.changed, shelf.lists)
        rarely = changed is Changed.UNKNOWN and not published and now - shelf.fetched < _APT_AGAIN_S
        if changed is Changed.NO or rarely:
            return
        shelf.fetched, trouble = now, ""
        try:
            await self._fetch(shelf, source, changed)
        except NoLists as exc:
            trouble = str(exc)
        if trouble and trouble != shelf.trouble:
            self.log.warn("package lists cannot be had: {trouble}", trouble=trouble)
        shelf.trouble = trouble

    async def _fetch(self, shelf: _Shelf, source: ListSource, changed: Changed) -> None:
        before, folder = shelf.lists, self._farm.directory / FOLDER / source.key
        try:
            shelf.lists = await self._in(self._fetching, fetch, folder, source, self._children, self._proxy)
            if changed is not Changed.YES or before is None or shelf.lists.releases != before.releases:
                return
        except NoLists:
            if changed is not Changed.YES:
                raise
        # apt was told that there is nothing newer than what it has, release file or list, by a date that both have.
        again = {"forget": True}
        shelf.lists = await self._in(self._fetching, fetch, folder, source, self._children, self._proxy, **again)

    async def _system(self, chroot: Sha256 | None) -> System | None:
        """What is known of a chroot, which is read when that was not done before. None: there is no such thing."""
        if chroot is None:
            return None
        if chroot not in self._systems:
            packed = await self._farm.read(depwaits.system, chroot)
            if packed is None:
                packed = await self._in(self._fetching, self._read_system, chroot)
                own = chroot_sources(System.parse(packed).files if packed else {})
                await self._farm.transact(depwaits.keep_system, chroot, packed, own)
            while len(self._systems) >= _SYSTEMS_KEPT:
                self._systems.pop(next(iter(self._systems)))
            self._systems[chroot] = System.parse(packed) if packed else None
        return self._systems[chroot]

    def _read_system(self, chroot: Sha256) -> bytes:
        """Blocks. Empty when there is nothing of the kind in it."""
        with self._farm.store.open(chroot) as tarball:
            try:
                return self._children.run("buildmaster.chroot_system", limit_s=_SYSTEM_S, source=tarball)
            except ProgramFailed as exc:
                if self._stopping:
                    raise
                self.log.warn("builds in chroot {chroot} are not looked at: {exc}", chroot=chroot, exc=exc)
                return b""

    async def _in(self, pool: ThreadPool, function: "Callable[P, T]", *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await deferToThreadPool(self._reactor, pool, function, *args, **kwargs)
        return result


def _news(connection: Connection) -> tuple[set[Place], float]:
    """Where something is to be looked at, and what changes when something was published."""
    return set(depwaits.unlooked_places(connection)), depwaits.publications(connection)
