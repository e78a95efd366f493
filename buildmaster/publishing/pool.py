"""The files of an archive's packages: placed before an index names them, removed long after the last one did."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


class PoolConflict(ValueError):
    """A file of this name is in the pool, with other content."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is in the pool already, with other content")
        self.path = path


class PoolFileDamaged(ValueError):
    """A file is not what was promised of it, by size or SHA-256."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} does not have the size and the SHA-256 that were promised")
        self.path = path


@dataclass(frozen=True)
class PoolFile:
    """A file that is to be in the pool."""

    path: str  # From the archive's directory on: pool/main/h/hello/hello_2.10-3_amd64.deb.
    size: int  # Bytes.
    sha256: str
    # Where it is on this machine, to be linked (it never changes); or what opens it, to be copied.
    source: Path | Callable[[], BinaryIO]


class Pool:
    """The pool of one archive. Blocks. Several threads and processes may use one."""

    def __init__(self, archive: Path) -> None:
        """Take the archive's directory, which need not be there yet."""
        raise NotImplementedError

    def place(self, files: Iterable[PoolFile]) -> None:
        """Have these files there, durably. What is there already is left as it is; what was retired is wanted again.

        :raises PoolConflict: one of that name has other content.
        :raises PoolFileDamaged: one is not what was promised.
        :raises OSError: the disk is full or broken.
        """
        raise NotImplementedError

    def retire(self, paths: Collection[str], now: float) -> None:
        """Note, durably, that no current index of any suite names these files any more. Saying so again is harmless,
        and does not prolong anything."""
        raise NotImplementedError

    def sweep(self, before: float) -> list[str]:
        """Remove the files that were retired before a time, and what interrupted copies left; say which."""
        raise NotImplementedError
