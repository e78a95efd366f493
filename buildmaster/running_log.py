"""The logs of running builds, followed: what is new on the builder is appended to logs/BUILDID.log of the farm.

Masters of one machine may share that folder. A master that hangs, and goes on when another has its builder, writes what
it had fetched to where it belongs, which does no harm.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from twisted.internet.threads import deferToThreadPool

from buildmaster.builder_client import BuilderClient, TooSlow
from buildmaster.farm import Farm
from buildmaster.ports import IMasterReactor

_JUST_NOW_S = 60.0
_AT_ONCE_BYTES = 8 << 20  # More is left to the next look.


class RunningLogs:
    """Keeps the farm's copies of the logs of running builds up to date."""

    def __init__(self, farm: Farm, reactor: IMasterReactor, limit_bytes: int) -> None:
        """:param limit_bytes: a copy does not grow beyond this; the whole log is fetched when the build ends."""
        self._farm = farm
        self._reactor = reactor
        self._limit = limit_bytes

    async def follow(self, build_id: int, client: BuilderClient) -> bool:
        """Append what is new. Says whether anything was.

        :raises BuilderError: it could not be fetched; what has arrived is kept.
        :raises LeaseLost: the builder is another master's now.
        """
        path = self._farm.log_path(build_id)
        size = path.stat().st_size if path.exists() else 0
        if size >= self._limit:
            return False
        body = await client.log(size)
        if body is None:
            return False
        taken, deadline = 0, client.now() + client.timeouts.look_s
        try:
            while taken < _AT_ONCE_BYTES and client.now() < deadline:
                data = (await client.read(body, deadline))[: self._limit - size - taken]
                if not data:  # Its end, or that of what a copy may have.
                    break
                client.allowed()
                pool = self._reactor.getThreadPool()
                await deferToThreadPool(self._reactor, pool, _write, path, size + taken, data)
                taken += len(data)
        except TooSlow:
            pass  # The rest is for the next look.
        finally:
            body.drop()
        return taken > 0

    def sweep(self, running: frozenset[int]) -> None:
        """Remove the logs of builds that do not run, which a master that was killed may have left.

        One that has just grown may be that of a build which another master has begun meanwhile.
        """
        for path in self._farm.logs.glob("*.log"):
            with suppress(FileNotFoundError):
                grew = path.stat().st_mtime > time.time() - _JUST_NOW_S
                if not grew and (not path.stem.isdigit() or int(path.stem) not in running):
                    path.unlink()


def _write(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while data:
            written = os.pwrite(descriptor, data, offset)
            offset, data = offset + written, data[written:]
    finally:
        os.close(descriptor)
