"""The result of a build that failed gets its cause and the first error."""

import io
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from buildd.buildlog import BuildLog
from buildd.causes import verdict
from buildd.limits import Limit
from buildd.managers.base import BuildResult, InThread
from buildd.protocol import BuildStatus, Cause, error_heading

# Of the stage that failed; between its beginning and its end nothing is read. A second's work, however it is written.
_HEAD_BYTES, _HEAD_LINES = 1 << 20, 10_000
_TAIL_BYTES, _TAIL_LINES = 4 << 20, 40_000


class Explainer:
    """Watches one build, and explains how it ended, also in its log."""

    def __init__(self, log: BuildLog, in_thread: InThread, oom_kills: Callable[[], int]) -> None:
        """:param oom_kills: see Enforcement.oom_kills."""
        self._log = log
        self._in_thread = in_thread
        self._oom_kills = oom_kills
        self._kills_before = oom_kills()
        self._stage_begins = 0  # Bytes of the log.

    def stage_begins(self) -> None:
        """What comes in the log from here on is another stage's."""
        self._stage_begins = self._log.size

    async def explain(self, result: BuildResult) -> BuildResult:
        """The result with what is to be known of a failure. The log is still open."""
        if result.status is BuildStatus.OK:
            return result
        killed = self._oom_kills() > self._kills_before
        explained = await self._in_thread(explained_by_log, result, self._log.path, self._stage_begins, killed)
        if explained.status is not result.status:
            self._log.say(f"\n{explained.status}: {explained.reason}")
        self._log.say(told(explained))
        return explained


def broken(exc: Exception) -> BuildResult:
    """The result of a build during which the daemon itself failed."""
    return BuildResult(
        BuildStatus.BUILDERFAIL, f"the builder is broken: {type(exc).__name__}: {exc}", cause=Cause.BUILDER
    )


def explained_by_log(result: BuildResult, log: Path, begin: int, oom_killed: bool) -> BuildResult:
    """Find out why a build failed; where that is not the package's fault, the status changes, too. Blocks.

    :param begin: where in the log the stage begins that failed.
    :param oom_killed: the kernel has ended a process for want of memory while the build ran: one of anybody's.
    """
    found = verdict(result.status, result.cause, log_lines(log, begin))
    crashed = result.status is BuildStatus.BUILDERFAIL and result.cause is None
    if oom_killed and (found.killed or crashed):
        return BuildResult(BuildStatus.BUILDERFAIL, Limit.MACHINE_MEMORY, cause=Cause.MEMORY, error=found.error)
    return replace(result, cause=found.cause, error=found.error)


def told(result: BuildResult) -> str:
    """What the end of the log says of the cause, in a few lines."""
    lines = [f"  {line}".rstrip() for line in result.error.splitlines()]
    shown = [f"{error_heading(result.cause or '')}:", *lines] if lines else []
    return "\n".join([f"\nCause: {result.cause}", *shown])


def log_lines(path: Path, begin: int) -> Iterator[bytes]:
    """The lines from an offset on; of what is very long, the first and the last."""
    with path.open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        file.seek(begin)
        head = file.read(_HEAD_BYTES)
        file.seek(max(file.tell(), end - _TAIL_BYTES))
        lines = chain(io.BytesIO(head), io.BytesIO(file.read(_TAIL_BYTES)))
    yield from islice(lines, _HEAD_LINES)
    yield from deque(lines, maxlen=_TAIL_LINES)
