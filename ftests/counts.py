"""What a daemon and its builds have of a machine, by count."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import BuilddTestSetup

_IDS = 65536
_MEMORY_KB = 12 << 10  # What the daemon may take more: its allocator keeps some of what it had.
# Layers are looked over and written to the disk some time after they were made.
_LATER = ("seal", "content", "durable")


@dataclass(frozen=True)
class Counts:
    """What there is at one moment; names where they help to find out what was left."""

    processes: frozenset[str]  # Of the account and of its subordinate ids, without the daemon's own.
    mounts: frozenset[str]
    files: frozenset[str]  # Below the daemon's directory, without the content of layers.
    inodes: int  # Of its disk.
    temporary: frozenset[str]  # In /tmp, /var/tmp and /dev/shm, those of the account.
    groups: frozenset[str]
    descriptors: int  # Of the daemon.
    sockets: int  # Of these.
    threads: int
    memory_kb: int

    @classmethod
    def of(cls, setup: BuilddTestSetup) -> "Counts":
        """Count now."""
        daemon = setup.process.process.pid
        proc = Path(f"/proc/{daemon}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        targets = list(_targets(proc / "fd"))
        disk = os.statvfs(setup.directory)
        return cls(
            processes=frozenset(_processes(setup, daemon)),
            mounts=frozenset(
                line.split()[4]
                for line in Path("/proc/self/mountinfo").read_text().splitlines()
                if f" {setup.directory}/" in line
            ),
            files=frozenset(_files(setup.directory)),
            inodes=disk.f_files - disk.f_ffree,
            temporary=frozenset(_temporary(setup)),
            groups=frozenset(str(below) for place in setup.groups for below in place.rglob("*") if below.is_dir()),
            descriptors=len(targets),
            sockets=sum(target.startswith("socket:") for target in targets),
            threads=int(status["Threads"]),
            memory_kb=int(status["VmRSS"].split()[0]),
        )

    def beyond(self, before: "Counts", middle: "Counts") -> list[str]:
        """What is here that was not before, in words.

        :param middle: when the daemon that runs now had built a little: what it takes is compared with that.
        """
        found = []
        for name in ("processes", "mounts", "files", "temporary", "groups"):
            more = getattr(self, name) - getattr(before, name)
            if more:
                found.append(f"{len(more)} {name} more than before: {', '.join(sorted(more)[:10])}")
        if self.inodes > before.inodes + 8:  # Seals.
            found.append(f"{self.inodes - before.inodes} inodes more than before")
        for name in ("descriptors", "sockets", "threads"):
            more = getattr(self, name) - getattr(middle, name)
            if more > (10 if name == "threads" else 0):  # A pool, which grows to its size.
                found.append(f"{more} {name} of the daemon more than in the middle")
        if self.memory_kb > middle.memory_kb + _MEMORY_KB:
            found.append(f"{self.memory_kb - middle.memory_kb} kB of the daemon's memory more than in the middle")
        return found

    @staticmethod
    def rows(*counts: "Counts") -> Iterator[tuple[str, list[int]]]:
        """A line of a table for each kind."""
        for name in Counts.__dataclass_fields__:
            values = [getattr(count, name) for count in counts]
            yield name, [value if isinstance(value, int) else len(value) for value in values]


def _processes(setup: BuilddTestSetup, daemon: int) -> Iterator[str]:
    """Those of who the daemon's builds are. Other daemons of the same account may run: theirs are in other groups."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            uid = process.stat().st_uid
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            group = (process / "cgroup").read_text()
        except OSError:
            continue
        ours = any(place.name in group for place in setup.groups) or str(setup.directory) in command
        if ours and (uid == setup.account.uid or uid >= _IDS) and int(process.name) != daemon:
            yield f"{process.name} {command[:60]}"


def _files(directory: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(directory):
        place = Path(folder)
        if "tree" in folders:
            folders.remove("tree")
        for name in (*folders, *names):
            if not re.fullmatch("|".join(_LATER), name):
                yield str((place / name).relative_to(directory))


def _temporary(setup: BuilddTestSetup) -> Iterator[str]:
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        for path in Path(folder).iterdir():
            try:
                uid = path.lstat().st_uid
            except FileNotFoundError:
                continue
            if uid == setup.account.uid and setup.account.is_another:
                yield str(path)


def _targets(place: Path) -> Iterator[str]:
    for descriptor in place.iterdir():
        try:
            yield str(descriptor.readlink())
        except FileNotFoundError:
            continue
