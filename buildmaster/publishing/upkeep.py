"""What is done to archives now and then, for one master: snapshots are taken, and what nobody needs is removed."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from buildmaster.database import DatabaseLost
from buildmaster.ports import IMasterReactor
from buildmaster.publishing import cleaning, keeping
from buildmaster.publishing.publication import Busy, Press
from buildmaster.publishing.troubles import in_words, is_expected

T = TypeVar("T")

EVERY_S = 600.0


class Upkeep:
    """Looks after archives. What cannot be done now is done the next time."""

    log = Logger()

    def __init__(self, reactor: IMasterReactor, pool: ThreadPool, press: Press) -> None:
        self._reactor = reactor
        self._pool = pool
        self._press = press

    async def look(self) -> None:
        """Do what there is to do. To be called every EVERY_S."""
        for archive_id in await self._in_thread(keeping.due, self._press):
            kept = await self._of("no snapshot is taken of archive {archive}", keeping.keep, archive_id)
            if kept is not None and kept.words:
                self.log.info("archive {archive}: {what}", archive=archive_id, what=kept.words)
        for archive_id in await self._in_thread(cleaning.archives, self._press):
            words = "files that nobody needs are not removed from the pool of archive {archive}"
            cleaned = await self._of(words, cleaning.clean, archive_id)
            if cleaned is not None and cleaned.files:
                self.log.info("removed {files} files from the pool of archive {archive}, which nobody needs any more",
                              files=len(cleaned.files), archive=archive_id)  # fmt: skip

    async def _of(self, words: str, act: Callable[[Press, int], T], archive_id: int) -> T | None:
        """Do something to an archive. None: it cannot be done now.

        :param words: what that means.
        """
        try:
            return await self._in_thread(act, self._press, archive_id)
        except CancelledError:
            raise
        except (Busy, DatabaseLost):
            return None
        except Exception as error:
            if is_expected(error):
                why = in_words(error)
                self.log.error(words + "; it is tried again in some minutes: {why}", archive=archive_id, why=why)
            else:
                self.log.failure(words + ", by an error of the master's own", archive=archive_id)
            return None

    async def _in_thread(self, act: Callable[..., T], *arguments: object) -> T:
        return await deferToThreadPool(self._reactor, self._pool, act, *arguments)
