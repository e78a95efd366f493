"""Send builders the files of the builds that they will likely get next, while they still build.

It goes on beside the scans, which neither wait for it nor hear of it: what fails here is nobody's fault, and what a
builder lacks then, dispatch sends. What a guess is, ahead.py says.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from buildd.protocol import Sha1
from buildmaster import orders, queue
from buildmaster.ahead import LOOK_EVERY_S, ORDERS, Running, budget, turn
from buildmaster.builder_client import BuilderClient
from buildmaster.builder_http import BuilderError
from buildmaster.builders import Job, Vitals
from buildmaster.database import DatabaseLost
from buildmaster.dispatch import Dispatcher
from buildmaster.farm import Farm
from buildmaster.orders import BuildOrder
from buildmaster.snapshot import Snapshot

K = TypeVar("K")

_AT_ONCE = 16  # Builders of the whole farm: what is needed now has the bandwidth.
# What a builder was sent is there for so long: our own daemon keeps it twice as long, also where room is short.
_STAYS_S = 300.0


@dataclass
class _Sent:
    """What was done for a builder during one build."""

    build_id: int
    files: dict[Sha1, float] = field(default_factory=dict)  # And when; also during the builds before.
    builds: dict[int, float] = field(default_factory=dict)  # Those that it has all files of, and since when.
    looked_at: float | None = None
    near_end: bool = False  # At the last look;
    waiting: object = None  # and what waited then.
    going: Deferred[None] | None = None


class SendingAhead:
    """Sends files ahead, to all builders of a farm."""

    log = Logger()

    def __init__(
        self,
        farm: Farm,
        snapshot: Snapshot,
        *,
        dispatcher: Dispatcher,
        client: Callable[[str], BuilderClient],
        now: Callable[[], float],
        limit_bytes: int,
    ) -> None:
        """:param limit_bytes: how much one builder is sent at once; 0: nothing."""
        self._farm = farm
        self._snapshot = snapshot
        self._dispatcher = dispatcher
        self._client = client
        self._now = now
        self._limit = limit_bytes
        self._sent: dict[int, _Sent] = {}  # By builder.
        self._turns = DeferredSemaphore(_AT_ONCE)

    def look(self, vitals: Vitals, *, has_wait: bool) -> None:
        """Begin to send something, if it is time to. Called at each scan of a build that runs; returns at once.

        :param has_wait: see ahead.budget().
        """
        if vitals.job is None or vitals.manual or not self._limit or not self._snapshot.may_have_work(vitals):
            return
        if self._dispatcher.is_reset(vitals):  # What is sent now would be thrown away with the machine.
            return
        sent = self._sent.get(vitals.id)
        if sent is None or (sent.build_id != vitals.job.build_id and sent.going is None):
            sent = self._sent[vitals.id] = self._after(sent, vitals.job.build_id)
        mine = self._running(vitals, vitals.job)
        if sent.going is not None or not self._is_due(sent, mine):
            return
        sent.looked_at, sent.near_end, sent.waiting = self._now(), mine.near_end, self._snapshot.waiting
        place = turn(mine, self._alike(vitals))
        if place is None:
            return
        limit = budget(mine.near_end, has_wait, self._limit)
        sent.going = Deferred.fromCoroutine(self._send(vitals, sent, place, limit))
        sent.going.addErrback(self._failed, vitals).addBoth(self._ended, sent)

    def _after(self, sent: _Sent | None, build_id: int) -> _Sent:
        """The next build begins: what was done before, as far as it lasts."""
        if sent is None:
            return _Sent(build_id)
        self._forget(sent.files)
        self._forget(sent.builds)
        return _Sent(build_id, sent.files, sent.builds)

    def _forget(self, sent: dict[K, float]) -> None:
        """Forget what is not there any more. What was sent first is first: a look at all would take the longer the more
        was sent, at each build."""
        now = self._now()
        while sent and not 0 <= now - next(iter(sent.values())) < _STAYS_S:
            del sent[next(iter(sent))]

    def _is_due(self, sent: _Sent, mine: Running) -> bool:
        """Once at the beginning, once near the end; and again near the end when other things wait than did."""
        if sent.looked_at is None or mine.near_end > sent.near_end:
            return True
        rested = not 0 <= self._now() - sent.looked_at < LOOK_EVERY_S
        return mine.near_end and rested and sent.waiting != self._snapshot.waiting

    def _alike(self, vitals: Vitals) -> Iterator[Running]:
        """The builders that take what this one takes, as far as they have a build."""
        kind = (vitals.architecture, vitals.virtualised)
        everyone = self._snapshot.builders.values()
        alike = (each for each in everyone if (each.architecture, each.virtualised) == kind and not each.manual)
        return (self._running(each, each.job) for each in alike if each.job is not None and each.enabled)

    def _running(self, vitals: Vitals, job: Job) -> Running:
        return Running(vitals.id, self._now() - job.started_at, job.expected_s)

    async def _send(self, vitals: Vitals, sent: _Sent, place: int, left: int) -> None:
        await self._turns.acquire()
        try:
            client = self._client(vitals.url)  # Of our own: what it does not hear says nothing of the build.
            for order in await self._farm.read(_next, vitals, self._now(), place, sent.builds):
                has_all = True
                for name, file in order.to_send():  # _next() saw to it that there is a chroot.
                    if file.sha1 in sent.files:
                        continue
                    if file.size > left:
                        has_all = False
                        continue
                    if not self._still_builds(vitals, sent):
                        return
                    await client.ensure_present(file.sha1, self._dispatcher.url(file, name))
                    sent.files[file.sha1] = self._now()
                    left -= file.size
                if has_all:
                    sent.builds[order.build_id] = self._now()
        finally:
            self._turns.release()

    def _still_builds(self, vitals: Vitals, sent: _Sent) -> bool:
        now = self._snapshot.builders.get(vitals.id)
        return now is not None and now.enabled and now.job is not None and now.job.build_id == sent.build_id

    def _failed(self, failure: Failure, vitals: Vitals) -> None:
        if isinstance(failure.value, BuilderError | DatabaseLost):  # The latter is told where it is found.
            words = "builder {name}: sending files ahead: {error}"
            self.log.debug(words, name=vitals.name, error=failure.value)
        elif not isinstance(failure.value, CancelledError):
            self.log.failure("builder {name}: cannot send files ahead", failure, name=vitals.name)

    @staticmethod
    def _ended(_result: object, sent: _Sent) -> None:
        sent.going = None

    async def stop(self) -> None:
        """End what goes on."""
        going = [sent.going for sent in self._sent.values() if sent.going is not None]
        for each in going:
            each.cancel()
        await DeferredList(going, consumeErrors=True)


def _next(connection: Connection, vitals: Vitals, now: float, place: int, known: Collection[int]) -> list[BuildOrder]:
    """The orders for those builds that a builder should get, when so many others have taken theirs before; but for
    those that it has all files of."""
    ids = queue.candidates(connection, vitals, now, place + ORDERS)[place:]
    found = [orders.find(connection, build_id) for build_id in ids if build_id not in known]
    return [order for order in found if order.chroot is not None]
