"""Deletes from the store what nobody needs, now and then, for one master; several of a farm may do so at once."""

import time
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from buildmaster import inventory
from buildmaster.farm import Farm
from buildmaster.inventory import How, Report, Wrong
from buildmaster.ports import IMasterReactor
from buildmaster.turns import Turns

FIRST_S = 3600.0  # After the start, which is no time for it; and a master that is started every day comes to it.
_OLDER_THAN_S = 86400.0
_PLAUSIBLE = 100  # So many files may be needed by nobody, however few are known.
_AGAIN_S = 3600.0  # After an error.


class _Stopping(Exception):
    """The master ends; the rest is for the next time."""


class Collector:
    """Looks for files that nothing refers to, and deletes those that are older than a day."""

    log = Logger()

    def __init__(
        self, farm: Farm, reactor: IMasterReactor, every_s: float, now: Callable[[], float] = time.time
    ) -> None:
        """:param every_s: how often; 0: never."""
        self._farm = farm
        self._reactor = reactor
        self._every_s = every_s
        self._now = now
        self._stopping = False
        times = {"least_s": every_s, "most_s": every_s, "after_error_s": _AGAIN_S}
        self._turns = Turns(reactor, self.log, "deleting from the store what nobody needs", self._collect, **times)
        self._first: IDelayedCall | None = None

    def start(self) -> None:
        """Begin, in a while."""
        if self._every_s:
            self._first = self._reactor.callLater(min(FIRST_S, self._every_s), self._turns.start)

    async def stop(self) -> None:
        """End. What is being deleted is, or is not, as when a process ends."""
        self._stopping = True
        if self._first is not None and self._first.active():
            self._first.cancel()
        await self._turns.stop()

    async def _collect(self) -> None:
        look = How(quick=True, older_than_s=_OLDER_THAN_S)
        report = await self._check(look)
        if (unneeded := len(report.of(Wrong.UNREFERENCED))) > max(_PLAUSIBLE, report.files):
            self.log.warn(
                "{unneeded} files of the store are needed by nobody, and the farm knows {all}: is that the store of "
                "another farm, or an old database? Nothing is deleted; `buildmaster store check --delete-unreferenced` "
                "would do it",
                unneeded=unneeded, all=report.files,
            )  # fmt: skip
            return
        if unneeded:
            report = await self._check(replace(look, delete_unreferenced=True))
        deleted = [each for each in report.of(Wrong.UNREFERENCED) if each.deleted]
        self.log.info(
            "looked at the {all} files of the store: {deleted} of them, {size} bytes, are deleted; nobody needs them",
            all=report.files, deleted=len(deleted), size=sum(each.size for each in deleted),
        )  # fmt: skip
        if bad := len(report.of(Wrong.MISSING)) + len(report.of(Wrong.DAMAGED)):
            self.log.warn("{bad} files of the store are missing or damaged: `buildmaster store check`", bad=bad)

    async def _check(self, how: How) -> Report:
        pool = self._reactor.getThreadPool()
        report: Report = await deferToThreadPool(self._reactor, pool, inventory.check, self._farm, how, self._time)
        return report

    def _time(self) -> float:
        """The time, which whoever looks through the store asks for again and again: so he can be stopped here."""
        if self._stopping:
            raise _Stopping
        return self._now()
