"""A build's log while it grows, and after it was put away."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 16


class GrowingLog:
    """Reads what the master appends to the copy of a running build's log.

    The file stays open, so nothing is lost when the master removes it after the log went to the store. A file of that
    name that is another one, or shorter than before, belongs to another attempt at the build.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._start()

    def _start(self) -> None:
        self._digest = hashlib.sha256()
        self._read = 0  # Bytes of this attempt's log.

    def read(self) -> bytes:
        """What was appended since the last call, at most CHUNK_BYTES; b"" when nothing was."""
        if self._file is None:
            try:
                self._file = self._path.open("rb", buffering=0)
            except FileNotFoundError:
                return b""
        data = self._file.read(CHUNK_BYTES)
        self._digest.update(data)
        self._read += len(data)
        return data

    def began_again(self) -> bool:
        """Whether the file now belongs to another attempt; then reading starts at its beginning."""
        if self._file is None:
            return False
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if os.path.samestat(now, os.fstat(self._file.fileno())) and now.st_size >= self._read:
            return False
        self.close()
        self._start()
        return True

    def rest_of(self, stored: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
        """What the stored log has beyond what was read; all of it when it does not begin with what was read.

        :param stored: opens the stored log, from its beginning.
        """
        skip = self._read if self._is_beginning_of(stored()) else 0
        for chunk in stored():
            if skip < len(chunk):
                yield chunk[skip:]
            skip = max(0, skip - len(chunk))

    def _is_beginning_of(self, chunks: Iterator[bytes]) -> bool:
        digest, left = hashlib.sha256(), self._read
        for chunk in chunks:
            if left <= 0:
                break
            digest.update(chunk[:left])
            left -= len(chunk)
        return left <= 0 and digest.digest() == self._digest.digest()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def tail(path: Path, limit: int) -> bytes:
    """The last bytes of a growing file; b"" while it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            return file.read(limit)
    except FileNotFoundError:
        return b""
