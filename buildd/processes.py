"""What proc(5) tells of a build's processes: which they are, what memory they take, which cannot be ended."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Fields of status and of smaps_rollup: of its own, of that in swap, shared.
_QUICK = (b"RssAnon:", b"VmSwap:", b"RssShmem:")
_EXACT = (b"Pss_Anon:", b"SwapPss:", b"Pss_Shmem:")
_NAMED_MAX = 5  # Processes in a sentence.


@dataclass(frozen=True)
class Process:
    """A process, as it was when it was looked at."""

    pid: int
    parent: int
    name: str  # What it calls itself; a build's may be anything.
    state: str  # A letter, see proc(5): D does not even hear SIGKILL, Z has ended.
    threads: int


def below(root: int, proc: Path = PROC) -> list[Process]:
    """A process and all that descend from it.

    In a pid namespace nobody can get away from that: who loses its parent becomes a child of the first process.
    """
    children: dict[int, list[Process]] = {}
    found: list[Process] = []
    for process in _all(proc):
        children.setdefault(process.parent, []).append(process)
        if process.pid == root:
            found.append(process)
    for process in found:  # It grows as it goes.
        found += children.pop(process.pid, ())
    return found


def threads_of(uid: int, proc: Path = PROC) -> int:
    """How many threads a user has running."""
    found = 0
    for process in _all(proc):
        with contextlib.suppress(OSError):
            found += process.threads if (proc / str(process.pid)).stat().st_uid == uid else 0
    return found


def memory_bytes(processes: Sequence[Process], limit: int, proc: Path = PROC) -> int:
    """The memory that these take; no more exactly than is needed to see whether that is more than a limit.

    What processes share counts once for each of them at first, which is quick to find out; only where that would be too
    much, the kernel is asked for each one's part, for which it has to look at every page.

    :param processes: as `below` has them: the first mounts nothing, the second has the mounts of all others.
    """
    in_files = _shm_bytes(processes[1].pid, proc) if len(processes) > 1 else 0
    pids = [process.pid for process in processes]
    quick = {pid: _memory(pid, proc, "status", _QUICK) or _NONE for pid in pids}
    most = _Memory.sum(quick.values())
    if most.total(in_files) <= limit:
        return most.total(in_files)
    exact = _Memory.sum(_memory(pid, proc, "smaps_rollup", _EXACT) or quick[pid] for pid in pids)
    return exact.total(in_files)


def oom_kills(proc: Path = PROC) -> int:
    """How many processes this machine's kernel has ended for want of memory, since it was booted."""
    try:
        counts = (proc / "vmstat").read_text(encoding="ascii")
    except OSError:  # It is masked where the daemon is in a container itself.
        return 0
    return next((int(line.split()[1]) for line in counts.splitlines() if line.startswith("oom_kill ")), 0)


def stuck(processes: Iterable[Process], proc: Path = PROC) -> str:
    """Names what still runs and what it waits for, such as "4711 (cp, in nfs_wait)"; empty when nothing does."""
    running = [process for process in processes if process.state not in "ZX"]
    running.sort(key=lambda process: process.state != "D")
    named = [f"{process.pid} ({_plain(process.name)}, {_waits(process, proc)})" for process in running[:_NAMED_MAX]]
    more = len(running) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _all(proc: Path) -> Iterable[Process]:
    for name in os.listdir(proc):  # noqa: PTH208  Path.iterdir() takes five times as long.
        if name.isdigit() and (process := look(int(name), proc)) is not None:
            yield process


def look(pid: int, proc: Path = PROC) -> Process | None:
    """One process, if it is there."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    start, end = stat.index(b"("), stat.rindex(b")")  # The name may have any character in it, parentheses too.
    rest = stat[end + 2 :].split()
    name = stat[start + 1 : end].decode(errors="replace")
    return Process(pid, int(rest[1]), name, rest[0].decode(), int(rest[17]))


@dataclass(frozen=True)
class _Memory:
    """Of one or more processes, in bytes; what is mapped of files does not count, as the kernel can drop it."""

    own: int
    shared: int  # /dev/shm, memfd_create(2), System V.

    @classmethod
    def sum(cls, parts: Iterable["_Memory"]) -> "_Memory":
        found = list(parts)
        return cls(sum(each.own for each in found), sum(each.shared for each in found))

    def total(self, in_files: int) -> int:
        """:param in_files: what there is in /dev/shm, whoever has it mapped."""
        return self.own + max(self.shared, in_files)


_NONE = _Memory(0, 0)


def _memory(pid: int, proc: Path, file: str, fields: tuple[bytes, bytes, bytes]) -> _Memory | None:
    """As a file of proc(5) has it; None, when the process has ended."""
    try:
        lines = [line.split() for line in (proc / str(pid) / file).read_bytes().splitlines()]
    except OSError:
        return None
    found = {words[0]: int(words[1]) << 10 for words in lines if words and words[0] in fields}
    own, swapped, shared = (found.get(name, 0) for name in fields)
    return _Memory(own + swapped, shared)


def _shm_bytes(pid: int, proc: Path) -> int:
    """What is in a process' /dev/shm; nothing, when that is this machine's own, or is no file system of its own."""
    try:
        place = proc / str(pid) / "root/dev/shm"
        if place.stat().st_dev in (place.parent.stat().st_dev, Path("/dev/shm").stat().st_dev):
            return 0
        found = os.statvfs(place)
    except OSError:
        return 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def _waits(process: Process, proc: Path) -> str:
    """Where in the kernel it sleeps, as far as that can be known."""
    where = ""
    with contextlib.suppress(OSError):
        where = (proc / str(process.pid) / "wchan").read_text(errors="replace").strip("\0\n")
    sleeps = "in uninterruptible sleep" if process.state == "D" else f"state {process.state}"
    return f"{sleeps}, in {_plain(where)}" if where not in ("", "0") else sleeps


def _plain(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)
