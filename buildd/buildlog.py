"""The log of one build: appended to as it comes, its tail at hand, passwords taken out, its size limited."""

import os
import re
from pathlib import Path

from buildd.protocol import LOG_TAIL_BYTES

# "user:password@" in a URL.
_CREDENTIALS = re.compile(rb"://[^\s/@:]*:[^\s/@]*@")
_HELD_BACK_MAX = 8192  # Bytes; no URL with a password in it is longer.


def without_passwords(data: bytes) -> bytes:
    """The data without the user:password@ of its URLs."""
    return _CREDENTIALS.sub(b"://", data)


class BuildLog:
    """Append-only. Anything goes in: binary bytes and lines of any length are the package's business."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        """Begin an empty log at `path`, in place of what was there.

        :raises OSError: it cannot be created.
        """
        self.path = path
        self.size = 0  # Bytes in the file.
        self.scrub = False  # Take user:password out of URLs from here on.
        self.full = False  # The limit was reached; nothing more is kept.
        self.error: OSError | None = None  # Why the log could not be written, if so.
        self._limit_bytes = limit_bytes
        self._held_back = b""
        path.unlink(missing_ok=True)  # A reader of the last log keeps that one.
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def write(self, data: bytes) -> None:
        """Append; never raises. A full disk is remembered in `error`, the size limit in `full`."""
        if self.scrub:
            data = self._scrubbed(data)
        self._append(data)

    def say(self, line: str) -> None:
        """Append a line of the daemon's own."""
        self.write(line.encode() + b"\n")

    def tail(self, length: int = LOG_TAIL_BYTES) -> bytes:
        """The last `length` bytes at most."""
        if self._fd is None:
            return b""
        return os.pread(self._fd, length, max(0, self.size - length))

    def rename(self, path: Path) -> None:
        """Go on under another name, in place of what was there.

        :raises OSError: it cannot be renamed, and goes on under the old name.
        """
        self.path.rename(path)
        self.path = path

    def close(self) -> None:
        """Write what is held back; the file stays."""
        if self._fd is not None:
            self._append(without_passwords(self._held_back))
            self._held_back = b""
            fd, self._fd = self._fd, None  # Closed, even if the disk fails now.
            os.close(fd)

    def _scrubbed(self, data: bytes) -> bytes:
        """What can be written now: up to the last white space, as a URL may go on in the next piece."""
        data = self._held_back + data
        end = max(data.rfind(b"\n"), data.rfind(b" ")) + 1
        if len(data) - end > _HELD_BACK_MAX:
            end = len(data)
        self._held_back = data[end:]
        return without_passwords(data[:end])

    def _append(self, data: bytes) -> None:
        if self._fd is None or self.full or self.error:
            return
        room = self._limit_bytes - self.size
        self.full = len(data) > room
        view = memoryview(data)[:room]
        try:
            while view:
                written = os.write(self._fd, view)
                self.size += written
                view = view[written:]
        except OSError as exc:
            self.error = exc
