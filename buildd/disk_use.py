"""How much of the disk a build takes, without quotas, and without counting its files all the time."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.logger import Logger

from buildd.limits import Limit

# Programs fail for want of space before the last byte is used, as a file of theirs does not fit, and what they wrote of
# it is often removed by then. No builder works well with so little.
FREE_BYTES_MIN = 64 << 20
_FREE_FILES_MIN = 2000
# With less than this, what no build needs is removed, which takes a second or two: a build may fill more meanwhile.
_SHORT_BYTES = 2 * FREE_BYTES_MIN
_SHORT_FILES = 10 * _FREE_FILES_MIN
_ROOM_EVERY_S = 60.0  # Where there was too little to be removed, that is not found out all the time.
_COUNTING_SHARE = 0.2  # Of the time may be spent on counting.
_COUNT_EVERY_S = 60.0  # In any case.
_FAILURES_MAX = 5  # Counts in a row; du gives up when a directory is moved elsewhere while it is in there.

# Counts the directory that is named after it. Of files that go meanwhile it could complain by megabytes.
COUNT = ("sh", "-c", 'exec 2>/dev/null; du -sx --block-size=1 -- "$0"; du -sx --inodes -- "$0"; true')

_log = Logger()


@dataclass(frozen=True)
class Usage:
    """What a directory takes of its disk."""

    bytes: int
    files: int  # Inodes.


def parse_usage(said: bytes) -> Usage:
    """What COUNT has printed.

    :raises OSError: it did not count.
    """
    try:
        counted = [int(line.split()[0]) for line in said.splitlines()]
        return Usage(counted[0], counted[1])
    except (IndexError, ValueError) as exc:
        raise OSError(f"du did not count: {said[:80]!r}") from exc


@dataclass(frozen=True)
class Disk:
    """What a file system has left."""

    free_bytes: int
    free_files: int
    bytes_per_file: int  # Its size, divided by the files that it has room for; 0 where there is no such limit.

    @classmethod
    def of(cls, path: Path) -> "Disk":
        """Ask the file system of a path; that takes microseconds."""
        found = os.statvfs(path)
        per_file = found.f_blocks * found.f_frsize // found.f_files if found.f_files else 0
        return cls(found.f_bavail * found.f_frsize, found.f_favail, per_file)

    @property
    def is_full(self) -> bool:
        """Nothing works well any more."""
        return self.free_bytes < FREE_BYTES_MIN or (self.bytes_per_file > 0 and self.free_files < _FREE_FILES_MIN)

    def short_bytes(self, floor_bytes: int) -> int:
        """How much is missing so that there is room for what builds go on to write, files at their share of the disk;
        below 0 when there is more than that.

        :param floor_bytes: what must be left of it.
        """
        bytes_missing = max(floor_bytes, _SHORT_BYTES) - self.free_bytes
        if not self.bytes_per_file:
            return bytes_missing
        return max(bytes_missing, (_SHORT_FILES - self.free_files) * self.bytes_per_file)

    def cost(self, usage: Usage) -> int:
        """Bytes; many small files cost their share of the files that there can be."""
        return max(usage.bytes, usage.files * self.bytes_per_file)


async def _nothing() -> int:
    return 0


async def _no_room() -> None:
    return


class DiskWatch:
    """Watches what one build takes.

    It is not more than what was counted last plus what the disk has lost since, whoever took that; files are counted
    only when this is more than the limit. Unless somebody frees as much at the same moment: so what the disk gains is
    not set off against what it lost before, and now and then files are counted anyway.

    When the disk itself has little left, what no build needs is removed before this one is ended.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        count: Callable[[], Awaitable[Usage]],
        seconds: Callable[[], float],
        look: Callable[[Path], Disk] = Disk.of,
        *,
        floor_bytes: int = 0,
        make_room: Callable[[], Awaitable[None]] = _no_room,
    ) -> None:
        """:param directory: of the build; nothing is in it yet.
        :param count: counts what is in it; it may take long.
        :param floor_bytes: what the disk must have left; `make_room` is called when it has not.
        """
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._count = count
        self._seconds = seconds
        self._look = look
        self._floor_bytes = floor_bytes
        self._make_room = make_room
        self._room_not_before = 0.0  # When room may be made again, unless the disk is full.
        self.was_full = False  # The build may have noticed, though there is room again.
        self._at_last = look(directory)
        self._most = Usage(0, 0)  # That it can have.
        self._not_before = 0.0  # When the next count may begin, ...
        self._at_latest = seconds() + _COUNT_EVERY_S  # ... and when it does.
        self._failures = 0  # Counts that were to tell whether it is too much, and did not.

    async def exceeded(self, nameless: Callable[[], Awaitable[int]] = _nothing) -> Limit | None:
        """Look, and count where that must be.

        :param nameless: tells how many bytes are in files that are no longer in the directory, but open.
        """
        now = await self._with_room()
        if now.is_full:
            return Limit.DISK_FULL
        lost_bytes = max(0, self._at_last.free_bytes - now.free_bytes)
        lost_files = max(0, self._at_last.free_files - now.free_files)
        self._most, self._at_last = Usage(self._most.bytes + lost_bytes, self._most.files + lost_files), now
        began = self._seconds()
        suspicious = now.cost(self._most) > self._limit_bytes and began >= self._not_before
        if not suspicious and began < self._at_latest:
            return None
        counted = await self._counted(nameless)
        ended = self._seconds()
        self._not_before = ended + (ended - began) * (1 / _COUNTING_SHARE - 1)
        self._at_latest = max(self._not_before, ended + _COUNT_EVERY_S)
        if counted is None:
            self._failures += suspicious
            return Limit.DISK if self._failures >= _FAILURES_MAX else None
        self._most, self._failures = counted, 0
        return Limit.DISK if now.cost(counted) > self._limit_bytes else None

    async def _with_room(self) -> Disk:
        """The disk, without what no build needs where it has little left."""
        now = self._look(self._directory)
        self.was_full = self.was_full or now.is_full
        if now.short_bytes(self._floor_bytes) <= 0:
            return now
        if not now.is_full and self._seconds() < self._room_not_before:
            return now
        try:
            await self._make_room()
        except OSError as exc:
            _log.warn("{directory}: no room can be made: {error}", directory=self._directory, error=exc)
        now = self._look(self._directory)
        if now.short_bytes(self._floor_bytes) > 0:
            self._room_not_before = self._seconds() + _ROOM_EVERY_S
        return now

    async def _counted(self, nameless: Callable[[], Awaitable[int]]) -> Usage | None:
        """What it takes; None: nobody can say, and the build may be who prevents that."""
        try:
            named = await self._count()
        except OSError as exc:
            _log.warn("{directory} could not be counted: {error}", directory=self._directory, error=exc)
            return None
        return Usage(named.bytes + await nameless(), named.files)
