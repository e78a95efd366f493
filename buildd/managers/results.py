"""What a package builder left, once nothing of the build runs any more."""

import errno
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
