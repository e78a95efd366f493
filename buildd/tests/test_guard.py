"""How a build is held to its limits: the decisions by the clock, and real children without control groups."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildd.buildlog import BuildLog
from buildd.cgroups import Group, Hierarchy
from buildd.disk_use import Disk, DiskWatch, Usage
from buildd.guard import AT_LIMIT_S, LOOK_EVERY_S, BuildGuard
from buildd.limits import Limit, Limits
from buildd.process import Children, Exit

T = TypeVar("T")
LIMITS = Limits(
    memory_bytes=1 << 30, processes=10**6, disk_bytes=1 << 40, open_files=2000, wall_s=60, silence_s=60, log_bytes=9999
)
FAILED = Exit(1, None, None)
# Not in a chroot, such as most packages are built in.
MAY_MAKE_NAMESPACES = subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode == 0


def at_once(blocking: Callable[..., T], /, *args: object) -> "Deferred[T]":
    return maybeDeferred(blocking, *args)


async def nothing_used() -> Usage:
    return Usage(0, 0)


class World:
    """A guard whose control group is a directory, and whose clock is the test's."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.clock = Clock()
        self.disk = Disk(1 << 50, 10**6, 0)
        self.after_room: Disk | None = None  # The disk, once room was made; None: there is nothing to remove.
        disk = DiskWatch(
            place,
            LIMITS.disk_bytes,
            nothing_used,
            self.clock.seconds,
            lambda path: self.disk,
            make_room=self._make_room,
        )
        group = Group(((Hierarchy(2, place.parent, ("memory", "pids")), place),))
        self.guard = BuildGuard("b", LIMITS, group=group, disk=disk, reactor=self.clock, in_thread=at_once)
        self.ended: list[Limit] = []
        self.events(0, 0)
        self.stop = self.guard.watch(os.getpid(), self.ended.append)

    async def _make_room(self) -> None:
        self.disk = self.after_room or self.disk

    def events(self, killed: int, refused: int, at_limit: int = 0) -> None:
        (self.place / "memory.events").write_text(f"max 9\noom {at_limit}\noom_kill {killed}\n")
        (self.place / "pids.events").write_text(f"max {refused}\n")

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([LOOK_EVERY_S] * round(seconds / LOOK_EVERY_S))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_build_in_which_the_kernel_kills_for_memory_is_ended(world: World) -> None:
    """However it takes that: half of it would go on as if nothing was."""
    world.pass_time(2)
    world.events(1, 0, at_limit=1)
    assert not world.ended
    world.pass_time(LOOK_EVERY_S)
    assert world.ended == [Limit.MEMORY]
    assert world.guard.verdict(Exit(0, None, None), b"") is Limit.MEMORY


def test_a_build_that_the_machine_had_no_memory_for(world: World) -> None:
    """The kernel counts what it kills for want of memory as the group's, whoever took it: the builder is to blame."""
    world.pass_time(2)
    world.events(1, 0)
    world.pass_time(LOOK_EVERY_S)
    assert world.ended == [Limit.MACHINE_MEMORY]
    assert world.guard.verdict(Exit(0, None, None), b"") is Limit.MACHINE_MEMORY
    assert world.guard.allowed(Limit.MACHINE_MEMORY) == ""
    assert Limit.MACHINE_MEMORY.blames_builder


def test_forks_that_are_refused_for_a_moment_do_not_end_a_build(world: World) -> None:
    """Some programs try how many they get. When the build fails later, that is named."""
    world.events(0, 5)
    world.pass_time(AT_LIMIT_S - 1)
    world.events(0, 9)
    world.pass_time(AT_LIMIT_S * 2)
    assert not world.ended
    assert world.guard.verdict(Exit(0, None, None), b"") is None
    assert world.guard.verdict(FAILED, b"") is Limit.PROCESSES


def test_a_fork_bomb_is_ended(world: World) -> None:
    """It goes on being refused."""
    for refused in range(1, 50):
        world.events(0, refused)
        world.pass_time(LOOK_EVERY_S)
    assert world.ended == [Limit.PROCESSES]
    assert world.clock.seconds() >= AT_LIMIT_S


def test_what_was_refused_to_an_earlier_command_is_not_held_against_this_one(world: World) -> None:
    """Each command of a build begins anew."""
    world.events(0, 5)
    world.stop()
    world.guard.watch(os.getpid(), world.ended.append)
    assert world.guard.verdict(FAILED, b"") is None


