"""Directories in places where the file system makes files quickly."""

import math
import secrets
import shutil
import time
from pathlib import Path

_TRIED = 6  # Of the places that were seen, one in ten was slow; where much is removed, one in three.
_FILES = 3  # So that one moment without a processor does not decide.


def make_directory(path: Path, good_s: float = 0.0) -> float:
    """Make a directory for many files: of some that are tried, the one in which making files takes the least time.

    To be made in one whose directories are kept apart (mounts.spread). ext4 without a journal looks at each inode of a
    block group that was freed in the last minutes before it takes another; in a group where a chroot has just been
    removed, to make a file takes 20 times as long as elsewhere, and to unpack a chroot 2 to 7 s instead of 0.8.

    :param good_s: once a place is found where to make a file takes no longer, no more are tried.
    :returns: how long it takes there.
    :raises OSError: it cannot be made; nothing is left of what was tried.
    """
    tried: dict[Path, float] = {}
    try:
        while len(tried) < _TRIED and min(tried.values(), default=math.inf) > good_s:
            candidate = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            tried[candidate] = math.inf  # Nobody knows yet.
            tried[candidate] = _seconds(candidate)
        best = min(tried, key=lambda candidate: tried[candidate])
        best.rename(path)
        return tried.pop(best)
    finally:
        for candidate in tried:
            shutil.rmtree(candidate, ignore_errors=True)


def _seconds(directory: Path) -> float:
    """Make a directory; how long it takes to make a file there."""
    directory.mkdir(mode=0o755)
    took = []
    for number in range(_FILES):
        file = directory / str(number)
        began = time.perf_counter()
        file.touch()
        took.append(time.perf_counter() - began)
    for number in range(_FILES):
        (directory / str(number)).unlink()
    return min(took)
