"""The files of a daemon, by the SHA-1 of their content: chroots, sources and results.

A file is written beside, hashed while it is written, and renamed to its SHA-1 when it is whole, so a reader sees all
of it or nothing. Everything here may be called from any thread; what reads or writes files blocks as long as it takes.
"""

import contextlib
import errno
import hashlib
import math
import os
import shutil
import stat
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from twisted.logger import Logger

from buildd.protocol import ProtocolError, Sha1, parse_sha1

PARTIAL_PREFIX: Final = ".partial-"  # No SHA-1 begins with a dot.
# Between ensurepresent and build nothing says that a file is needed, so what was asked for lately stays. Seconds.
KEEP_S: Final = 600
_MODE: Final = 0o644
# A result is of use until clean() only. This tells it from what was fetched, also to a daemon that comes after a crash.
_RESULT_MODE: Final = 0o600
_ROOM_STEP_BYTES: Final = 32 << 20  # How much is written between two looks at the room that is left.
_PIECE_BYTES: Final = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_log = Logger()


class NoSpace(OSError):
    """There is no room for the file on the builder's disk."""


class UntrustedFile(Exception):
    """A result is not a plain file of the build's own: it is a link, a fifo, or someone else's."""


class Stopped(Exception):
    """The daemon is ending, and reads no file to its end any more."""


class _Entry(NamedTuple):
    """A file in the directory; they sort by last use."""

    used: float  # Seconds since the epoch.
    size: int
    name: str