def test_a_full_disk_ends_a_build(world: World) -> None:
    """And it is the builder's."""
    world.disk = Disk(0, 10**6, 0)
    world.pass_time(LOOK_EVERY_S)
    assert world.ended == [Limit.DISK_FULL]
    assert Limit.DISK_FULL.blames_builder
    assert not Limit.DISK.blames_builder


def test_room_is_made_before_a_full_disk_ends_a_build(world: World) -> None:
    """What the build could not write until then is not its fault, either."""
    no_space = b"cc: x.o: No space left on device\n"
    assert world.guard.verdict(FAILED, no_space) is None
    world.disk, world.after_room = Disk(0, 10**6, 0), Disk(1 << 40, 10**6, 0)
    world.pass_time(LOOK_EVERY_S)
    assert not world.ended
    assert world.guard.verdict(FAILED, no_space) is Limit.DISK_FULL
    assert world.guard.verdict(FAILED, b"error: expected ';'\n") is None
    assert world.guard.verdict(Exit(0, None, None), no_space) is None


def test_a_command_that_has_ended_is_not_watched(world: World) -> None:
    """Nothing is left with the clock."""
    world.stop()
    assert world.clock.getDelayedCalls() == []


def test_a_limit_of_which_only_the_program_tells(world: World) -> None:
    """EMFILE is nobody's but the process'; its words at the end of the log name it, when the command failed."""
    assert world.guard.verdict(FAILED, b"cc: x.h: Too many open files\n") is Limit.OPEN_FILES
    assert world.guard.verdict(FAILED, b"sh: 0: Cannot fork\n") is Limit.PROCESSES
    assert world.guard.verdict(FAILED, b"error: expected ';'\n") is None
    assert world.guard.verdict(Exit(0, None, None), b"Too many open files") is None
    assert world.guard.verdict(replace(FAILED, limit=Limit.SILENCE), b"Too many open files") is Limit.SILENCE


@pytest.mark.skipif(not MAY_MAKE_NAMESPACES, reason="no user namespaces can be made here")
class RealChildrenTest(TestCase):
    """Real children, held by a guard without control groups."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.log = BuildLog(self.directory / "log", 1_000_000)
        self.addCleanup(self.log.close)

    async def run_shell(self, script: str, **limits: Any) -> Exit:
        world: Any = reactor

        async def usage() -> Usage:
            return Usage(sum(path.stat().st_blocks * 512 for path in self.directory.iterdir()), 1)

        def look(path: Path) -> Disk:  # As if nobody else used the disk.
            return Disk((1 << 40) - sum(file.stat().st_size for file in path.iterdir()), 10**6, 0)

        most = replace(LIMITS, **limits)
        disk = DiskWatch(self.directory, most.disk_bytes, usage, world.seconds, look)
        guard = BuildGuard("b", most, group=Group(()), disk=disk, reactor=world, in_thread=deferToThread)
        children = Children(world, self.log, 30, 30, guard)
        argv = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "sh", "-c", script]
        return await children.run(argv, env={"PATH": os.environ["PATH"]}, cwd=self.directory)

    async def _limited(self) -> None:
        hog = "perl -e '$x = \"x\" x 300_000_000; sleep 60'"
        for script, limits, expected in (
            (hog, {"memory_bytes": 200 << 20}, Limit.MEMORY),
            ("dd if=/dev/zero of=big bs=1M count=64; sync; sleep 60", {"disk_bytes": 32 << 20}, Limit.DISK),
            ("perl -e 'for (1..60) { open $f[$_], \"/\" or die qq($!\\n) }'", {"open_files": 50}, Limit.OPEN_FILES),
            ("ulimit -c; ulimit -S -n; ulimit -H -n; cat /proc/self/oom_score_adj", {}, None),
        ):
            with contextlib.suppress(FileNotFoundError):
                (self.directory / "big").unlink()
            ended = await self.run_shell(script, **limits)
            assert ended.limit is expected, (script, ended, self.log.tail())
            assert ended.ok == (expected is None)
        assert self.log.tail().endswith(b"0\n1024\n2000\n500\n")

    def test_limits_by_name(self) -> "Deferred[None]":
        """Memory, disk, open files; and what a build does not notice of them."""
        return Deferred.fromCoroutine(self._limited())
