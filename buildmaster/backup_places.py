"""What a backup is on the disk: a folder, which is brought up to date, or one file, which is written anew.

DIR/backup.json             what it is; written last, so that a backup without it is not whole
DIR/database-DIGEST.gz      the database: see dump.py
DIR/files/AB/CDEF...        the files by their SHA-256
DIR/secrets.json            the farm's secrets by name, if they were asked for
FILE.tar has the same: database.gz, secrets.json, files/..., and backup.json at its end.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from buildmaster.backup_folders import FolderReader, FolderWriter
from buildmaster.backup_manifest import BackupBusy, BackupReader, BackupWriter, NoBackup
from buildmaster.backup_tars import TarReader, TarWriter
from buildmaster.store.writing import sync_folder


def is_one_file(path: Path) -> bool:
    """Whether a path is, or is to be, that of a backup in one file."""
    return path.is_file() or (path.suffix == ".tar" and not path.is_dir())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BackupWriter]:
    """Begin a backup at a path: one file if that ends in .tar, else a folder.

    :raises NoBackup: something else is there.
    :raises BackupBusy: somebody else writes one there.
    """
    if not is_one_file(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path, path, os.O_RDONLY | os.O_DIRECTORY):
            yield FolderWriter(path)
        return
    beside = path.with_name(f".{path.name}.part")
    with _locked(path, beside, os.O_WRONLY | os.O_CREAT) as descriptor:
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                stream.truncate()
                writer = TarWriter(path, stream)
                yield writer
                writer.close()
                stream.flush()
                os.fsync(descriptor)
            beside.replace(path)
            sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, locked: Path, flags: int) -> Iterator[int]:
    """Open what is locked as long as somebody writes a backup to a path. Ends with the process at the latest.

    :raises BackupBusy: it is locked, or was a moment ago.
    """
    descriptor = os.open(locked, flags | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            still_there = os.path.samestat(os.fstat(descriptor), locked.stat())
        except (BlockingIOError, FileNotFoundError):
            still_there = False
        if not still_there:  # Another's; or it was, and was renamed before we had the lock.
            raise BackupBusy(path)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BackupReader]:
    """Open a backup.

    :raises NoBackup: there is none.
    """
    if path.is_dir():
        yield FolderReader(path)
        return
    if not path.is_file():
        raise NoBackup(f"there is no backup in {path}")
    with path.open("rb") as stream, tempfile.TemporaryFile() as spool:
        yield TarReader(path, stream, cast(BinaryIO, spool))
