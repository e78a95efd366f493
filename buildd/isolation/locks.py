"""Locks between processes: files locked with flock(2), which the kernel takes back from whoever dies.

Nobody here ever waits for one: the daemon has other things to do, so it asks again later.
"""

import fcntl
import os
from pathlib import Path
from typing import IO


def take(path: Path, *, shared: bool = False, make: bool = False) -> IO[bytes] | None:
    """Lock a file until what this returns is closed; None when others hold it, or it is not there.

    :param shared: together with others who share it.
    :param make: make it, where it is not there.
    """
    while True:
        try:
            file = path.open("ab+" if make else "rb")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if _is_still(path, file):
            return file
        file.close()  # It was removed or moved between the two calls: this is not the lock any more.
        if not make:
            return None


def give_back(path: Path, file: IO[bytes]) -> None:
    """End a lock that was taken for oneself alone, and leave no file."""
    path.unlink(missing_ok=True)
    file.close()


def _is_still(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