class FileCache:
    """Files by SHA-1 in a directory that is nobody else's."""

    def __init__(
        self, directory: Path, limit_bytes: int, free_floor_bytes: int, now: Callable[[], float] = time.time
    ) -> None:
        """Take the directory over: what an earlier daemon left half-written is removed, and so are results.

        :param limit_bytes: beyond this, files that nothing needs go, longest unused first.
        :param free_floor_bytes: how much the disk must have left after anything written here.
        """
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._free_floor_bytes = free_floor_bytes
        self._now = now
        self._pins: Counter[Sha1] = Counter()
        self._lock = threading.Lock()  # Over pins, and over what becomes visible or goes; never held for long.
        self._making_room = threading.Lock()
        self._at_most_bytes = math.inf  # What all files take together; nobody has looked yet.
        self._stopped = threading.Event()
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.iterdir():
            try:
                if left.name.startswith(".") or stat.S_IMODE(left.lstat().st_mode) == _RESULT_MODE:
                    _discard(left)
            except OSError as exc:  # It costs space, and no more.
                _log.warn("{left} cannot be removed: {why}", left=str(left), why=exc.strerror or str(exc))

    def stop(self) -> None:
        """Let whatever reads or writes a file end soon, by Stopped."""
        self._stopped.set()

    def path(self, sha1: Sha1) -> Path:
        """Where the file is, if it is here."""
        return self.directory / sha1

    def __contains__(self, sha1: Sha1) -> bool:
        return self.path(sha1).is_file()

    def touch(self, sha1: Sha1) -> None:
        """Remember, in its access time, that a file is of use now; also over a restart."""
        path = self.path(sha1)
        with contextlib.suppress(FileNotFoundError):  # It may be forgotten at any moment.
            os.utime(path, ns=(int(self._now() * 1e9), path.stat().st_mtime_ns))

    def pin(self, sha1s: Iterable[Sha1]) -> None:
        """Keep these until as many calls of unpin()."""
        with self._lock:
            self._pins.update(sha1s)

    def unpin(self, sha1s: Iterable[Sha1]) -> None:
        with self._lock:
            self._pins.subtract(sha1s)
            self._pins = +self._pins  # Drops the zeros.

    def forget(self, sha1: Sha1) -> bool:
        """Remove a file, unless it is pinned or gone already; whether it did.

        Removing a large file takes long, and the reactor's thread may be about to pin one: that must not wait.
        """
        taken = self.directory / f"{PARTIAL_PREFIX}{sha1}"
        with self._lock:
            if self._pins[sha1]:
                return False
            try:
                self.path(sha1).rename(taken)
            except FileNotFoundError:
                return False
        taken.unlink(missing_ok=True)
        return True

    def add(self, chunks: Iterable[bytes]) -> Sha1:
        """Store a file and return the SHA-1 of its content. Adding what is already here is harmless.

        :raises NoSpace: the disk is full, or would have too little left; nothing is left behind.
        :raises OSError: the disk is broken; nothing is left behind.
        """
        with self.writing() as partial:
            for chunk in chunks:
                partial.write(chunk)
            return partial.keep()

    @contextlib.contextmanager
    def writing(self) -> Iterator["Partial"]:
        """A file to be written; unless it is kept, nothing of it is left behind. Raises as add()."""
        try:
            descriptor, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, dir=self.directory)
            try:
                yield Partial(self, descriptor, Path(name))
            finally:
                Path(name).unlink(missing_ok=True)  # What was kept has another name by now.
                os.close(descriptor)
        except OSError as exc:
            if exc.errno in _FULL and not isinstance(exc, NoSpace):
                raise NoSpace(exc.errno, f"the builder's disk is full ({exc.strerror})") from exc
            raise

    def adopt(self, path: Path) -> Sha1:
        """Move a result of a build into the cache, and return its SHA-1.

        What is there, and under which name, is up to a hostile package; its processes must have ended.

        :raises UntrustedFile: it is not a plain file with one name and of our own. It stays where it is.
        :raises OSError: it is not there, or the disk is full or broken.
        """
        taken = self.directory / f"{PARTIAL_PREFIX}{threading.get_ident()}"
        with _open_untrusted(path) as descriptor:
            digest = hashlib.sha1(usedforsecurity=False)
            for chunk in self._chunks(descriptor):
                digest.update(chunk)
            os.fchmod(descriptor, _RESULT_MODE)
            os.fsync(descriptor)
            try:
                path.rename(taken)
            except OSError as exc:
                if exc.errno != errno.EXDEV:
                    raise
                os.lseek(descriptor, 0, os.SEEK_SET)
                return self.add(self._chunks(descriptor))
            try:
                status = os.fstat(descriptor)
                with self._making_room:
                    self._at_most_bytes += status.st_size
                if not os.path.samestat(status, os.lstat(taken)):
                    raise UntrustedFile(f"{path.name!r} was replaced while it was read")
                return self._show(taken, Sha1(digest.hexdigest()))
            finally:
                _discard(taken)

    def check_going(self) -> None:
        """:raises Stopped: the daemon is ending."""
        if self._stopped.is_set():
            raise Stopped("the daemon is ending")

    def _chunks(self, descriptor: int) -> Iterator[bytes]:
        while chunk := os.read(descriptor, _PIECE_BYTES):
            self.check_going()
            yield chunk

    def _show(self, partial: Path, sha1: Sha1) -> Sha1:
        """Make a whole file visible."""
        with self._lock:
            partial.replace(self.path(sha1))
        self.touch(sha1)
        return sha1

    def make_room(self, wanted_bytes: int) -> None:
        """Remove files that nothing needs until so much more fits; over the limit of the cache it may still be then.

        :raises NoSpace: the disk would have too little left.
        """
        with self._making_room:
            self._at_most_bytes += wanted_bytes
            if self._fits(self._at_most_bytes, wanted_bytes):
                return  # Without a look at each file, of which there may be thousands.
            entries = sorted(self._entries())
            self._at_most_bytes = sum(entry.size for entry in entries) + wanted_bytes
            for entry in entries:
                if self._fits(self._at_most_bytes, wanted_bytes):
                    return
                if self._is_spare(entry) and self.forget(Sha1(entry.name)):
                    self._at_most_bytes -= entry.size
        if self._left_bytes() < wanted_bytes:
            floor = f"of what is left, {self._free_floor_bytes >> 20} MB are to stay free"
            raise NoSpace(errno.ENOSPC, f"the builder's disk is full ({floor})")

    def _fits(self, total_bytes: float, wanted_bytes: int) -> bool:
        return total_bytes <= self._limit_bytes and self._left_bytes() >= wanted_bytes

    def _left_bytes(self) -> int:
        return shutil.disk_usage(self.directory).free - self._free_floor_bytes

    def _entries(self) -> Iterator[_Entry]:
        with os.scandir(self.directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    used = status.st_atime
                    if used > self._now():  # The clock ran ahead then. Such a file would stay for as long as it did.
                        used = self._now()
                        os.utime(entry.path, (used, status.st_mtime), follow_symlinks=False)
                    yield _Entry(used, status.st_size, entry.name)

    def _is_spare(self, entry: _Entry) -> bool:
        try:
            sha1 = parse_sha1(entry.name)
        except ProtocolError:
            return False
        return sha1 == entry.name and entry.used < self._now() - KEEP_S


class Partial:
    """A file that is being written, and that nobody sees yet."""

    def __init__(self, cache: FileCache, descriptor: int, path: Path) -> None:
        self._cache = cache
        self._descriptor = descriptor
        self._path = path
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._room_bytes = 0  # That may be written before the next look.

    @property
    def sha1(self) -> Sha1:
        """Of what was written so far."""
        return Sha1(self._digest.hexdigest())

    def write(self, data: bytes) -> None:
        self._cache.check_going()
        if len(data) > self._room_bytes:
            self._room_bytes = max(_ROOM_STEP_BYTES, len(data))
            self._cache.make_room(self._room_bytes)
        self._room_bytes -= len(data)
        self._digest.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def keep(self) -> Sha1:
        """The file is whole: make it visible, and safe from a power cut."""
        os.fchmod(self._descriptor, _MODE)
        os.fsync(self._descriptor)
        return self._cache._show(self._path, self.sha1)


@contextlib.contextmanager
def _open_untrusted(path: Path) -> Iterator[int]:
    """A descriptor of a file whose name and kind a hostile package chose. A fifo does not make this wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):  # A symbolic link; a socket.
            raise UntrustedFile(f"{path.name!r} is not a plain file") from exc
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedFile(f"{path.name!r} is not a plain file")
        if status.st_nlink != 1:
            raise UntrustedFile(f"{path.name!r} is also known by another name")
        if status.st_uid != os.geteuid():
            raise UntrustedFile(f"{path.name!r} belongs to user {status.st_uid}")
        yield descriptor
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """Remove a file in the making, whatever it is."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        shutil.rmtree(path)
