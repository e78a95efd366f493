"""Holds a build to its limits of memory, processes, disk and open files; time, silence and log are process.Children's.

Where there are control groups, the kernel counts and refuses, and we look what it did. Where there are none, the number
of processes is a resource limit, setrlimit(2), and memory is what we find in /proc.

RLIMIT_AS is not used: what programs reserve is not what they take, and sanitizers, Go and Java reserve without measure.
Nor is RLIMIT_FSIZE: tests make sparse files of terabytes, which cost nothing.
"""

import os
import re
import resource
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from buildd import processes
from buildd.cgroups import Group
from buildd.disk_use import DiskWatch
from buildd.limits import Limit, Limits
from buildd.managers.base import InThread
from buildd.nameless import nameless_bytes
from buildd.process import Exit
from buildd.processes import Process

LOOK_EVERY_S = 0.5
_REMOVE_EVERY_S = 0.1
_REMOVALS = 20
AT_LIMIT_S = 10.0  # A build that is refused processes for so long is ended: it goes on trying.
_OPEN_FILES_USUAL = 1024
# Enters the groups named before "--", and has itself preferred when the kernel must end something.
_ENTER = """
while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift
echo 500 >/proc/self/oom_score_adj
ulimit -c 0; ulimit -S -n "$1"; ulimit -H -n "$2"
[ "$3" = 0 ] || ulimit -p "$3" 2>/dev/null || ulimit -u "$3"  # dash, bash
shift 3; exec "$@"
"""
# Of what the kernel refuses to a process, only its own words tell.
_COMPLAINTS = (
    (Limit.OPEN_FILES, re.compile(rb"Too many open files")),
    (Limit.PROCESSES, re.compile(rb"[Cc]annot fork|fork\b.{0,40}Resource temporarily unavailable")),
)
_NO_SPACE = re.compile(rb"No space left on device")

_log = Logger()


class BuildGuard:
    """The guard of one build, see process.Guard."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        *,
        group: Group,
        disk: DiskWatch,
        reactor: IReactorTime,
        in_thread: InThread,
    ) -> None:
        """:param name: of the build, for our log.
        :param group: without places where there are no control groups.
        """
        self._name = name
        self._limits = limits
        self._group = group
        self._disk = disk
        self._reactor = reactor
        self._in_thread = in_thread
        self._counts_memory = group.limits("memory")
        self._counts_processes = group.limits("pids")
        # The kernel counts all that this user runs, in whatever namespace, as one.
        others = 0 if self._counts_processes else processes.threads_of(os.getuid())
        self._most_of_user = _at_most(resource.RLIMIT_NPROC, limits.processes + others)
        self._root = 0  # The first process of the command that runs.
        self._refused = self._refused_before = 0  # Processes: as seen last, and when the command began.
        self._at_limit: float | None = None  # Since when it is refused processes without a pause.

    def command(self, argv: Sequence[str]) -> list[str]:
        """See process.Guard."""
        files = _at_most(resource.RLIMIT_NOFILE, self._limits.open_files)
        numbers = (min(_OPEN_FILES_USUAL, files), files, 0 if self._counts_processes else self._most_of_user)
        return ["sh", "-c", _ENTER, "enter", *self._group.entrances, "--", *map(str, numbers), *argv]

    def watch(self, pid: int, end: Callable[[Limit], None]) -> Callable[[], None]:
        """See process.Guard."""
        self._root = pid
        self._refused = self._refused_before = self._group.refused_processes()
        self._at_limit = None
        looks = (self._look_at_processes, lambda: self._disk.exceeded(self._nameless_bytes))
        watching = [Deferred.fromCoroutine(self._watch(look, end)) for look in looks]
        for each in watching:
            each.addErrback(self._failed)

        def stop() -> None:
            for each in watching:
                each.cancel()

        return stop

    def verdict(self, ended: Exit, said: bytes) -> Limit | None:
        """See process.Guard."""
        if ended.limit is not None:
            return ended.limit
        if (limit := self._killed_for_memory()) is not None:
            return limit
        if ended.ok:
            return None
        if self._disk.was_full and _NO_SPACE.search(said):
            return Limit.DISK_FULL
        if self._group.refused_processes() > self._refused_before:
            return Limit.PROCESSES
        return next((limit for limit, words in _COMPLAINTS if words.search(said)), None)

    def allowed(self, limit: Limit) -> str:
        """See process.Guard."""
        return self._limits.allowed(limit)

    def kill(self) -> None:
        """See process.Guard."""
        self._group.kill()

    def stuck(self) -> str:
        """Names what runs of the build and does not end; empty when nothing does."""
        found = {process.pid: process for process in processes.below(self._root)} if self._root else {}
        for pid in self._group.members():
            if pid not in found and (process := processes.look(pid)) is not None:
                found[pid] = process
        return processes.stuck(found.values())

    async def close(self) -> None:
        """The build is over, nothing of it runs any more: its groups go. What cannot go, the next start removes."""
        for _ in range(_REMOVALS):
            self._group.kill()
            if self._group.remove():
                return
            await deferLater(self._reactor, _REMOVE_EVERY_S, lambda: None)
        _log.warn("{build}: its control groups cannot be removed: {stuck}", build=self._name, stuck=self.stuck())

    async def _watch(self, look: Callable[[], Awaitable[Limit | None]], end: Callable[[Limit], None]) -> None:
        limit = None
        while limit is None:
            await deferLater(self._reactor, LOOK_EVERY_S, lambda: None)
            limit = await look()
        end(limit)

    async def _look_at_processes(self) -> Limit | None:
        seen: list[Process] = []
        if not (self._counts_memory and self._counts_processes):
            seen = await self._in_thread(processes.below, self._root)
        if (limit := await self._out_of_memory(seen)) is not None:
            return limit
        return Limit.PROCESSES if self._at_limit_for_long(seen) else None

    async def _nameless_bytes(self) -> int:
        seen = await self._in_thread(processes.below, self._root)
        return await self._in_thread(nameless_bytes, seen)

    async def _out_of_memory(self, seen: Sequence[Process]) -> Limit | None:
        if self._counts_memory:
            return self._killed_for_memory()
        most = self._limits.memory_bytes
        return Limit.MEMORY if await self._in_thread(processes.memory_bytes, seen, most) > most else None

    def _killed_for_memory(self) -> Limit | None:
        """Whose memory was short, when the kernel has killed a process of the build for that.

        It chooses the build's first when it is the machine's, or that of a group which the daemon itself is in.
        """
        if not self._group.killed_for_memory():
            return None
        return Limit.MEMORY if self._group.reached_memory_limit() else Limit.MACHINE_MEMORY

    def _at_limit_for_long(self, seen: Sequence[Process]) -> bool:
        """A fork that is refused now and then is the build's own business; one that goes on trying is a fork bomb."""
        if self._counts_processes:
            before, self._refused = self._refused, self._group.refused_processes()
            at_limit = self._refused > before
        else:
            at_limit = sum(process.threads for process in seen) >= self._limits.processes
        now = self._reactor.seconds()
        if not at_limit:
            self._at_limit = None
        elif self._at_limit is None:
            self._at_limit = now
        return self._at_limit is not None and now - self._at_limit >= AT_LIMIT_S

    def _failed(self, failure: Failure) -> None:
        """The command is over; or we cannot watch it any more, though the kernel still holds it to its own limits."""
        if not isinstance(failure.value, CancelledError):
            _log.failure("{build}: its limits are not watched any more", failure=failure, build=self._name)


def _at_most(kind: int, wanted: int) -> int:
    """A resource limit that this process may set."""
    _, hard = resource.getrlimit(kind)
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
