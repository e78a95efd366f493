"""What a package builder left, once nothing of the build runs any more."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from buildd.control import ControlError, check_file, parse_changes
from buildd.protocol import FileName, parse_file_name

_ITS_OWN_FAULT = (errno.ENOENT, errno.ELOOP, errno.EACCES)  # Not there, a link, or of a mode that lets nobody read.


def results(directory: Path, limit_bytes: int) -> dict[FileName, Path]:
    """What the one .changes in a directory names, and the .changes; every file checked. Blocks.

    :param limit_bytes: for all of them: holes in files are quickly made, and take hours to read.
    :raises ControlError: there is no such file, or it promises what is not there.
    :raises OSError: the disk is broken.
    """
    with _blamed(directory.name):
        changes = [path for path in directory.glob("*.changes") if path.is_file() and not path.is_symlink()]
    if len(changes) != 1:
        raise ControlError(f"there are {len(changes)} .changes files instead of one")
    name, path = changes[0].name, changes[0]
    with _blamed(name):
        listed = parse_changes(path).files
    if (total := sum(each.size for each in listed)) > limit_bytes:
        raise ControlError(f"{name} names files of {total} bytes in all, more than a build may write")
    files: dict[FileName, Path] = {}
    for each in listed:
        with _blamed(each.name):
            check_file(directory / each.name, each)
        files[each.name] = directory / each.name
    files[parse_file_name(name)] = path
    return files


@contextlib.contextmanager
def _blamed(name: str) -> Iterator[None]:
    """:raises ControlError: a file cannot be read, and that is the package's doing."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in _ITS_OWN_FAULT:
            raise
        raise ControlError(f"{name} cannot be read: {exc.strerror}") from exc


def plain_directory(top: Path, *names: str) -> Path:
    """A directory in the root of a build, of which no part may be a link: root of the build's namespaces can put links
    there, and they would lead about the host.

    :raises ControlError: it is none.
    """
    path = top
    for name in names:
        path /= name
        with _blamed(name):
            mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            raise ControlError(f"{name} is no directory any more")
    return path


def read_text(path: Path, limit_bytes: int) -> str:
    """The beginning of a file that the build made, which may be a fifo or whatever: "" then, as when there is none.

    :param path: below a plain_directory().
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit_bytes).decode(errors="replace")
    finally:
        os.close(descriptor)
