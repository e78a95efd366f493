"""The logs of running builds, followed: what is new on the builder is appended to logs/BUILDID.log of the farm."""

from pathlib import Path

from twisted.internet.threads import deferToThreadPool

from buildmaster.builder_client import BuilderClient, TooSlow
from buildmaster.farm import Farm
from buildmaster.ports import IMasterReactor

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
                await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _append, path, data)
                taken += len(data)
        except TooSlow:
            pass  # The rest is for the next look.
        finally:
            body.drop()
        return taken > 0

    def sweep(self, running: frozenset[int]) -> None:
        """Remove the logs of builds that do not run, which a master that was killed may have left."""
        for path in self._farm.logs.glob("*.log"):
            if not path.stem.isdigit() or int(path.stem) not in running:
                path.unlink(missing_ok=True)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)
