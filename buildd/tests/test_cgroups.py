"""Control groups, in directories that look like those of the kernel; the real ones are for ftests/test_limits.py."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildd import cgroups
from buildd.cgroups import Group, Groups, Hierarchy
from buildd.limits import Limits

LIMITS = Limits(memory_bytes=1 << 30, processes=50, disk_bytes=1, open_files=60, wall_s=1, silence_s=1, log_bytes=1)


def proc(tmp_path: Path, cgroup: str, *mounts: str) -> Path:
    """A /proc/self with these groups and mounts, "ROOT MOUNTPOINT KIND OPTIONS" each; T is the test's directory."""
    place = tmp_path / "proc"
    place.mkdir()
    (place / "cgroup").write_text(cgroup)
    lines = []
    for mount in mounts:
        root, where, kind, options = mount.split()
        lines.append(f"36 25 0:31 {root} {where.replace('T', str(tmp_path))} rw,nosuid shared:9 - {kind} c {options}\n")
    (place / "mountinfo").write_text("25 1 254:0 / / rw - ext4 /dev/vda rw\n" + "".join(lines))
    return place


def test_version_2_alone(tmp_path: Path) -> None:
    """The group of the daemon, with the controllers that it has been given."""
    (tmp_path / "all/system.slice/d.service").mkdir(parents=True)
    (tmp_path / "all/system.slice/d.service/cgroup.controllers").write_text("cpu io memory pids\n")
    place = proc(tmp_path, "0::/system.slice/d.service\n", "/ T/all cgroup2 rw,nsdelegate")
    expected = Hierarchy(2, tmp_path / "all/system.slice/d.service", ("memory", "pids", "cpu"))
    assert cgroups.find("", place) == [expected]


def test_version_1_beside_an_empty_version_2(tmp_path: Path) -> None:
    """Each controller in its own hierarchy; those that we do not use are left alone."""
    lines = "9:name=systemd:/x\n8:pids:/p\n5:devices:/\n4:memory:/m/n\n2:cpu,cpuacct:/c\n0::/\n"
    place = proc(
        tmp_path,
        lines,
        "/ T/cpu cgroup rw,cpu,cpuacct",
        "/ T/devices cgroup rw,devices",
        "/ T/memory cgroup rw,memory",
        "/ T/pids cgroup rw,pids",
        "/ T/systemd cgroup rw,name=systemd",
        "/ T/unified cgroup2 rw",
    )
    assert cgroups.find("", place) == [
        Hierarchy(1, tmp_path / "cpu/c", ("cpu",)),
        Hierarchy(1, tmp_path / "memory/m/n", ("memory",)),
        Hierarchy(1, tmp_path / "pids/p", ("pids",)),
        Hierarchy(2, tmp_path / "unified", ()),
    ]


def test_the_group_that_is_wanted(tmp_path: Path) -> None:
    """In place of the daemon's own, in each hierarchy."""
    place = proc(tmp_path, "8:pids:/p\n", "/ T/pids cgroup rw,pids")
    assert cgroups.find("/debfarm", place) == [Hierarchy(1, tmp_path / "pids/debfarm", ("pids",))]


def test_a_part_of_a_hierarchy_is_mounted(tmp_path: Path) -> None:
    """As in containers, and at a path with a space in it."""
    place = proc(tmp_path, "8:pids:/docker/abc/build\n", "/docker/abc T/p\\040q cgroup rw,pids")
    assert cgroups.find("", place) == [Hierarchy(1, tmp_path / "p q/build", ("pids",))]


def fake(tmp_path: Path, version: int, *controllers: str) -> tuple[Groups, Path]:
    """A hierarchy, and the directory of the one group in it, with the files that a kernel would make."""
    place = tmp_path / "debfarm-1-b"
    place.mkdir()
    files = (
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max")
        if version == 1
        else ("memory.max", "memory.swap.max", "pids.max", "cgroup.kill")
    )
    for file in (*files, "cgroup.procs"):
        (place / file).touch()
    return Groups((Hierarchy(version, tmp_path, controllers),), ()), place


def test_limits_of_version_1(tmp_path: Path) -> None:
    """Memory with and without swap, and processes."""
    groups, place = fake(tmp_path, 1, "memory", "pids")
    group = groups.make("debfarm-1-b", LIMITS)
    assert [(place / file).read_text() for file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")] == [
        "1073741824\n"
    ] * 2
    assert (place / "pids.max").read_text() == "50\n"
    assert group.entrances == [str(place / "cgroup.procs")]
    assert (group.limits("memory"), group.limits("cpu")) == (True, False)


def test_limits_of_version_2(tmp_path: Path) -> None:
    """What is limited is the sum of memory and swap: no swap, where memory alone is as much."""
    groups, place = fake(tmp_path, 2, "memory", "pids")
    groups.make("debfarm-1-b", LIMITS)
    assert [(place / file).read_text() for file in ("memory.max", "memory.swap.max")] == ["1073741824\n", "0\n"]


