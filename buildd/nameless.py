"""Space on the disk that is in no directory: files that were removed, and that a build has open still."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from buildd.processes import PROC, Process

_TIMEOUT_S = 60.0
# Of the files that are open, the number of the device, that of the inode, and blocks of 512 bytes.
_FIND = ("-maxdepth", "1", "-type", "f", "-links", "0", "-printf", "%D %i %b\\n")


def nameless_bytes(processes: Iterable[Process], proc: Path = PROC) -> int:
    """What files without a name take that these have open; each once. Blocks.

    What is mapped and closed, or on its way in a socket, nobody can find.

    :param processes: of one build, as processes.below has them: the first is in its mount and user namespaces.
    """
    pids = [str(process.pid) for process in processes]
    if not pids:
        return 0
    try:
        devices = _disks((proc / pids[0] / "mountinfo").read_text(encoding="utf-8", errors="replace"))
        # What a process has open is to be seen by its own user only, and by who has entered its user namespace.
        enter = [] if os.geteuid() == 0 else ["nsenter", f"--target={pids[0]}", "--user", "--"]
        find = [*enter, "find", "-L", *(str(proc / pid / "fd") for pid in pids), *_FIND]
        # A process may end at any moment, and find complains.
        said = subprocess.run(find, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found: dict[tuple[int, int], int] = {}
    for line in said.stdout.splitlines():
        device, inode, blocks = map(int, line.split())
        if device in devices:
            found[device, inode] = blocks * 512
    return sum(found.values())


def _disks(mountinfo: str) -> set[int]:
    """The devices of what is mounted, but for what is in memory. A memfd has one that is mounted nowhere."""
    fields = [line.split() for line in mountinfo.splitlines()]
    numbers = [each[2].split(":") for each in fields if each[each.index("-") + 1] != "tmpfs"]
    return {os.makedev(int(major), int(minor)) for major, minor in numbers}
