"""Files from a builder into the store: streamed, written in threads, digests compared before they count.

A transfer that breaks off goes on where it ended, with what has come of the file. What came whole and is not what its
name promises is fetched anew. Of several files that are fetched at the same time two come from the builder, so that
neither waits for the other's way there and back, while those before them are put into the store: to wait for a disk
takes longer.
"""

import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial as partly
from typing import ParamSpec, TypeAlias, TypeVar

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from buildd.protocol import Sha1
from buildmaster.builder_client import BuilderClient, TooSlow
from buildmaster.builder_http import BodyReader, BuilderError, BuilderUnreachable
from buildmaster.pacing import Allowance
from buildmaster.ports import IMasterReactor
from buildmaster.store import Store, StoredFile, StoreWriter

P = ParamSpec("P")
T = TypeVar("T")

_GZIP = 16 + zlib.MAX_WBITS  # How zlib is told to write gzip's format.
_CUT_HERE = b"\n[cut here by the master: the log is too long]\n"


class WrongDigest(BuilderError):
    """A builder served other content than its name, the SHA-1, promises."""


class TooLong(BuilderError):
    """A builder serves more than a file may have."""


@dataclass(frozen=True)
class Limits:
    """How much is taken from a builder, and how often it is tried."""

    attempts: int = 3
    pause_s: float = 1.0  # Between attempts.
    file_bytes: int = 10 << 30
    log_bytes: int = 2 << 30


class _Discarded(Exception):
    """What has come of a file was thrown away meanwhile, by whom nobody waits for any more."""


class Room:
    """How long the results of a build may be, all together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = self._left = limit_bytes
        self._taken: dict[Sha1, int] = {}

    def take(self, sha1: Sha1, size: int) -> None:
        """So much of a file is there now.

        :raises TooLong: that is more than there may be.
        """
        self._left += self._taken.get(sha1, 0) - size
        self._taken[sha1] = size
        if self._left < 0:
            raise TooLong(f"file {sha1} is longer than the results may be, which are {self._limit} bytes together")


class _Partial(ABC):
    """What has come of a file. Its methods block, but for count(): they are not for the reactor's thread."""

    def __init__(self, store: Store, limit_bytes: int) -> None:
        self.size = 0  # Bytes that have come.
        self.is_full = False  # No more is wanted.
        self._store = store
        self._limit = limit_bytes
        self._writer: StoreWriter | None = None  # Once something came.
        self._turn = threading.Lock()  # Whoever is cancelled leaves a thread that may still be at it.
        self._over = False

    @property
    def writer(self) -> StoreWriter:
        if self._writer is None:
            self._writer = self._store.writer()
        return self._writer

    @abstractmethod
    def count(self, count: int) -> None:
        """So many bytes more have come.

        :raises TooLong: they are too many.
        """

    def take(self, data: bytes) -> None:
        """These are some more, and were counted."""
        with self._turn:
            if not self._over:
                self._take(data)

    def commit(self, data: bytes) -> StoredFile:
        """All has come, with this at its end.

        :raises WrongDigest: it is not what it should be.
        """
        with self._turn:
            if self._over:
                raise _Discarded
            if data:
                self._take(data)
            return self._commit()

    def discard(self) -> None:
        """Leave nothing of it behind. Harmless after commit()."""
        with self._turn:
            self._over = True
            if self._writer is not None:
                self._writer.discard()

    @abstractmethod
    def _take(self, data: bytes) -> None: ...

    @abstractmethod
    def _commit(self) -> StoredFile: ...


class _Result(_Partial):
    """A result, which must be what its name promises."""

    def __init__(self, store: Store, sha1: Sha1, room: Room, limit_bytes: int) -> None:
        super().__init__(store, limit_bytes)
        self._sha1 = sha1
        self._room = room

    def count(self, count: int) -> None:
        self.size += count
        self._room.take(self._sha1, self.size)
        if self.size > self._limit:
            raise TooLong(f"file {self._sha1} is longer than {self._limit} bytes")

    def _take(self, data: bytes) -> None:
        self.writer.write(data)

    def _commit(self) -> StoredFile:
        if self.writer.sha1 != self._sha1:
            raise WrongDigest(f"file {self._sha1} came with the SHA-1 {self.writer.sha1}")
        return self.writer.commit()


class _Log(_Partial):
    """A log, which is gzipped on its way."""

    def __init__(self, store: Store, limit_bytes: int) -> None:
        super().__init__(store, limit_bytes)
        self._packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)

    def count(self, count: int) -> None:
        self.size += count
        self.is_full = self.size > self._limit

    def _take(self, data: bytes) -> None:
        self.writer.write(self._packer.compress(_CUT_HERE if self.is_full else data))

    def _commit(self) -> StoredFile:
        self.writer.write(self._packer.flush())
        return self.writer.commit()