def test_events(tmp_path: Path) -> None:
    """Killed for want of memory, refused for too many processes: as either version writes it."""
    for version, memory, pids in (
        (1, "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "max 7\n"),
        (2, "low 0\nhigh 0\nmax 9\noom 0\noom_kill 2\noom_group_kill 0\n", "max 7\n"),
    ):
        directory = tmp_path / str(version)
        directory.mkdir()
        groups, place = fake(directory, version, "memory", "pids")
        group = groups.make("debfarm-1-b", LIMITS)
        assert (group.killed_for_memory(), group.refused_processes()) == (0, 0)
        (place / ("memory.oom_control" if version == 1 else "memory.events")).write_text(memory)
        (place / "pids.events").write_text(pids)
        assert (group.killed_for_memory(), group.refused_processes()) == (2, 7)
        assert not group.reached_memory_limit()


@pytest.mark.parametrize(
    ("memory", "swap_too", "reached"),
    [(1 << 30, 0, True), ((1 << 30) - (8 << 12), 0, True), (900 << 20, 900 << 20, False), (1 << 29, 1 << 30, True)],
)
def test_a_limit_that_was_reached_in_version_1(tmp_path: Path, memory: int, swap_too: int, *, reached: bool) -> None:
    """Of memory, or of memory and swap; a kernel without accounting of swap has no files for that."""
    groups, place = fake(tmp_path, 1, "memory")
    group = groups.make("debfarm-1-b", LIMITS)
    (place / "memory.max_usage_in_bytes").write_text(f"{memory}\n")
    if swap_too:
        (place / "memory.memsw.max_usage_in_bytes").write_text(f"{swap_too}\n")
    else:
        (place / "memory.memsw.limit_in_bytes").unlink()
    assert group.reached_memory_limit() == reached


def test_a_limit_that_was_reached_in_version_2(tmp_path: Path) -> None:
    """The kernel counts when it found nothing to give in the group; `max` counts when it had to look for it."""
    groups, place = fake(tmp_path, 2, "memory")
    group = groups.make("debfarm-1-b", LIMITS)
    for oom, reached in ((0, False), (1, True)):
        (place / "memory.events").write_text(f"max 99\noom {oom}\noom_kill 1\n")
        assert group.reached_memory_limit() == reached


@pytest.fixture
def outer() -> Iterator[Path]:
    """A real group of version 1 that has a limit of its own, like a service with a daemon in it."""
    memory = Path("/sys/fs/cgroup/memory")
    if not (memory / "memory.limit_in_bytes").exists() or not os.access(memory, os.W_OK):
        pytest.skip("no control groups of version 1 with a memory controller, or not ours")
    place = memory / f"debfarm-test-{os.getpid()}"
    place.mkdir()
    yield place
    place.rmdir()


@pytest.mark.parametrize(
    ("outer_bytes", "own_bytes", "reached"), [(64 << 20, 1 << 30, False), (1 << 30, 64 << 20, True)]
)
def test_whose_limit_it_was(outer: Path, outer_bytes: int, own_bytes: int, *, reached: bool) -> None:
    """A real kernel kills in a build's group for want of memory there, or further out; it counts both as the same."""
    (outer / "memory.limit_in_bytes").write_text(f"{outer_bytes}\n")
    groups = Groups((Hierarchy(1, outer, ("memory",)),), ())
    group = groups.make("build", replace(LIMITS, memory_bytes=own_bytes))
    try:
        hog = 'echo 0 >"$0" && exec "$1" -c "x = bytearray(256 << 20)"'
        ended = subprocess.run(["sh", "-c", hog, *group.entrances, sys.executable], check=False, timeout=60)
        assert ended.returncode == -signal.SIGKILL
        assert (group.killed_for_memory(), group.reached_memory_limit()) == (1, reached)
    finally:
        assert group.remove()


def test_a_group_is_ended_at_once(tmp_path: Path) -> None:
    """By the kernel, where it can do that."""
    groups, place = fake(tmp_path, 2)
    groups.make("debfarm-1-b", LIMITS).kill()
    assert (place / "cgroup.kill").read_text() == "1\n"


def test_groups_that_an_earlier_daemon_left(tmp_path: Path) -> None:
    """Those of this daemon's directory, and no others."""
    groups, _ = fake(tmp_path, 1, "pids")
    (tmp_path / "debfarm-2-b").mkdir()
    assert [group.places[0][1].name for group in groups.leftovers("debfarm-1-")] == ["debfarm-1-b"]


def test_without_any_hierarchy() -> None:
    """Nothing is limited, counted or ended."""
    group = Group(())
    assert (group.entrances, group.members(), group.killed_for_memory(), group.refused_processes()) == ([], [], 0, 0)
    group.kill()
    assert group.remove()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may make groups anywhere")
def test_no_place_for_groups() -> None:
    """Where this user may make none, each hierarchy with something for us is refused, with the reason."""
    groups = cgroups.probe("/nowhere-at-all", "debfarm-test-probe")
    assert not groups.controllers
    assert all("cannot be used" in sentence for sentence in groups.refused)
