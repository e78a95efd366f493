"""What holds builds to their limits on this machine: found out once, at the daemon's start, and told in its log."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from buildd import cgroups, processes
from buildd.cgroups import Group, Groups
from buildd.config import BuilddConfig
from buildd.disk_use import DiskWatch, Usage
from buildd.guard import BuildGuard
from buildd.limits import Limits, configured_limits, duration, size
from buildd.managers.base import InThread

_log = Logger()


class Enforcement:
    """Makes a guard for each build."""

    def __init__(self, config: BuilddConfig, reactor: IReactorTime, in_thread: InThread) -> None:
        """Nothing is found out yet: builds have no control groups."""
        self.limits = configured_limits(config)
        self._config = config
        self._reactor = reactor
        self._in_thread = in_thread
        self._groups = Groups((), ())
        self._prefix = group_prefix(config.directory)

    def start(self) -> None:
        """Find out what there is, remove what an earlier daemon left of it, and log what holds builds."""
        self._groups = cgroups.probe(self._config.cgroup, f"{self._prefix}probe")
        for left in self._groups.leftovers(self._prefix):
            left.kill()
            left.remove()
        for line in (*facts(self.limits, self._groups.controllers), *self._groups.refused):
            _log.info("{label}: {line}", label=self._config.label, line=line)

    def oom_kills(self) -> int:
        """How many processes the kernel has ended for want of memory, anybody's, of which no guard will tell."""
        return 0 if "memory" in self._groups.controllers else processes.oom_kills()

    def guard(
        self,
        name: str,
        directory: Path,
        limits: Limits,
        *,
        usage: Callable[[], Awaitable[Usage]],
        make_room: Callable[[], Awaitable[None]],
    ) -> BuildGuard:
        """The guard of a build that is about to begin.

        :param directory: of this build; its name is unique.
        :param usage: counts what is in it.
        :param make_room: removes what no build needs, when the disk has little left.
        :raises OSError: there should be control groups for it, and cannot be.
        """
        group = self._groups.make(f"{self._prefix}{directory.name}", limits) if self._groups.hierarchies else Group(())
        disk = DiskWatch(
            directory,
            limits.disk_bytes,
            usage,
            self._reactor.seconds,
            floor_bytes=self._config.free_floor_bytes,
            make_room=make_room,
        )
        return BuildGuard(name, limits, group=group, disk=disk, reactor=self._reactor, in_thread=self._in_thread)


def group_prefix(directory: Path) -> str:
    """How the groups of this directory's daemon are called, among those of others."""
    return f"debfarm-{hashlib.sha256(bytes(directory)).hexdigest()[:12]}-"


def facts(limits: Limits, controllers: Iterable[str]) -> list[str]:
    """Which limit is held by what, a line each."""
    memory = "by control group" if "memory" in controllers else "by what /proc tells, twice a second"
    number = "by control group" if "pids" in controllers else "by RLIMIT_NPROC, for all that this user runs"
    return [
        f"memory of a build: {size(limits.memory_bytes)}, {memory}",
        f"processes of a build: {limits.processes}, {number}",
        f"disk for a build: {size(limits.disk_bytes)}, by counting its files when that much of the disk has gone",
        f"open files of a process: {limits.open_files}, by RLIMIT_NOFILE",
        f"time, silence and log of a build: "
        f"{duration(limits.wall_s)}, {duration(limits.silence_s)}, {size(limits.log_bytes)}",
    ]
