"""Control groups of builds, cgroups(7): version 2 where it has the controllers, version 1 where that has them.

Each hierarchy has one directory below which this daemon may make groups: its own group, when that was delegated to its
user (systemd's Delegate=), or the one that buildd.conf names. Each build has a group in each hierarchy of use, which
its commands enter before they make their namespaces, and from which there is no way out: a build sees no hierarchy.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildd.limits import Limits

CONTROLLERS = ("memory", "pids", "cpu")
_LEAF = "debfarm-daemon"  # Where the daemon itself goes, where a group with groups in it may have no processes.
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_TRIAL_S = 10.0
_NEAR_BYTES = 1 << 20  # The kernel hands out memory in batches of 64 pages, and never more than 8 that must be had.


@dataclass(frozen=True)
class Hierarchy:
    """Where this daemon's groups would be in one hierarchy."""

    version: int
    place: Path
    controllers: tuple[str, ...]  # Of CONTROLLERS, those that it has.

    def __str__(self) -> str:
        return f"cgroup v{self.version} ({', '.join(self.controllers) or 'no controllers'}) at {self.place}"


@dataclass(frozen=True)
class Groups:
    """What there is to make groups of builds with."""

    hierarchies: tuple[Hierarchy, ...]
    refused: tuple[str, ...]  # Hierarchies of no use, a sentence each.

    @property
    def controllers(self) -> frozenset[str]:
        """What can be limited."""
        return frozenset(name for hierarchy in self.hierarchies for name in hierarchy.controllers)

    def make(self, name: str, limits: Limits) -> "Group":
        """The groups of one build.

        :raises OSError: they cannot be made; nothing is left.
        """
        group = Group(tuple((hierarchy, hierarchy.place / name) for hierarchy in self.hierarchies))
        try:
            group.set_up(limits)
        except OSError:
            group.remove()
            raise
        return group

    def leftovers(self, prefix: str) -> list["Group"]:
        """Groups of builds that an earlier daemon left, by how their names begin."""
        found = [(each, place) for each in self.hierarchies for place in each.place.glob(f"{prefix}*")]
        return [Group((pair,)) for pair in found]


