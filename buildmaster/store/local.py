"""The store as a folder: AB/CDEF... by SHA-256, and new/ for files that are being written.

A file is written beside, synced and renamed, so a crash leaves whole files and *.part files. A writer holds a lock on
its .part file, by which sweep() tells those whose writer died.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from buildd.protocol import Sha1
from buildmaster.store import NotStored, Sha256, StoredFile, parse_sha256


class LocalStore:
    """A store in a folder. See :class:`buildmaster.store.Store`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._new = directory / "new"
        self._new.mkdir(parents=True, exist_ok=True)

    def writer(self) -> "LocalWriter":
        return LocalWriter(self._new, self.path)

    def add(self, chunks: Iterable[bytes]) -> StoredFile:
        writer = self.writer()
        try:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()
        finally:
            writer.discard()

    def open(self, sha256: Sha256) -> BinaryIO:
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError:
            raise NotStored(sha256) from None

    def has(self, sha256: Sha256) -> bool:
        return self.path(sha256).is_file()

    def path(self, sha256: Sha256) -> Path:
        """Where a file is, or would be."""
        digits = parse_sha256(sha256)
        return self._directory / digits[:2] / digits[2:]

    def sweep(self) -> int:
        swept = 0
        for part in self._new.glob("*.part"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
                swept += 1
        return swept


class LocalWriter:
    """A file on its way into a LocalStore. See :class:`buildmaster.store.StoreWriter`."""

    def __init__(self, folder: Path, path: Callable[[Sha256], Path]) -> None:
        self._part, self._stream = _locked_part(folder)
        self._path = path
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    @property
    def sha1(self) -> Sha1:
        return Sha1(self._sha1.hexdigest())

    @property
    def sha256(self) -> Sha256:
        return Sha256(self._sha256.hexdigest())

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._sha1.update(data)
        self._sha256.update(data)
        self._size += len(data)

    def commit(self) -> StoredFile:
        stored = StoredFile(self.sha256, self.sha1, self._size)
        path = self._path(stored.sha256)
        try:
            if not path.exists():
                self._publish(path)
        finally:
            self.discard()
        return stored

    def _publish(self, path: Path) -> None:
        self._stream.flush()
        os.fchmod(self._stream.fileno(), 0o444)
        os.fsync(self._stream.fileno())
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            _sync_folder(path.parent.parent)
        self._part.replace(path)
        _sync_folder(path.parent)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # Closing flushes what a full disk did not take.
            self._stream.close()
        self._part.unlink(missing_ok=True)


def _locked_part(folder: Path) -> tuple[Path, BinaryIO]:
    """A new and locked .part file."""
    while True:
        descriptor, name = tempfile.mkstemp(suffix=".part", dir=folder)
        stream = os.fdopen(descriptor, "wb")
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return Path(name), stream
        stream.close()  # sweep() came between creation and lock.


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
