"""Files from a builder into the store: streamed, written in threads, digests compared before they count."""

import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from buildd.protocol import Sha1
from buildmaster.builder_client import BuilderClient
from buildmaster.builder_http import BodyReader, BuilderError
from buildmaster.ports import IMasterReactor
from buildmaster.store import Store, StoredFile, StoreWriter

P = ParamSpec("P")
T = TypeVar("T")

_GZIP = 16 + zlib.MAX_WBITS  # How zlib is told to write gzip's format.
_SLOWEST_BYTES_PER_S = 1 << 20  # A file that announces its size has more time than a small one, at this rate.


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


class Fetcher:
    """Fetches files from builders into the store."""

    log = Logger()

    def __init__(self, store: Store, reactor: IMasterReactor, limits: Limits) -> None:
        self._store = store
        self._reactor = reactor
        self._limits = limits

    async def file(self, client: BuilderClient, sha1: Sha1) -> StoredFile:
        """Fetch a result.

        :raises BuilderError: it could not be had, or is not what it should be, in as many attempts as there are.
        :raises OSError: the store is full or broken.
        """
        return await self._again(lambda: self._file_once(client, sha1), client, sha1)

    async def log_of(self, client: BuilderClient) -> StoredFile | None:
        """Fetch the log of the build that ended, and store it gzipped. None: the builder has none.

        A log that is too long is cut, and says so.
        :raises BuilderError: it could not be had.
        :raises OSError: the store is full or broken.
        """
        return await self._again(lambda: self._log_once(client), client, "buildlog")

    async def _again(self, fetch: Callable[[], Awaitable[T]], client: BuilderClient, name: str) -> T:
        for attempt in range(1, self._limits.attempts):
            try:
                return await fetch()
            except BuilderError as error:
                self.log.warn(
                    "attempt {attempt} to fetch {name} from {url}: {error}",
                    attempt=attempt, name=name, url=client.url, error=error,
                )  # fmt: skip
                await deferLater(self._reactor, self._limits.pause_s)
        return await fetch()

    async def _file_once(self, client: BuilderClient, sha1: Sha1) -> StoredFile:
        body = await client.file(sha1)
        deadline = client.now() + _time_for(client, body)
        writer = await self._thread(self._store.writer)
        try:
            while data := await client.read(body, deadline):
                if writer.size + len(data) > self._limits.file_bytes:
                    raise TooLong(f"file {sha1} is longer than {self._limits.file_bytes} bytes")
                await self._thread(writer.write, data)
            if writer.sha1 != sha1:
                raise WrongDigest(f"file {sha1} came with the SHA-1 {writer.sha1}")
            return await self._thread(writer.commit)
        finally:
            body.drop()
            await self._thread(writer.discard)

    async def _log_once(self, client: BuilderClient) -> StoredFile | None:
        body = await client.log()
        if body is None:
            return None
        writer = await self._thread(self._store.writer)
        try:
            await self._compress(client, body, writer)
            return await self._thread(writer.commit)
        finally:
            body.drop()
            await self._thread(writer.discard)

    async def _compress(self, client: BuilderClient, body: BodyReader, writer: StoreWriter) -> None:
        deadline = client.now() + _time_for(client, body)
        packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)

        def pack(data: bytes) -> None:
            writer.write(packer.compress(data))

        size = 0
        while data := await client.read(body, deadline):
            size += len(data)
            if size > self._limits.log_bytes:
                await self._thread(pack, b"\n[cut here by the master: the log is too long]\n")
                break
            await self._thread(pack, data)
        await self._thread(lambda: writer.write(packer.flush()))

    async def _thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        pool = self._reactor.getThreadPool()
        result: T = await deferToThreadPool(self._reactor, pool, function, *args, **kwargs)
        return result


def _time_for(client: BuilderClient, body: BodyReader) -> float:
    """How long a file may take in all, in seconds. (The size is capped: a builder may announce any.)"""
    announced = min(body.announced or 0, 10 << 30)
    return client.timeouts.fetch_s + announced / _SLOWEST_BYTES_PER_S
