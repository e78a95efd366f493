"""What a package builder left, once nothing of the build runs any more."""

import errno
import os
import stat
from pathlib import Path

from buildd.control import ControlError, check_file, parse_changes
from buildd.protocol import FileName, parse_file_name


def results(directory: Path) -> dict[FileName, Path]:
    """What the one .changes in a directory names, and the .changes; every file checked. Blocks.

    :raises ControlError: there is no such file, or it promises what is not there.
    :raises OSError: the disk is broken.
    """
    changes = [path for path in directory.glob("*.changes") if path.is_file() and not path.is_symlink()]
    if len(changes) != 1:
        raise ControlError(f"there are {len(changes)} .changes files instead of one")
    files: dict[FileName, Path] = {}
    for listed in parse_changes(changes[0]).files:
        try:
            check_file(directory / listed.name, listed)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            raise ControlError(f"{changes[0].name} names {listed.name}, which is not there, or a link") from exc
        files[listed.name] = directory / listed.name
    files[parse_file_name(changes[0].name)] = changes[0]
    return files


def plain_directory(top: Path, *names: str) -> Path:
    """A directory in the root of a build, of which no part may be a link: root of the build's namespaces can put links
    there, and they would lead about the host.

    :raises ControlError: it is none.
    """
    path = top
    for name in names:
        path /= name
        try:
            is_directory = stat.S_ISDIR(path.lstat().st_mode)
        except FileNotFoundError:
            is_directory = False
        if not is_directory:
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
