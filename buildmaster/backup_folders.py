"""A backup in a folder, which is brought up to date."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from buildmaster.backup_manifest import (
    MANIFEST,
    SECRETS,
    Manifest,
    NoBackup,
    must_be_private,
    parse_manifest,
    parse_secrets,
)
from buildmaster.store import Sha256, StoredFile
from buildmaster.store.local import LocalStore
from buildmaster.store.writing import sync_folder

_DATABASES = re.compile(r"database-[0-9a-f]{64}\.gz", re.ASCII)
_CHUNK = 1 << 20


class FolderWriter:
    """See :class:`BackupWriter`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        foreign = [each.name for each in path.iterdir() if not _is_ours(each.name)]
        if foreign:
            raise NoBackup(f"{path} is no backup: it has {sorted(foreign)[0]!r}; name a folder that is new or empty")
        self._store = LocalStore(path / "files")
        self._store.sweep()

    def database(self, stream: BinaryIO) -> None:
        beside = self._path / "database.part"
        beside.unlink(missing_ok=True)
        # There are passwords of archives in it, and the folder may be one that others read.
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            stream.seek(0)
            shutil.copyfileobj(stream, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())

    def secrets(self, found: Mapping[str, str]) -> None:
        must_be_private(self._path, self._path.stat().st_mode)
        beside = self._path / f"{SECRETS}.part"
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(json.dumps(found).encode())
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self._path / SECRETS)

    def has(self, file: StoredFile) -> bool:
        path = self._store.path(file.sha256)
        return path.is_file() and path.stat().st_size == file.size

    def put(self, file: StoredFile, chunks: Iterable[bytes]) -> bool:
        writer = self._store.writer()
        try:
            for chunk in chunks:
                writer.write(chunk)
            whole = (writer.sha256, writer.size) == (file.sha256, file.size)
            if whole:
                writer.commit()
            return whole
        finally:
            writer.discard()

    def finish(self, manifest: Manifest) -> None:
        database = self._path / f"database-{manifest.database}.gz"
        (self._path / "database.part").replace(database)
        beside = self._path / f"{MANIFEST}.part"
        with beside.open("wb") as stream:
            stream.write(manifest.to_json())
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(self._path)
        beside.replace(self._path / MANIFEST)
        sync_folder(self._path)
        for old in self._path.iterdir():
            if _DATABASES.fullmatch(old.name) and old != database:
                old.unlink()


def _is_ours(name: str) -> bool:
    written = (MANIFEST, f"{MANIFEST}.part", "database.part", "files", SECRETS, f"{SECRETS}.part")
    return name in written or bool(_DATABASES.fullmatch(name))


class FolderReader:
    """See :class:`BackupReader`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = 0.0
        self._found = self.manifest()
        self._secrets = self._read_secrets()
        if not (path / "files").is_dir():
            raise NoBackup(f"{path} is no whole backup: it has no files/")
        self._store = LocalStore(path / "files")

    def files(self) -> Iterator[tuple[Sha256, BinaryIO]]:
        for number in range(256):
            self._part = number / 256
            for each in self._store.files(f"{number:02x}"):
                with self._store.open(each.sha256) as stream:
                    yield each.sha256, stream

    def part_done(self) -> float:
        return self._part

    def secrets(self) -> dict[str, str]:
        return self._secrets

    def _read_secrets(self) -> dict[str, str]:
        path = self._path / SECRETS
        return parse_secrets(self._path, path.read_bytes()) if path.exists() else {}

    def manifest(self) -> Manifest:
        try:
            return parse_manifest((self._path / MANIFEST).read_bytes())
        except FileNotFoundError:
            raise NoBackup(f"{self._path} is no whole backup: it has no {MANIFEST}") from None

    @contextlib.contextmanager
    def database(self) -> Iterator[BinaryIO]:
        try:
            stream = (self._path / f"database-{self._found.database}.gz").open("rb")
        except OSError as error:
            raise NoBackup(f"{self._path} is no whole backup: its database is missing") from error
        with stream:
            yield stream
