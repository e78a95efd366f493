"""Publishes what there is to publish, for one master: as soon as something was committed, and when it is time.

Masters that share a farm all look; the first of them to come to an archive publishes it, the others find nothing left.
What fails is told once, and tried again after pauses that grow; meanwhile what apt sees stays as it was.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from buildmaster import holding, publications, repositories
from buildmaster.database import DatabaseLost
from buildmaster.farm import Farm
from buildmaster.ports import IMasterReactor
from buildmaster.publications import Suite
from buildmaster.publishing.publication import Busy, Outcome, Press
from buildmaster.publishing.troubles import in_words, is_expected
from buildmaster.publishing.upkeep import EVERY_S, Upkeep
from buildmaster.snapshot import Snapshot
from buildmaster.suites import PublishedMeanwhile
from buildmaster.turns import DATABASE_AGAIN_S, Turns

_TICK_S = 0.05  # Between two looks whether something was committed; they cost microseconds,
_SETTLE_S = 0.1  # and to look what was costs a query: in a farm that is busy once for several commits.
_LOOK_S = 30.0  # However quiet it is: what is due by time, and what was missed.
_AT_ONCE = 2  # Archives.
_PAUSES_S = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # After the first failure, the second ...
_REST_S = 1.0  # An archive rests for as long as its publication took, or so long: what comes meanwhile goes together.
_WARN_AGAIN_S = 86400.0


@dataclass
class _Failing:
    """An archive that cannot be published."""

    times: int
    until: float  # It is not tried before, by the clock.
    words: str


class Publisher:
    """Publishes archives, for one master."""

    log = Logger()

    def __init__(self, farm: Farm, reactor: IMasterReactor, snapshot: Snapshot, press: Press) -> None:
        self._farm = farm
        self._reactor = reactor
        self._snapshot = snapshot
        self._press = press
        self._pool = ThreadPool(0, _AT_ONCE, name="publishing")
        self._seen = -1  # What the snapshot had counted of commits when it was last looked for work,
        self._looked = float("-inf")  # and when that was, by the clock.
        self._wanted: dict[int, list[Suite]] = {}  # By archive.
        self._busy: dict[int, Deferred[None]] = {}
        self._failing: dict[int, _Failing] = {}
        self._rests: dict[int, float] = {}  # Until when an archive is left alone, by the clock.
        self._warned: dict[str, float] = {}  # When it was said last, of which key what, by the clock.
        times = {"least_s": _TICK_S, "most_s": _TICK_S, "after_error_s": _PAUSES_S[2]}
        self._turns = Turns(reactor, self.log, "looking for what to publish", self._turn, **times)
        upkeep = {"least_s": EVERY_S, "most_s": EVERY_S, "after_error_s": EVERY_S}
        self._upkeep = Turns(
            reactor, self.log, "looking after archives", Upkeep(reactor, self._pool, press).look, **upkeep
        )

    def start(self) -> None:
        """Begin."""
        self._pool.start()
        self._turns.start()
        self._upkeep.start()

    async def stop(self) -> None:
        """End, once what is being published is."""
        await self._turns.stop()
        await self._upkeep.stop()
        for each in list(self._busy.values()):
            await each
        await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._pool.stop)

    async def _turn(self) -> None:
        """See what there is to publish, and begin with it."""
        now, seen = self._reactor.seconds(), self._snapshot.generation
        if now - self._looked >= (_LOOK_S if seen == self._seen else _SETTLE_S):
            self._seen, self._looked = seen, now
            is_over, suites = await self._farm.read(_news, self._press.now())
            if is_over:
                await self._farm.transact(holding.let_go_by_time, self._press.now())
            self._wanted = _by_archive(suites)
        for archive_id in self._wanted.keys() - self._busy.keys():
            failing = self._failing.get(archive_id)
            if now >= (self._rests.get(archive_id, 0.0) if failing is None else failing.until):
                wanted = self._wanted.pop(archive_id)
                task = self._busy[archive_id] = Deferred.fromCoroutine(self._publish(archive_id, wanted))
                task.addBoth(self._published, archive_id)

    def _published(self, _: object, archive_id: int) -> None:
        del self._busy[archive_id]
        self._seen = -1  # There may be more by now.

    async def _publish(self, archive_id: int, wanted: list[Suite]) -> None:
        """Publish suites of one archive."""
        name, began = str(archive_id), self._reactor.seconds()
        try:
            name = (await self._farm.read(repositories.get, archive_id)).words
            await self._publish_all(wanted)
        except (Busy, PublishedMeanwhile):
            self._failing[archive_id] = _Failing(0, self._reactor.seconds() + _PAUSES_S[0], "")
        except DatabaseLost:  # Told once, where it is found.
            self._failing[archive_id] = _Failing(0, self._reactor.seconds() + DATABASE_AGAIN_S, "")
        except Exception as error:
            self._failed(archive_id, name, error)
        else:
            ended = self._reactor.seconds()
            self._rests[archive_id] = ended + min(ended - began, _REST_S)
            if (failing := self._failing.pop(archive_id, None)) and failing.words:
                self.log.info("archive {archive} can be published again", archive=name)

    async def _publish_all(self, wanted: Iterable[Suite]) -> None:
        """Publish suites one after the other, also those that come after one that fails; then fail as the first did."""
        failed: Exception | None = None
        for where in wanted:
            try:
                self._tell(await deferToThreadPool(self._reactor, self._pool, self._press.publish, where))
            except (Busy, DatabaseLost):
                raise
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _tell(self, outcome: Outcome) -> None:
        if outcome.changed:
            self.log.info(
            "published {name}: generation {generation}, {entered} packages new, {left} gone",
            name=outcome.name, generation=outcome.generation, entered=outcome.entered, left=outcome.left,
        )  # fmt: skip
        for words in outcome.refused:
            self.log.warn("{name}: not published: {words}", name=outcome.name, words=words)
        now = self._reactor.seconds()
        if outcome.warning and now - self._warned.get(outcome.warning, float("-inf")) > _WARN_AGAIN_S:
            self._warned[outcome.warning] = now
            self.log.warn("{name}: {words}", name=outcome.name, words=outcome.warning)

    def _failed(self, archive_id: int, name: str, error: Exception) -> None:
        before = self._failing.get(archive_id) or _Failing(0, 0.0, "")
        pause_s = _PAUSES_S[min(before.times, len(_PAUSES_S) - 1)]
        words = in_words(error)
        if isinstance(error, OSError):
            words += "; where archives are kept, [archives] directory in buildmaster.conf says"
        self._failing[archive_id] = _Failing(before.times + 1, self._reactor.seconds() + pause_s, words)
        if words == before.words:
            return
        if is_expected(error):
            self.log.error("archive {archive} cannot be published; trying again: {words}", archive=name, words=words)
        else:
            self.log.failure("archive {archive} cannot be published, by an error of the master's own", archive=name)


def _news(connection: Connection, now: float) -> tuple[bool, list[Suite]]:
    """Whether something was held for long enough, and what there is to publish."""
    if not repositories.are_there(connection):  # On a busy farm this is asked ten times a second.
        return False, []
    return holding.is_over(connection, now), publications.suites_with_work(connection, now)


def _by_archive(suites: Iterable[Suite]) -> dict[int, list[Suite]]:
    found: dict[int, list[Suite]] = defaultdict(list)
    for each in suites:
        found[each.archive_id].append(each)
    return dict(found)
