"""Where the farm's files are: by their SHA-256, whole or not at all. This is the interface; local.py keeps a folder."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, NewType, Protocol

from buildd.protocol import Sha1

Sha256 = NewType("Sha256", str)  # 64 lower-case hex digits.

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class NotStored(LookupError):
    """The store has no file of this SHA-256."""

    def __init__(self, sha256: Sha256) -> None:
        super().__init__(f"the store has no file of SHA-256 {sha256}")
        self.sha256 = sha256


@dataclass(frozen=True)
class StoredFile:
    """A file in the store."""

    sha256: Sha256
    sha1: Sha1
    size: int  # Bytes.


class StoreWriter(Protocol):
    """A file on its way into the store. Not visible before commit(). Blocks; not for the reactor's thread."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    @property
    def sha1(self) -> Sha1:
        """The SHA-1 of what was written so far."""

    @property
    def sha256(self) -> Sha256:
        """The SHA-256 of what was written so far."""

    def write(self, data: bytes) -> None:
        """Append.

        :raises OSError: the disk is full or broken; call discard().
        """

    def commit(self) -> StoredFile:
        """Put the file into the store, durably. What is there already is left as it is.

        :raises OSError: the disk is full or broken; nothing is left behind.
        """

    def discard(self) -> None:
        """Forget what was written. Harmless after commit() and when called twice."""


class Store(Protocol):
    """Files by SHA-256. Every method blocks; several threads and processes may use one store at once."""

    def writer(self) -> StoreWriter:
        """Begin a new file."""

    def add(self, chunks: Iterable[bytes]) -> StoredFile:
        """Store a file, given in pieces of any length.

        :raises OSError: the disk is full or broken; nothing is left behind.
        """

    def open(self, sha256: Sha256) -> BinaryIO:
        """Open a file for reading.

        :raises NotStored: it is not here.
        """

    def has(self, sha256: Sha256) -> bool:
        """Whether a file is here."""

    def sweep(self) -> int:
        """Remove what writers that died have left, and say how many; those that live are left alone."""


def parse_sha256(value: str) -> Sha256:
    """Take 64 lower-case hex digits.

    :raises ValueError: anything else.
    """
    if not _SHA256.fullmatch(value):
        raise ValueError(f"not a SHA-256 of 64 hex digits: {value[:80]!r}")
    return Sha256(value)
