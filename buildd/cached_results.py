"""The results of one build in the file cache: taken all or none, and kept until they are let go."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.python.failure import Failure

from buildd.filecache import FileCache
from buildd.managers.base import InThread
from buildd.protocol import FileName, Sha1

_AT_ONCE = 4  # So many are taken at the same time: each waits for the disk.


class CachedResults:
    """The files that a build has made; none at first."""

    def __init__(self, cache: FileCache, in_thread: InThread) -> None:
        self.filemap: dict[FileName, Sha1] = {}  # Each pinned in the cache.
        self._cache = cache
        self._in_thread = in_thread

    async def take(self, files: Mapping[FileName, Path]) -> None:
        """Move files into the cache. They are whatever a hostile package made of them.

        :raises UntrustedFile: one cannot be a result; none is taken.
        :raises OSError, Stopped: they cannot be kept; none is taken.
        """
        turns, failures = DeferredSemaphore(_AT_ONCE), list[Failure]()
        taken: dict[FileName, Sha1] = {}

        async def take(name: FileName, path: Path) -> None:
            async with turns:
                if not failures:
                    taken[name] = await self._in_thread(self._take, path)

        running = [Deferred.fromCoroutine(take(*file)) for file in files.items()]
        for one in running:
            one.addErrback(failures.append)
        await DeferredList(running)
        self.filemap.update((name, taken[name]) for name in files if name in taken)
        if failures:
            await self.let_go()
            failures[0].raiseException()

    async def let_go(self) -> None:
        """Let them go, but for those that someone else needs."""
        sha1s = list(self.filemap.values())
        self.filemap.clear()
        self._cache.unpin(sha1s)
        if sha1s:
            await self._in_thread(self._forget, set(sha1s))

    # In threads

    def _take(self, path: Path) -> Sha1:
        sha1 = self._cache.adopt(path)
        self._cache.pin([sha1])
        return sha1

    def _forget(self, sha1s: Iterable[Sha1]) -> None:
        for sha1 in sha1s:
            self._cache.forget(sha1)
