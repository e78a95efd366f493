"""A whole farm, database and files, into a folder or one file; and back, all or nothing, on any database and store.

The database is written first, in one transaction: what others do meanwhile is not part of it. Then the files that it
names are copied; none of them goes meanwhile, but those that nothing referred to. In a folder, files are kept by their
digest, and those that are there already are not copied again.
"""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from buildmaster import dump
from buildmaster.backup_manifest import BackupReader, BackupWriter, Manifest
from buildmaster.database import CommitUncertain, NotEmpty
from buildmaster.farm import Farm, Places, only_maker
from buildmaster.store import NotStored, Sha256, StoredFile

_CHUNK = 1 << 20
Progress = Callable[[float, int], None]  # The part that is done, from 0 to 1; how many files that is.


class BackupRefused(Exception):
    """A backup cannot be used; the message says why. Nothing of it was restored."""


@dataclass
class Made:
    """A backup that was made."""

    files: int = 0
    size: int = 0  # Bytes of those.
    copied: int = 0  # Files that were not there yet.
    lacking: list[Sha256] = field(default_factory=list)  # That the farm's own store does not have, or only damaged.


def back_up(
    farm: Farm,
    writer: BackupWriter,
    progress: Progress = lambda part, files: None,
    secrets: Mapping[str, str] | None = None,
) -> Made:
    """Make a backup, or bring one up to date. A master may run meanwhile.

    A file that the store does not have as it is recorded is left out, and told of.

    :param secrets: what is to be in it of these, by name; None: what is in it already.
    :raises NotPrivate: others could read them there.
    :raises OSError: a file cannot be read, or the backup not be written; it is as it was before.
    """
    made = Made()
    with tempfile.TemporaryFile() as spool:
        stream = cast(BinaryIO, spool)
        with farm.reading() as connection:
            dump.write(connection, stream)
        writer.database(stream)
        if secrets is not None:
            writer.secrets(secrets)
        total = sum(file.size for part in dump.parts(stream) for file in dump.stored_files(part))
        for part in dump.parts(stream):
            for file in dump.stored_files(part):
                progress(made.size / max(total, 1), made.files)
                _copy(farm, file, writer, made)
        lacking = tuple(sorted(made.lacking))
        writer.finish(Manifest(_sha256(stream), time.time(), made.files, made.size, lacking))
    return made


def _copy(farm: Farm, file: StoredFile, writer: BackupWriter, made: Made) -> None:
    made.files += 1
    made.size += file.size
    if writer.has(file):
        return
    try:
        with farm.store.open(file.sha256) as content:
            whole = writer.put(file, _pieces(content))
    except NotStored:
        whole = False
    if whole:
        made.copied += 1
    else:
        made.lacking.append(file.sha256)


def _pieces(content: BinaryIO) -> Iterator[bytes]:
    """A file's content; it ends too early when the file is deleted meanwhile."""
    with contextlib.suppress(NotStored):
        while data := content.read(_CHUNK):
            yield data


def restore(places: Places, reader: BackupReader, progress: Progress = lambda part, files: None) -> Manifest:
    """Make a farm of a backup. All of it is verified; what is left when it is refused is what was there before.

    :param places: of a farm that is not there yet, or that is empty.
    :raises FarmBusy: another restore, or a master, is at work there.
    :raises NotEmpty: there is something in it.
    :raises BackupRefused: the backup is damaged or not whole.
    :raises OSError: it cannot be read, or the store is full.
    :raises CommitUncertain: the farm may be there, or not; its files are.
    """
    with only_maker(places), _removed_again(places.file):
        farm = Farm(places)
        try:
            return _Restoring(farm, reader, progress).run()
        except dump.BadDump as error:
            raise BackupRefused(f"the backup is damaged: {error}") from error
        finally:
            farm.close()


@contextlib.contextmanager
def _removed_again(file: Path | None) -> Iterator[None]:
    """Remove a database, where it is a file that was not there before, when this turns out badly."""
    had_database = file is not None and file.exists()
    try:
        yield
    except BaseException:
        if file is not None and not had_database:
            for each in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
                each.unlink(missing_ok=True)
        raise


class _Restoring:
    """A restore under way."""

    def __init__(self, farm: Farm, reader: BackupReader, progress: Progress) -> None:
        self._farm = farm
        self._reader = reader
        self._progress = progress
        self._missing: dict[Sha256, int] = {}  # What has to come yet, and how long it is.
        self._added: list[Sha256] = []  # What is in the store now, and was not before.

    def run(self) -> Manifest:
        try:
            if not self._farm.database.is_empty():
                raise NotEmpty
            with self._reader.database() as stream:
                self._missing = {
                    file.sha256: file.size for part in dump.parts(stream) for file in dump.stored_files(part)
                }
                for sha256, content in self._reader.files():
                    if sha256 in self._missing:
                        self._progress(self._reader.part_done(), len(self._missing))
                        self._take(sha256, content)
                manifest = self._reader.manifest()
                self._verify(manifest, stream)
                with self._farm.database.filling(dump.revision(stream)) as connection:
                    dump.load(connection, dump.parts(stream))
            return manifest
        except CommitUncertain:  # There may be a farm now, which needs them; if not, the next restore does.
            raise
        except BaseException:
            self._take_back()
            raise

    def _take(self, sha256: Sha256, content: BinaryIO) -> None:
        """Put a file into the store, unless it is damaged."""
        store, size = self._farm.store, self._missing[sha256]
        writer = store.writer()
        try:
            while writer.size <= size and (data := content.read(_CHUNK)):
                writer.write(data)
            if (writer.sha256, writer.size) == (sha256, size):
                if not store.has(sha256):
                    self._added.append(sha256)
                elif not self._is_good(sha256):
                    store.delete(sha256)
                writer.commit()
                del self._missing[sha256]
        finally:
            writer.discard()

    def _is_good(self, sha256: Sha256) -> bool:
        """Whether a file that the store had before is what its name says."""
        try:
            with self._farm.store.open(sha256) as stream:
                return _sha256(stream) == sha256
        except NotStored:
            return False

    def _verify(self, manifest: Manifest, database: BinaryIO) -> None:
        if _sha256(database) != manifest.database:
            raise BackupRefused("the backup is damaged: its database is not what it was")
        lost = sorted(self._missing.keys() - set(manifest.lacking))
        if lost:
            more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise BackupRefused(f"the backup is damaged: file {lost[0]}{more} is missing or has another content")

    def _take_back(self) -> None:
        """Leave nothing behind, as far as the store lets us: what stays is found by a check of the store."""
        for sha256 in self._added:
            with contextlib.suppress(OSError):
                self._farm.store.delete(sha256)


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while data := stream.read(_CHUNK):
        digest.update(data)
    return digest.hexdigest()
