"""The store as a folder: AB/CDEF... by SHA-256, and new/ for files that are being written.

A file is written beside, synced and renamed, so a crash leaves whole files and *.part files. A writer holds a lock on
its .part file, by which sweep() tells those whose writer died.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from buildmaster.store import Listed, NotStored, Sha256, StoredFile, parse_sha256, store_chunks
from buildmaster.store.writing import DigestingWriter, sync_folder


class LocalStore:
    """A store in a folder. See :class:`buildmaster.store.Store`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._new = directory / "new"

    def writer(self) -> "LocalWriter":
        self._new.mkdir(parents=True, exist_ok=True)
        return LocalWriter(self._new, self.path)

    def add(self, chunks: Iterable[bytes]) -> StoredFile:
        return store_chunks(self, chunks)

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

    def files(self, prefix: str = "") -> Iterator[Listed]:
        for folder in self._directory.glob(f"{prefix[:2]}*" if len(prefix) < 2 else prefix[:2]):
            for path in folder.glob(f"{prefix[2:]}*"):
                with contextlib.suppress(FileNotFoundError, ValueError):  # Gone meanwhile, or somebody else's.
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield Listed(parse_sha256(folder.name + path.name), status.st_size, status.st_mtime)

    def delete(self, sha256: Sha256) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def local_path(self, sha256: Sha256) -> Path | None:
        return self.path(sha256)

    def url(self, sha256: Sha256, lifetime_s: int) -> str | None:
        return None

    def sweep(self) -> int:
        swept = 0
        for part in self._new.glob("*.part"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
                swept += 1
        return swept


class LocalWriter(DigestingWriter):
    """A file on its way into a LocalStore. See :class:`buildmaster.store.StoreWriter`."""

    def __init__(self, folder: Path, path: Callable[[Sha256], Path]) -> None:
        self._part, stream = _locked_part(folder)
        super().__init__(stream)
        self._path = path

    def commit(self) -> StoredFile:
        path = self._path(self.sha256)
        try:
            if not _has_size(path, self.size):
                self._publish(path)
            return self.stored()
        finally:
            self.discard()

    def _publish(self, path: Path) -> None:
        self._stream.flush()
        os.fchmod(self._stream.fileno(), 0o444)
        os.fsync(self._stream.fileno())
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            sync_folder(path.parent.parent)
        self._part.replace(path)
        sync_folder(path.parent)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # Closing flushes what a full disk did not take.
            self._stream.close()
        self._part.unlink(missing_ok=True)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _locked_part(folder: Path) -> tuple[Path, BinaryIO]:
    """A new and locked .part file."""
    while True:
        descriptor, name = tempfile.mkstemp(suffix=".part", dir=folder)
        stream = os.fdopen(descriptor, "wb")
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return Path(name), stream
        stream.close()  # sweep() came between creation and lock.
