"""What proc(5) tells of a build's processes: which they are, what memory they take, which cannot be ended."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
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


def memory_bytes(processes: Iterable[Process], limit: int, proc: Path = PROC) -> int:
    """The memory that these take; no more exactly than is needed to see whether that is more than a limit.

    What processes share since they forked counts once for each at first, which is quick to find out; only where that
    would be too much, the kernel is asked for each one's part, for which it has to look at every page.
    """
    pids = [process.pid for process in processes]
    most = sum(_own_bytes(pid, proc) for pid in pids)
    return most if most <= limit else sum(_part_bytes(pid, proc) for pid in pids)


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


def _own_bytes(pid: int, proc: Path) -> int:
    """Resident, but for what is of a file."""
    with contextlib.suppress(OSError, ValueError):
        _, resident, shared = (proc / str(pid) / "statm").read_bytes().split()[:3]
        return (int(resident) - int(shared)) * _PAGE
    return 0


def _part_bytes(pid: int, proc: Path) -> int:
    """Its part of what it shares, and what of it is in swap; files do not count, as the kernel can drop them."""
    kept = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (proc / str(pid) / "smaps_rollup").read_bytes().splitlines():
            if line.startswith((b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")):
                kept += int(line.split()[1]) << 10
        return kept
    return _own_bytes(pid, proc)


def _waits(process: Process, proc: Path) -> str:
    """Where in the kernel it sleeps, as far as that can be known."""
    where = ""
    with contextlib.suppress(OSError):
        where = (proc / str(process.pid) / "wchan").read_text(errors="replace").strip("\0\n")
    sleeps = "in uninterruptible sleep" if process.state == "D" else f"state {process.state}"
    return f"{sleeps}, in {_plain(where)}" if where not in ("", "0") else sleeps


def _plain(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)
