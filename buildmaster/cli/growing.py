"""A build's log while it grows, and after it was put away."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from buildd.protocol import BuildId

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Attempt:
    """A build on a builder."""

    url: str  # The builder's, with the slash.
    cookie: BuildId  # What it calls the build.
    began_at: float


class GrowingLog:
    """Reads what the master appends to the copy of a running build's log.

    The file stays open, so nothing is lost when the master removes it after the log went to the store. A file of that
    name that is another one, or shorter than before, belongs to another attempt at the build.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.trouble = ""  # Why nothing more can be read now, in words.
        self._start()

    def look_at(self, attempt: Attempt | None) -> bool:
        """Say which attempt goes on; None: none does. Says whether it is another than that of which something was read,
        where that is not seen in the file."""
        return False

    def _start(self) -> None:
        self._digest = hashlib.sha256()
        self._read = 0  # Bytes of this attempt's log.

    def read(self) -> bytes:
        """What was appended since the last call, or a part of that; b"" when nothing was."""
        data = self._more()
        self._digest.update(data)
        self._read += len(data)
        return data

    def _more(self) -> bytes:
        if self._file is None:
            try:
                self._file = self._path.open("rb", buffering=0)
            except FileNotFoundError:
                return b""
        return self._file.read(CHUNK_BYTES)

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
        self.begin_again()
        return True

    def begin_again(self) -> None:
        """Read from the beginning."""
        self.close()
        self._start()

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