def find(wanted: str, proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """The hierarchies that have a controller for us, or can end all of a group at once; nothing is tried yet.

    :param wanted: the path of our group in each of them; empty: the one that the process of `proc` is in.
    """
    own = _own_groups((proc / "cgroup").read_text(encoding="utf-8", errors="surrogateescape"))
    found: dict[int | str, Hierarchy] = {}
    for line in (proc / "mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        kind, _, options = after.split(b" ", 2)
        root, mounted = (Path(os.fsdecode(_unescaped(word))) for word in before.split(b" ")[3:5])
        if kind == b"cgroup2":
            name, version = "", 2
        elif kind == b"cgroup" and (names := set(options.decode().split(",")) & set(CONTROLLERS)):
            name, version = sorted(names)[0], 1
        else:
            continue
        path = Path(wanted or own.get(name, "/").removesuffix(f"/{_LEAF}"))
        place = mounted / (path.relative_to(root) if path.is_relative_to(root) else path.relative_to("/"))
        controllers = _controllers(place) if version == 2 else tuple(each for each in CONTROLLERS if each in names)
        found.setdefault(name, Hierarchy(version, place, controllers))
    return list(found.values())


def probe(wanted: str, name: str) -> Groups:
    """See by doing where groups can be made; the daemon itself moves aside where it has to.

    :param name: for the group that is made to try.
    """
    good: list[Hierarchy] = []
    refused: list[str] = []
    for hierarchy in find(wanted):
        try:
            if hierarchy.version == 2 and hierarchy.controllers:
                _delegate(hierarchy.place, hierarchy.controllers)
            _try(hierarchy, hierarchy.place / name)
            good.append(hierarchy)
        except OSError as exc:
            if hierarchy.controllers:
                refused.append(f"{hierarchy} cannot be used: {exc.strerror or exc}")
    return Groups(tuple(good), tuple(refused))


@dataclass(frozen=True)
class Group:
    """The groups of one build, one in each hierarchy."""

    places: tuple[tuple[Hierarchy, Path], ...]

    def set_up(self, limits: Limits) -> None:
        """Make them, with their limits. :raises OSError: that cannot be."""
        for hierarchy, place in self.places:
            place.mkdir(exist_ok=True)
            for file, value in _settings(hierarchy, limits):
                if (place / file).exists():  # Accounting of swap may be off.
                    (place / file).write_text(f"{value}\n", encoding="ascii")

    @property
    def entrances(self) -> list[str]:
        """The files into which a process writes 0 to enter."""
        return [str(place / "cgroup.procs") for _, place in self.places]

    def limits(self, controller: str) -> bool:
        """Whether this is limited here."""
        return any(controller in hierarchy.controllers for hierarchy, _ in self.places)

    def killed_for_memory(self) -> int:
        """How many of its processes the kernel has killed for want of memory: of its own, or of the whole machine's."""
        return self._count("memory", ("memory.oom_control", "memory.events"), "oom_kill")

    def reached_memory_limit(self) -> bool:
        """Whether it ever had all the memory that it may; version 2 knows whether that was not enough.

        The failures that version 1 counts are no help: where swap is counted, too, some kernels count none.
        """
        return any(
            _reached(place) if hierarchy.version == 1 else self._count("memory", ("", "memory.events"), "oom") > 0
            for hierarchy, place in self.places
            if "memory" in hierarchy.controllers
        )

    def refused_processes(self) -> int:
        """How often there could be no more processes in the group."""
        return self._count("pids", ("pids.events", "pids.events"), "max")

    def members(self) -> list[int]:
        """What runs in it."""
        found: set[int] = set()
        for _, place in self.places:
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (place / "cgroup.procs").read_text(encoding="ascii").split()}
        return sorted(found)

    def kill(self) -> None:
        """End all that runs in it: at once where there is cgroup.kill, else one by one.

        Not by the freezer of version 1: what it holds does not hear SIGKILL, so that a daemon killed at that moment
        would leave what nobody ends.
        """
        for _, place in self.places:
            with contextlib.suppress(OSError):
                if (place / "cgroup.kill").exists():
                    (place / "cgroup.kill").write_text("1\n", encoding="ascii")
        for pid in self.members():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Whether nothing of it is left; something runs in what is."""
        for _, place in self.places:
            with contextlib.suppress(OSError):
                place.rmdir()
        return not any(place.exists() for _, place in self.places)

    def _count(self, controller: str, files: Sequence[str], key: str) -> int:
        """A counter, in the file that it has in version 1 and 2; 0 where there is none."""
        for hierarchy, place in self.places:
            if controller in hierarchy.controllers:
                with contextlib.suppress(OSError, ValueError):
                    lines = (place / files[hierarchy.version - 1]).read_text(encoding="ascii").splitlines()
                    return sum(int(line.split()[1]) for line in lines if line.split()[0] == key)
        return 0


def _settings(hierarchy: Hierarchy, limits: Limits) -> list[tuple[str, int]]:
    """File and value for each limit, in the order in which they must be written."""
    settings: list[tuple[str, int]] = []
    memory = limits.memory_bytes
    if "memory" in hierarchy.controllers and hierarchy.version == 1:
        settings += [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)]
    elif "memory" in hierarchy.controllers:  # Swap is a limit of its own here, beside that of memory.
        resident = min(memory, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        settings += [("memory.max", resident), ("memory.swap.max", memory - resident)]
    if "pids" in hierarchy.controllers:
        settings.append(("pids.max", limits.processes))
    return settings


def _reached(place: Path) -> bool:
    """Whether a group of version 1 has been at one of its limits, or so near that the kernel found nothing to give.

    What the kernel keeps of files counts as well, though it would have given that up: there is no other number.
    """
    for kind in ("memory", "memory.memsw"):
        with contextlib.suppress(OSError, ValueError):  # Accounting of swap may be off.
            most, limit = (
                int((place / f"{kind}.{file}").read_text(encoding="ascii"))
                for file in ("max_usage_in_bytes", "limit_in_bytes")
            )
            if most >= limit - _NEAR_BYTES:
                return True
    return False


def _own_groups(text: str) -> dict[str, str]:
    """Controller to the path of a process' group; that of version 2 has the empty name."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        own |= dict.fromkeys(names.split(","), path)
    return own


def _controllers(place: Path) -> tuple[str, ...]:
    """Those that a group of version 2 can hand on."""
    try:
        words = (place / "cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return ()
    return tuple(name for name in CONTROLLERS if name in words)


def _delegate(place: Path, controllers: Sequence[str]) -> None:
    """Let groups below have controllers; "no internal processes", so this process moves into a group of its own.

    :raises OSError: the group is not ours, or there are other processes in it.
    """
    if str(os.getpid()) in (place / "cgroup.procs").read_text(encoding="ascii").split():
        (place / _LEAF).mkdir(exist_ok=True)
        (place / _LEAF / "cgroup.procs").write_text("0\n", encoding="ascii")
    try:
        enable = " ".join(f"+{name}" for name in controllers)
        (place / "cgroup.subtree_control").write_text(f"{enable}\n", encoding="ascii")
    except OSError as exc:
        others = (place / "cgroup.procs").read_text(encoding="ascii").split()
        if others:
            raise OSError(f"processes other than the daemon are in it, such as {others[0]}") from exc
        raise


def _try(hierarchy: Hierarchy, place: Path) -> None:
    """Make a group, and see that a process can enter it. :raises OSError: no."""
    place.mkdir(exist_ok=True)
    try:
        for file, _ in _settings(hierarchy, _ANY):
            if (place / file).exists() and not os.access(place / file, os.W_OK):
                raise PermissionError(f"{place / file} is not this user's")
        enter = ["sh", "-c", 'echo 0 >"$0"', str(place / "cgroup.procs")]
        ended = subprocess.run(enter, capture_output=True, text=True, timeout=_TRIAL_S, check=False)
        if ended.returncode:
            raise OSError(f"a process cannot enter a group there: {ended.stderr.strip()}")
    except subprocess.TimeoutExpired as exc:
        raise OSError("a process cannot enter a group there in time") from exc
    finally:
        place.rmdir()


_ANY = Limits(memory_bytes=1, processes=1, disk_bytes=1, open_files=1, wall_s=1, silence_s=1, log_bytes=1)


def _unescaped(word: bytes) -> bytes:
    r"""A path of mountinfo, in which a space is \040."""
    by_number: Callable[[re.Match[bytes]], bytes] = lambda match: bytes([int(match[1], 8)])  # noqa: E731
    return _ESCAPE.sub(by_number, word)