# Asks for a file from an offset on, and until a deadline where that takes time. None: there is nothing.
_Begin: TypeAlias = Callable[[int, float], Awaitable[BodyReader | None]]


class Fetcher:
    """Fetches files from builders into the store."""

    log = Logger()

    def __init__(self, store: Store, reactor: IMasterReactor, limits: Limits) -> None:
        self._store = store
        self._reactor = reactor
        self._limits = limits

    async def file(self, client: BuilderClient, sha1: Sha1, allowance: Allowance, room: Room) -> StoredFile:
        """Fetch a result.

        :param allowance: how long it may take, with whatever else it is for.
        :param room: for it, and whatever else it is for.
        :raises TooLong: it is longer than that, or than any may be.
        :raises TooSlow: the allowance is used up.
        :raises BuilderError: it could not be had, or is not what it should be, in as many attempts as there are.
        :raises OSError: the store is full or broken.
        """

        def make() -> _Partial:
            return _Result(self._store, sha1, room, self._limits.file_bytes)

        stored = await self._fetch(client, sha1, partly(client.file, sha1), make, allowance)
        if stored is None:
            raise BuilderError(f"it has no file {sha1}")
        return stored

    async def log_of(self, client: BuilderClient, allowance: Allowance) -> StoredFile | None:
        """Fetch the log of the build that ended, and store it gzipped. None: the builder has none.

        A log that is too long is cut, and says so.
        :raises TooSlow, BuilderError, OSError: as file() does.
        """

        def make() -> _Partial:
            return _Log(self._store, self._limits.log_bytes)

        return await self._fetch(client, "buildlog", client.log, make, allowance)

    async def _fetch(
        self,
        client: BuilderClient,
        name: str,
        begin: _Begin,
        make: Callable[[], _Partial],
        allowance: Allowance,
    ) -> StoredFile | None:
        """Fetch a file, however many connections that takes, up to the attempts there are."""
        partial, attempt, whole = make(), 1, False
        try:
            while True:
                try:
                    async with client.line:
                        last = await self._take(client, begin, partial, allowance)
                    stored = None if last is None else await self._thread(partial.commit, last)
                    whole = True
                    return stored
                except BuilderError as error:
                    # What comes at the same time may have earned more time since this one began to wait.
                    is_over = isinstance(error, TooLong) or (isinstance(error, TooSlow) and allowance.left_s <= 0)
                    if attempt >= self._limits.attempts or is_over:
                        raise
                    self._tell(client, name, attempt, error)
                    if not isinstance(error, BuilderUnreachable | TooSlow):  # What came is not to be trusted.
                        await self._thread(partial.discard)
                        partial = make()
                attempt += 1
                await deferLater(self._reactor, self._limits.pause_s)
        finally:
            if not whole:
                await self._thread(partial.discard)

    async def _take(
        self, client: BuilderClient, begin: _Begin, partial: _Partial, allowance: Allowance
    ) -> bytes | None:
        """Take what is still to come of a file. Returns the last piece of it, which is not in it yet: most files have
        but one, and to take turns with a thread costs more than to write that. None: the builder has nothing."""
        partial.count(0)  # What came before it may have been too much.
        with _waiting(client, allowance) as deadline:
            body = await begin(partial.size, deadline)
        if body is None:
            return b"" if partial.size else None
        try:
            while not partial.is_full and (data := await self._read(client, body, allowance)):
                partial.count(len(data))
                if body.is_whole:
                    return data
                await self._thread(partial.take, data)
        finally:
            body.drop()
        return b""

    async def _read(self, client: BuilderClient, body: BodyReader, allowance: Allowance) -> bytes:
        """The next piece. Only how long the builder is waited for counts, and not how long our disks take."""
        with _waiting(client, allowance) as deadline:
            data = await client.read(body, deadline)
        allowance.earn(len(data))
        return data

    def _tell(self, client: BuilderClient, name: str, attempt: int, error: BuilderError) -> None:
        self.log.warn(
            "attempt {attempt} to fetch {name} from {url}: {error}",
            attempt=attempt, name=name, url=client.url, error=error,
        )  # fmt: skip

    async def _thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        pool = self._reactor.getThreadPool()
        result: T = await deferToThreadPool(self._reactor, pool, function, *args, **kwargs)
        return result


@contextmanager
def _waiting(client: BuilderClient, allowance: Allowance) -> Iterator[float]:
    """Spend an allowance; says until when it lasts."""
    began = client.now()
    allowance.begin(began)
    try:
        yield began + allowance.left_s
    finally:
        allowance.end(client.now())
