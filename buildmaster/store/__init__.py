"""Where the farm's files are: by their SHA-256, whole or not at all.

This is the interface; local.py keeps a folder, s3.py a bucket.
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NewType, Protocol

from buildd.protocol import Sha1

Sha256 = NewType("Sha256", str)  # 64 lower-case hex digits.

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class NotStored(LookupError):
    """The store has no file of this SHA-256."""

    def __init__(self, sha256: Sha256) -> None:
        super().__init__(f"the store has no file of SHA-256 {sha256}")
        self.sha256 = sha256


class StoreError(OSError):
    """The store cannot be used; the message says which, what was tried, and why not."""


@dataclass(frozen=True)
class StoredFile:
    """A file in the store."""

    sha256: Sha256
    sha1: Sha1
    size: int  # Bytes.
    # When it was last known to be in the store, in Unix time; see buildmaster.files.keep().
    stored_at: float = field(default_factory=time.time, compare=False)


@dataclass(frozen=True)
class Listed:
    """A file that the store has, as it says itself; nobody has looked at the content."""

    sha256: Sha256
    size: int  # Bytes.
    changed_at: float  # Unix time: when it came into the store.


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
        """Put the file into the store, durably. What is there already, with this size, is left as it is.

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
        """Open a file for reading; the stream can seek.

        :raises NotStored: it is not here.
        :raises OSError: the store cannot be used; the stream's methods raise this as well.
        """

    def has(self, sha256: Sha256) -> bool:
        """Whether a file is here.

        :raises OSError: the store cannot be used.
        """

    def sweep(self) -> int:
        """Remove what writers that died have left, and say how many; those that live are left alone.

        :raises OSError: the store cannot be used.
        """

    def files(self, prefix: str = "") -> Iterator[Listed]:
        """Every file whose SHA-256 begins so, in no order. What comes or goes meanwhile may be among them.

        :raises OSError: the store cannot be used.
        """

    def delete(self, sha256: Sha256) -> None:
        """Remove a file; harmless when it is not here. Whether anybody needs it is the caller's to know.

        :raises OSError: the store cannot be used.
        """

    def local_path(self, sha256: Sha256) -> Path | None:
        """Where a file is on this machine, to be linked to; None: it is elsewhere."""

    def url(self, sha256: Sha256, lifetime_s: int) -> str | None:
        """Where anybody can fetch a file from the store itself, for so long; None: nowhere.

        Such a URL is a secret: what follows its "?" must not be in logs. Does not block for long.
        """


def store_chunks(store: Store, chunks: Iterable[bytes]) -> StoredFile:
    """What Store.add() does, with the store's own writer."""
    writer = store.writer()
    try:
        for chunk in chunks:
            writer.write(chunk)
        return writer.commit()
    finally:
        writer.discard()


def parse_sha256(value: str) -> Sha256:
    """Take 64 lower-case hex digits.

    :raises ValueError: anything else.
    """
    if not _SHA256.fullmatch(value):
        raise ValueError(f"not a SHA-256 of 64 hex digits: {value[:80]!r}")
    return Sha256(value)
