"""Where the tests' own servers keep their data: nothing of it outlives them, so nobody need wait for a disk."""

import os
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ENOUGH = 4 << 30  # Bytes; the tests need some hundreds of millions.


def in_memory() -> str:
    """A directory that is memory, where there is one with enough room; else that for temporary files.

    PostgreSQL makes a database of 300 files: here in 0.03 s, on a disk in half a second.
    """
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return tempfile.gettempdir()
    roomy = found.f_bavail * found.f_frsize >= _ENOUGH and os.access(_MEMORY, os.W_OK | os.X_OK)
    return str(_MEMORY) if roomy else tempfile.gettempdir()
