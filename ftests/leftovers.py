"""What a build could leave behind on a machine: processes, mounts and files, counted before and after."""

import time
from dataclasses import dataclass
from pathlib import Path

from buildd.build_directories import NEXT

SETTLE_S = 5.0  # A directory is removed after clean() has answered.


@dataclass(frozen=True)
class Leftovers:
    """What there is of builds, at one moment."""

    directory: Path  # The daemon's.
    mounts: frozenset[str]
    builds: frozenset[str]

    @classmethod
    def of(cls, directory: Path) -> "Leftovers":
        """Look now."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        builds = directory / "builds"
        return cls(
            directory,
            frozenset(line.split()[4] for line in mounts if str(directory) in line),
            frozenset(path.name for path in builds.glob("*") if path.name != NEXT),
        )

    def assert_none_since(self, before: "Leftovers") -> None:
        """Nothing is here that was not before; what is being removed has a moment for it."""
        deadline = time.monotonic() + SETTLE_S
        now = self
        while (now.mounts, now.builds) != (before.mounts, before.builds) and time.monotonic() < deadline:
            time.sleep(0.1)
            now = Leftovers.of(self.directory)
        assert (now.mounts, now.builds) == (before.mounts, before.builds)

    @staticmethod
    def processes(words: str) -> list[str]:
        """The processes whose command line begins with these words."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if line.strip() == words:
                found.append(process.name)
        return found
