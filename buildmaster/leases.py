"""Which builders are this master's: held by leases that it renews, shared fairly with the other masters of the farm.

docs/masters.md tells how it works, and what happens to a master that is killed or hangs at any moment.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from buildmaster import leasing, masters
from buildmaster.acts import Acts, Allowed
from buildmaster.builders import Vitals
from buildmaster.database import DatabaseLost
from buildmaster.farm import Farm
from buildmaster.masters import LeaseLost
from buildmaster.ports import IMasterReactor
from buildmaster.snapshot import Snapshot

P = ParamSpec("P")
T = TypeVar("T")

_ACTS_END_S = 3.0  # So long a master that ends waits for calls that are under way.
_LATER_S = 0.02  # A lease is looked at so much later than it is over.
_AGAIN_S = 0.5  # After a turn that failed.
_ALONE_LEASE_S = 60.0  # Of a master that nobody waits for.


class Patrols(Protocol):
    """What leases need to know and ask of the scans of all builders."""

    def adjust(self) -> None:
        """Scan the builders that are held, and no others."""

    def resting(self, count: int) -> list[int]:
        """So many builders, or fewer, whose scans are between two steps; those without a build first. If there are
        fewer, some of the others will rest soon, and balance() is called."""

    def end(self, builder_ids: Collection[int]) -> Awaitable[Any]:
        """End the scans of these builders."""


class Tenure(Protocol):
    """Whether a builder is this master's, as those ask who work for builders."""

    acts: Acts

    def holds(self, vitals: Vitals) -> bool:
        """Whether a builder, as it was just now, is this master's."""

    def inherited(self, builder_id: int) -> bool:
        """Whether it was that of a master that fell silent."""

    def allowed(self) -> Allowed:
        """Something that raises LeaseLost as soon as what is this master's now may not be acted on any more."""

    async def transact(
        self, builder_id: int, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run function(connection, ...) in a writing transaction in which this master has that builder.

        :raises LeaseLost: it has not; nothing was written.
        """

    def balance(self) -> None:
        """The picture of the builders has changed."""

    async def start(self, patrols: Patrols) -> None:
        """Begin to take builders."""

    async def seize(self) -> None:
        """Take all builders that nobody holds, in place of start(): for who scans them once, and is alone."""

    async def stop(self) -> None:
        """Let others have them; after the scans have ended."""


class Unshared:
    """The tenure of who is the only master for certain: all builders are its own."""

    def __init__(self, farm: Farm) -> None:
        self.acts = Acts()
        self._farm = farm

    def holds(self, vitals: Vitals) -> bool:
        return True

    def inherited(self, builder_id: int) -> bool:
        return False

    def allowed(self) -> Allowed:
        return lambda: None

    async def transact(
        self, builder_id: int, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._farm.transact_about(builder_id, function, *args, **kwargs)

    def balance(self) -> None:
        """There is nobody to share with."""

    async def start(self, patrols: Patrols) -> None:
        patrols.adjust()

    async def seize(self) -> None:
        """They are ours."""

    async def stop(self) -> None:
        """Nobody waits for them."""


class Leases:
    """The tenure of one of several masters."""

    log = Logger()

    def __init__(
        self,
        farm: Farm,
        snapshot: Snapshot,
        reactor: IMasterReactor,
        clock: Callable[[], float],
        *,
        name: str,
        lease_s: float,
        alone: bool = False,
    ) -> None:
        """Call start() in order to hold anything.

        :param clock: seconds; nobody can set it, and it goes on while the machine sleeps.
        :param alone: it is certain that no other master runs.
        """
        self.acts = Acts()
        self.me: int | None = None  # Our id, while we are one of the masters.
        self._farm = farm
        self._snapshot = snapshot
        self._reactor = reactor
        self._clock = clock
        self._name = name
        self._lease_s = max(_ALONE_LEASE_S, lease_s) if alone else lease_s
        self._alone = alone
        self._acts_until = 0.0  # By the clock.
        self._others: frozenset[int] = frozenset()
        self._watch = leasing.Watch()
        self._leaving: set[int] = set()  # Builders whose scans have been ended, so that others may have them.
        self._inherited: set[int] = set()
        self._patrols: Patrols | None = None
        self._sleep: Deferred[None] | None = None
        self._running: Deferred[None] | None = None
        self._thread = ThreadPool(0, 1, name="leases")
        self._ending = False
        self._beat_due = 0.0  # By the clock.
        self._since = 0  # The generation of the snapshot that knows of what we took or handed over last.
        self._troubles = False  # The last turn failed.

    # As those ask who work for builders

    def holds(self, vitals: Vitals) -> bool:
        return self.me is not None and vitals.master_id == self.me and vitals.id not in self._leaving

    def inherited(self, builder_id: int) -> bool:
        return builder_id in self._inherited

    def allowed(self) -> Allowed:
        me = self.me

        def check() -> None:
            if me is None or me != self.me:
                raise LeaseLost("others have taken this master's builders")
            if not self._alone and self._clock() > self._acts_until:
                raise LeaseLost("the database was not reached for so long that others may have taken the builder")

        return check

    async def transact(
        self, builder_id: int, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        me = self.me
        if me is None:
            raise LeaseLost("others have taken this master's builders")

        @wraps(function)
        def confirmed(connection: Connection) -> T:
            masters.confirm(connection, me, builder_id)
            return function(connection, *args, **kwargs)

        return await self._farm.transact_about(builder_id, confirmed)

    # Coming, going and being heard

    async def start(self, patrols: Patrols) -> None:
        self._patrols = patrols
        self._thread.start()
        await self._join()
        self._running = Deferred.fromCoroutine(self._run())

    async def seize(self) -> None:
        self._thread.start()
        await self._join()
        await self._write(masters.take, self.me or 0, len(self._snapshot.builders))

    async def stop(self) -> None:
        self._ending = True
        self.balance()
        if self._running is not None:
            await self._running
        await self.acts.ended(self._reactor, _ACTS_END_S)
        me, self.me = self.me, None
        try:
            if me is not None:
                await self._write(masters.leave, me)
        except DatabaseLost as error:  # The others will notice.
            self.log.warn("could not leave the farm: {error}", error=error)
        finally:
            self._thread.stop()

    async def _write(self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run function(connection, ...) in a writing transaction, in a thread for this alone: all others may be waiting
        for what a master that hangs has locked, and this master must be heard nevertheless."""

        def run() -> T:
            with self._farm.transaction(told=function is not masters.beat) as connection:
                return function(connection, *args, **kwargs)

        result: T = await deferToThreadPool(self._reactor, self._thread, run)
        return result

    def balance(self) -> None:
        if self._sleep is not None:
            self._sleep.cancel()

    async def _run(self) -> None:
        while not self._ending:
            try:
                await self._turn()
                self._troubles = False
            except Exception as error:  # If the database is away, it may come back.
                if not self._troubles:
                    tell = self.log.error if isinstance(error, DatabaseLost) else self.log.failure
                    tell("cannot renew the leases on builders; trying again: {error}", error=error)
                self._troubles = True
                self._beat_due = max(self._beat_due, self._clock() + _AGAIN_S)
            if not self._ending:
                await self._rest()

    async def _rest(self) -> None:
        """Wait for the next beat, or until something has changed."""
        self._sleep = deferLater(self._reactor, max(0.01, self._beat_due - self._clock()))
        with suppress(CancelledError):
            await self._sleep
        self._sleep = None

    async def _turn(self) -> None:
        if self.me is None:
            await self._join()
        if self._clock() >= self._beat_due:
            await self._beat()
        if self.me is not None and self._snapshot.taken >= self._since:
            await self._balance(self.me)

    async def _join(self) -> None:
        asked = self._clock()
        self.me = await self._write(masters.join, self._name, self._lease_s, self._alone)
        self._heard(asked)
        self._beat_due = asked  # It tells who else there is, before anything is taken that is more than our share.
        self.log.info("{name} is master {me} of this farm", name=self._name, me=self.me)

    def _heard(self, asked: float) -> None:
        self._acts_until = leasing.acts_until(asked, self._lease_s)
        self._beat_due = asked + leasing.beat_every_s(self._lease_s)

    async def _beat(self) -> None:
        asked, me = self._clock(), self.me
        assert me is not None
        try:
            beats = await self._write(masters.beat, me)
        except LeaseLost as error:
            self._lose(str(error))
            return
        self._heard(asked)
        others = [each for each in beats if each.master_id != me]
        silent_ones = self._watch.silent(others, self._clock())
        self._beat_due = min(self._beat_due, self._watch.next_over() + _LATER_S)  # A beat is a look as well.
        for silent in silent_ones:
            if await self._write(masters.bury, silent):
                self.log.warn("master {other} was not heard any more: its builders are free", other=silent.master_id)
                others.remove(silent)
        self._others = frozenset(each.master_id for each in others)

    def _lose(self, reason: str) -> None:
        """Others have buried us: nothing is ours any more. The next turn begins anew, under another id."""
        self.log.warn("{reason}", reason=reason)
        self.me = None
        self._leaving.clear()
        self._inherited.clear()
        self._beat_due = self._clock()
        assert self._patrols is not None
        self._patrols.adjust()

    # Sharing

    async def _balance(self, me: int) -> None:
        """Take what is free, up to our share; hand over what is more than that."""
        everyone = self._snapshot.builders.values()
        if self._leaving:  # The picture is a newer one: what it still shows as ours was not handed over.
            self._leaving.clear()
            assert self._patrols is not None
            self._patrols.adjust()
        mine = sum(self.holds(each) for each in everyone)
        free = sum(each.master_id != me and each.master_id not in self._others for each in everyone)
        missing = leasing.share(me, self._others, len(everyone)) - mine
        if missing > 0 and free:
            await self._take(me, missing)
        elif missing < 0:
            await self._hand_over(me, -missing)

    async def _take(self, me: int, count: int) -> None:
        taken = await self._write(masters.take, me, count)
        self._snapshot.stale()
        self._since = self._snapshot.generation
        if taken:
            self._inherited |= {each.builder_id for each in taken if each.inherited}
            self.log.info("builders taken: {count}", count=len(taken))

    async def _hand_over(self, me: int, count: int) -> None:
        assert self._patrols is not None
        chosen = self._patrols.resting(count)
        if not chosen:
            return
        self._leaving |= set(chosen)
        await self._patrols.end(chosen)
        try:
            await self._write(masters.release, me, chosen)
        finally:  # Whether they are another's now the next picture tells, if nobody else does.
            self._snapshot.stale()
            self._since = self._snapshot.generation
        self._inherited -= set(chosen)
        self.log.info("handed over {count} builders", count=len(chosen))
