"""Control groups of its own for a daemon that root starts, as systemd gives a service with Delegate= some.

Where the machine has version 1 of the controllers, in each of their hierarchies; and in that of version 2.
"""

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildd.cgroups import find
from tools.account import ROOT, Account

_PREFIX = "debfarm-test-"
_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks")  # What systemd hands over as well.
_EMPTY_S = 5.0
_ENTER = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit; shift; done; shift; exec "$@"'


@dataclass(frozen=True)
class OwnGroups:
    """One group in each hierarchy, below the one that this process is in, all of one name."""

    places: tuple[Path, ...] = ()

    @classmethod
    def make(cls, account: Account) -> "OwnGroups":
        """Make them for an account; none, where this program may not. What killed tests left is removed."""
        if os.geteuid() != ROOT:
            return cls()
        # Not that of cpu alone: a build would compete as one with each single process of all that runs here besides.
        above = [hierarchy.place for hierarchy in find("") if hierarchy.controllers != ("cpu",)]
        for place in (left for parent in above for left in parent.glob(f"{_PREFIX}[0-9]*-[0-9]*")):
            if not Path("/proc", place.name.removeprefix(_PREFIX).partition("-")[0]).exists():
                _remove(place)
        taken = sum(1 for parent in above for _ in parent.glob(f"{_PREFIX}{os.getpid()}-*"))
        places = [parent / f"{_PREFIX}{os.getpid()}-{taken}" for parent in above]
        made = []
        for place in places:
            with contextlib.suppress(OSError):  # A container may forbid it in one and not in others.
                place.mkdir()
                for path in (place, *(place / name for name in _DELEGATED)):
                    if path.exists():
                        os.chown(path, account.uid, account.gid)
                made.append(place)
        return cls(tuple(made))

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs another one in them."""
        entrances = [str(place / "cgroup.procs") for place in self.places]
        return ["sh", "-c", _ENTER, "enter", *entrances, "--", *argv] if entrances else list(argv)

    def remove(self) -> None:
        """Remove them, and what was made in them; nothing runs there any more."""
        for place in self.places:
            _remove(place)


def _remove(place: Path) -> None:
    """The files of a group go with its directory, and cannot be removed before."""
    for below in (path for path in place.glob("*") if path.is_dir()):
        _remove(below)
    deadline = time.monotonic() + _EMPTY_S
    while True:
        try:
            place.rmdir()
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # What was killed a moment ago takes its time.
        else:
            return
