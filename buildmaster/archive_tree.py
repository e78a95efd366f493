"""The archives on the disk, as readers find files in them: nothing outside, nothing half made. Everything blocks."""

import errno
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from buildmaster.conditions import File
from buildmaster.publishing.snapshots import name_at

SNAPSHOTS = "snapshot"
POOL = "pool"

_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}  # ENXIO: a socket.
_TRIES = 3  # A suite may be published twice between two steps of ours.
_TIME = re.compile(r"(\d{8})(?:T(\d{2})(\d{2})?(\d{2})?Z?)?", re.ASCII)


class NotThere(LookupError):
    """There is no such file to be read by others."""


@dataclass(frozen=True)
class Opened:
    """A file that is open, at its beginning."""

    stream: BinaryIO
    file: File


def parse_path(path: Sequence[bytes]) -> list[str]:
    """Segments off the wire, each one plain name; what begins with a dot is ours alone.

    :raises NotThere: one is none.
    """
    try:
        words = [segment.decode() for segment in path]
    except UnicodeDecodeError:
        raise NotThere from None
    if not all(word and word[0] != "." and word.isprintable() and not set(word) & {"/", "\\"} for word in words):
        raise NotThere
    return words


def open_file(archive: Path, path: Sequence[str], now: float) -> Opened:
    """Open a file below an archive's folder.

    A suite is a link to what it is at the moment, which is looked at once: all that follows is of one publication.

    :param path: as parse_path() has it.
    :raises NotThere: there is no such file, or it is outside.
    :raises OSError: it is there, and cannot be read.
    """
    descriptor = _open(archive, path, now)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotThere
        tag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
        return Opened(os.fdopen(descriptor, "rb"), File(status.st_size, int(status.st_mtime), tag))
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise


def _open(archive: Path, path: Sequence[str], now: float) -> int:
    home = os.path.realpath(archive)
    for left in reversed(range(_TRIES)):
        found = None
        try:
            found = Path(os.path.realpath(_in_snapshot(archive, path, now), strict=True))
            if not found.is_relative_to(home):
                raise NotThere
            return os.open(found, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            if found is None or not left:
                raise NotThere from None
    raise NotThere


def _in_snapshot(archive: Path, path: Sequence[str], now: float) -> Path:
    """Where a path leads, in which a time may stand for the newest snapshot that is no younger."""
    if path[:1] != [SNAPSHOTS] or len(path) < 2:
        return archive.joinpath(*path)
    snapshots = archive / SNAPSHOTS
    if not (snapshots / path[1]).is_dir():
        name = newest([each.name for each in snapshots.iterdir()], path[1], now)
        return snapshots.joinpath(name, *path[2:])
    return snapshots.joinpath(*path[1:])


def newest(snapshots: Sequence[str], wanted: str, now: float) -> str:
    """The name of the newest snapshot at or before a time: 20261122, 20261122T12, 20261122T1200 or 20261122T120000Z.

    What is left out of a time is 0, as when a day begins.

    :raises NotThere: it is no time, or there is no snapshot that old; or it is yet to come, and what that is may change
        between two files.
    """
    match = _TIME.fullmatch(wanted)
    if match is None:
        raise NotThere
    moment = f"{match[1]}T{match[2] or '00'}{match[3] or '00'}{match[4] or '00'}Z"
    if moment >= name_at(now):
        raise NotThere
    known = [name for name in snapshots if _TIME.fullmatch(name) and name <= moment]
    if not known:
        raise NotThere
    return max(known)
