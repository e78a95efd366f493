"""The results of one build in the file cache: taken all or none, and kept until they are let go."""

from collections.abc import Mapping
from pathlib import Path

from buildd.filecache import FileCache
from buildd.managers.base import InThread
from buildd.protocol import FileName, Sha1


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
        try:
            for name, path in files.items():
                sha1 = await self._in_thread(self._cache.adopt, path)
                self._cache.pin([sha1])
                self.filemap[name] = sha1
        except BaseException:
            await self.let_go()
            raise

    async def let_go(self) -> None:
        """Let them go, but for those that someone else needs."""
        sha1s = list(self.filemap.values())
        self.filemap.clear()
        self._cache.unpin(sha1s)
        for sha1 in set(sha1s):
            await self._in_thread(self._cache.forget, sha1)
