"""The directories that builds run in. To choose one takes longer than anything else in build(), so that for the next
build is made while nobody waits for it."""

import math
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from buildd.isolation.block_groups import make_directory
from buildd.managers.base import InThread

# What is tried and removed again makes the places slow that it was in. Builds in a chroot take longer than this; where
# one follows the other faster, a slow place costs it little.
_CHOOSE_EVERY_S = 5.0
_GOOD = 3.0  # A place in which files take so many times as long as in the best is a good one; in a bad one, 20 times.
NEXT = "next"  # No build's is called so. What is left of an earlier daemon goes as all that it left.

_log = Logger()


class BuildDirectories:
    """Makes directories below one that is the daemon's own."""

    def __init__(self, folder: Path, in_thread: InThread, clock: Callable[[], float] = time.monotonic) -> None:
        """:param clock: seconds."""
        self._folder = folder
        self._in_thread = in_thread
        self._clock = clock
        self._chosen_at = -math.inf  # When a place was looked for last, by the clock.
        self._least_s = 0.0  # In the best place so far, to make a file; 0: nobody knows.

    async def take(self) -> Path:
        """An empty directory of a new name, for its owner only.

        :raises OSError: it cannot be made.
        """
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"build-{secrets.token_hex(8)}"
        try:
            (self._folder / NEXT).rename(path)
        except FileNotFoundError:
            await self._make(path)
        path.chmod(0o700)
        return path

    async def prepare(self) -> None:
        """Make the next one, if that can be done."""
        try:
            if not (self._folder / NEXT).exists():
                await self._make(self._folder / NEXT)
        except OSError as exc:  # Whoever needs one will hear of it.
            _log.warn("no directory for the next build can be made: {why}", why=exc.strerror or str(exc))

    async def _make(self, path: Path) -> None:
        now = self._clock()
        if now - self._chosen_at < _CHOOSE_EVERY_S:
            path.mkdir()
            return
        self._chosen_at = now
        took = await self._in_thread(make_directory, path, _GOOD * self._least_s)
        self._least_s = min(took, self._least_s or took)

    def clear(self) -> None:
        """Leave none behind that was not taken."""
        for left in self._folder.glob(f"{NEXT}*"):
            left.rmdir()
