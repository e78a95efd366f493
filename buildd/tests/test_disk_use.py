"""How much of the disk a build takes, found out with as little counting as can be."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from buildd.disk_use import COUNT, FREE_BYTES_MIN, Disk, DiskWatch, Usage, parse_usage
from buildd.limits import Limit

MANY = 1 << 40
FLOOR = 1 << 30


class World:
    """A disk, and a build on it."""

    def __init__(self) -> None:
        self.disk = Disk(MANY, 10**6, 0)
        self.used = Usage(0, 0)
        self.counts = 0
        self.now = 0.0
        self.counting_s = 0.0
        self.uncountable = False
        self.removable = 0  # Bytes that nobody needs, of which 1 GB goes at a time.
        self.rooms = 0
        self.cannot_remove = False
        self.watch = DiskWatch(
            Path("/"),
            1000,
            self._count,
            lambda: self.now,
            lambda path: self.disk,
            floor_bytes=FLOOR,
            make_room=self._make_room,
        )

    async def _make_room(self) -> None:
        self.rooms += 1
        if self.cannot_remove:
            raise OSError("no file can be made")
        gone = min(self.removable, 1 << 30)
        self.removable -= gone
        self.disk = replace(self.disk, free_bytes=self.disk.free_bytes + gone)

    async def _count(self) -> Usage:
        self.counts += 1
        self.now += self.counting_s
        if self.uncountable:
            raise OSError("du did not count")
        return self.used

    def look(self) -> Limit | None:
        found: list[Limit | None] = []
        Deferred.fromCoroutine(self.watch.exceeded()).addCallback(found.append)
        (answer,) = found
        return answer


def test_files_are_not_counted_before_enough_of_the_disk_has_gone() -> None:
    """Whoever took it: the build cannot have more than that."""
    world = World()
    world.disk = Disk(MANY - 1000, 10**6, 0)
    assert (world.look(), world.counts) == (None, 0)
    world.disk = Disk(MANY - 1001, 10**6, 0)
    assert (world.look(), world.counts) == (None, 1)


def test_from_a_count_on_it_is_reckoned_anew() -> None:
    """What somebody else took is not held against the build, what it took itself is."""
    world = World()
    world.disk, world.used = Disk(MANY - 5000, 10**6, 0), Usage(600, 1)
    assert (world.look(), world.counts) == (None, 1)
    world.disk = Disk(MANY - 5400, 10**6, 0)
    assert (world.look(), world.counts) == (None, 1)
    world.disk, world.used = Disk(MANY - 5401, 10**6, 0), Usage(1001, 1)
    assert (world.look(), world.counts) == (Limit.DISK, 2)


def test_space_that_others_free_hides_nothing() -> None:
    """What the disk gains is not set off against what it lost before."""
    world = World()
    for free in (MANY - 600, MANY + 5000, MANY + 4400):
        world.disk, world.used = Disk(free, 10**6, 0), Usage(1200, 1)
        found = world.look()
    assert (found, world.counts) == (Limit.DISK, 1)


def test_files_are_counted_now_and_then_in_any_case() -> None:
    """Somebody may free as much as the build takes at the same moments."""
    world = World()
    world.used, world.now = Usage(1001, 1), 59
    assert (world.look(), world.counts) == (None, 0)
    world.now = 60
    assert (world.look(), world.counts) == (Limit.DISK, 1)


def test_counting_does_not_become_the_work() -> None:
    """Beside other builds that fill the disk, a long count is not followed by the next at once."""
    world = World()
    world.counting_s = 10
    world.disk = Disk(MANY - 2000, 10**6, 0)
    assert (world.look(), world.counts) == (None, 1)
    world.disk = Disk(MANY - 4000, 10**6, 0)
    world.now += 39
    assert (world.look(), world.counts) == (None, 1)
    world.now += 1
    assert (world.look(), world.counts) == (None, 2)


def test_a_build_that_cannot_be_counted() -> None:
    """Who moves directories about can have each du fail: what the disk has lost meanwhile counts, before long."""
    world = World()
    world.uncountable = True
    world.now += 61
    assert [world.look() for _ in range(9)] == [None] * 9
    world.disk = Disk(MANY - 1001, 10**6, 0)
    assert Limit.DISK in [world.look() for _ in range(9)]


def test_one_count_that_fails_is_not_the_builds_fault() -> None:
    """It is counted again."""
    world = World()
    world.disk, world.uncountable = Disk(MANY - 1001, 10**6, 0), True
    assert [world.look(), world.look()] == [None, None]
    world.uncountable = False
    assert [world.look(), world.look()] == [None, None]
    world.disk, world.uncountable = Disk(MANY - 2002, 10**6, 0), True
    assert [world.look(), world.look()] == [None, None]


def test_many_small_files_cost_their_share_of_all_that_there_can_be() -> None:
    """Else a build could take all inodes of a disk with next to no bytes."""
    world = World()
    world.disk, world.used = Disk(MANY, 10**6 - 101, 10), Usage(0, 101)
    assert (world.look(), world.counts) == (Limit.DISK, 1)


@pytest.mark.parametrize("disk", [Disk(FREE_BYTES_MIN - 1, 10**6, 0), Disk(MANY, 1999, 16384)])
def test_a_disk_that_is_nearly_full_is_not_counted(disk: Disk) -> None:
    """The build is ended before everything on this machine fails."""
    world = World()
    world.disk = disk
    assert (world.look(), world.counts) == (Limit.DISK_FULL, 0)


def test_room_is_made_when_the_disk_runs_low() -> None:
    """Long before it is full, and as often as it runs low again."""
    world = World()
    world.removable = 3 << 30
    for rooms in (1, 2, 3):
        world.disk = replace(world.disk, free_bytes=FLOOR - 1)
        assert (world.look(), world.rooms) == (None, rooms)
        world.now += 1
        assert (world.look(), world.rooms) == (None, rooms)


def test_where_too_little_can_be_removed_that_is_not_tried_all_the_time() -> None:
    """Until the disk is full: then it is the last thing to be done."""
    world = World()
    world.disk = replace(world.disk, free_bytes=FLOOR - 1)
    assert [(world.look(), world.rooms) for _ in range(3)] == [(None, 1)] * 3
    world.now += 60
    assert (world.look(), world.rooms) == (None, 2)
    world.disk, world.removable = replace(world.disk, free_bytes=FREE_BYTES_MIN - 1), FREE_BYTES_MIN
    assert (world.look(), world.rooms, world.watch.was_full) == (None, 3, True)
    world.disk = replace(world.disk, free_bytes=FREE_BYTES_MIN - 1)
    assert (world.look(), world.rooms) == (Limit.DISK_FULL, 4)


def test_room_that_cannot_be_made() -> None:
    """On a disk without a free inode, say. The build is watched all the same."""
    world = World()
    world.cannot_remove, world.disk = True, replace(world.disk, free_bytes=FLOOR - 1)
    assert world.look() is None
    world.disk = replace(world.disk, free_bytes=FREE_BYTES_MIN - 1)
    assert world.look() is Limit.DISK_FULL


@pytest.mark.parametrize(
    ("disk", "floor_bytes", "short"),
    [
        (Disk(FLOOR, 10**6, 16384), FLOOR, False),
        (Disk(FLOOR - 1, 10**6, 16384), FLOOR, True),
        (Disk(2 * FREE_BYTES_MIN - 1, 10**6, 16384), 0, True),  # However little the operator wants to be left.
        (Disk(MANY, 19999, 16384), FLOOR, True),
        (Disk(MANY, 0, 0), FLOOR, False),  # Btrfs.
    ],
)
def test_a_short_disk(disk: Disk, floor_bytes: int, *, short: bool) -> None:
    """Of bytes, or of inodes; a full one is short in any case."""
    assert (disk.short_bytes(floor_bytes) > 0) == short
    assert not disk.is_full


def test_a_file_system_without_a_number_of_files() -> None:
    """Btrfs says 0 of everything."""
    world = World()
    world.disk, world.used = Disk(MANY, 0, 0), Usage(5, 10**9)
    assert (world.look(), world.counts) == (None, 0)


def test_real_disk(tmp_path: Path) -> None:
    """This disk has room, and files of some size."""
    assert Disk.of(tmp_path).free_bytes > 0
    assert not Disk.of(tmp_path).is_full


def test_what_du_says() -> None:
    """Bytes and inodes, a line each; anything else is an error."""
    assert parse_usage(b"4096\t/x\n1\t/x\n") == Usage(4096, 1)
    with pytest.raises(OSError, match="did not count"):
        parse_usage(b"4096\t/x\n")


def test_du_does_not_complain(tmp_path: Path) -> None:
    """Files that go while it counts may be a million; its words would fill a log that has an end."""
    ended = subprocess.run([*COUNT, str(tmp_path / "gone")], capture_output=True, check=True)
    assert ended.stderr == b""
