"""What a backup is on the disk: a folder, which is brought up to date, or one file, which is written anew.

DIR/backup.json             what it is; written last, so that a backup without it is not whole
DIR/database-DIGEST.gz      the database: see dump.py
DIR/files/AB/CDEF...        the files by their SHA-256

DIR/secrets.json            the farm's secrets by name, if they were asked for

FILE.tar has the same: database.gz, secrets.json, files/..., and backup.json at its end.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from buildmaster import secrets
from buildmaster.secrets import is_secret_name
from buildmaster.store import Sha256, StoredFile, parse_sha256
from buildmaster.store.local import LocalStore
from buildmaster.store.writing import sync_folder

_FORM = 1
_MANIFEST = "backup.json"
_DATABASE = "database.gz"
_SECRETS = "secrets.json"
_SECRETS_BYTES = 1 << 26
_DATABASES = re.compile(r"database-[0-9a-f]{64}\.gz", re.ASCII)
_FILE = re.compile(r"files/([0-9a-f]{2})/([0-9a-f]{62})", re.ASCII)
_MANIFEST_BYTES = 1 << 30
_LATEST = 253402300799  # The last second of the year 9999.
_CHUNK = 1 << 20


class NoBackup(Exception):
    """There is no whole backup in this place; the message says what is there instead."""


class NotPrivate(Exception):
    """Others may read what is in this place, so that no secrets go there."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(
            f"others may read {path} (mode {mode & 0o777:04o}), so the farm's secrets are not written there: "
            "chmod it to 0700, or name another place"
        )


class BackupBusy(Exception):
    """Another process is writing a backup to this place; two at once would spoil it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"another backup is being written to {path}: wait for its end, or name another place")


@dataclass(frozen=True)
class Manifest:
    """What a backup is, and that it is whole."""

    database: str  # The SHA-256 of the database as it was written.
    made_at: float
    files: int
    size: int  # Bytes of the files.
    lacking: tuple[Sha256, ...]  # Files that the farm itself did not have as they should be.

    def to_json(self) -> bytes:
        return json.dumps({"debfarm_backup": _FORM} | asdict(self), indent=1).encode() + b"\n"


def parse_manifest(content: bytes) -> Manifest:
    """:raises NoBackup: it is none that this version knows."""
    try:
        match json.loads(content):
            case {
                "debfarm_backup": 1, "database": str(database), "made_at": int() | float() as made_at,
                "files": int(files), "size": int(size), "lacking": [*lacking],
            } if 0 <= made_at < _LATEST:  # fmt: skip
                return Manifest(parse_sha256(database), made_at, files, size, tuple(map(parse_sha256, lacking)))
    except (ValueError, TypeError, RecursionError):
        pass
    raise NoBackup(f"{_MANIFEST} is not that of a backup that this version knows")


def parse_secrets(path: Path, content: bytes) -> dict[str, str]:
    """:raises NoBackup: these are no secrets."""
    try:
        found = json.loads(content)
        if isinstance(found, dict) and all(map(is_secret_name, found)):
            return {name: secrets.parse(path, secret.encode()) for name, secret in found.items()}
    except (ValueError, AttributeError, RecursionError, secrets.SecretRefused):
        pass
    raise NoBackup(f"{_SECRETS} in {path} is not what a backup has of secrets")


class BackupWriter(Protocol):
    """A backup that is being made: first the database, then secrets, if wanted, then files, then finish()."""

    def secrets(self, found: Mapping[str, str]) -> None:
        """Take the farm's secrets, by name.

        :raises NotPrivate: others could read them.
        """

    def database(self, stream: BinaryIO) -> None:
        """Take the database."""

    def has(self, file: StoredFile) -> bool:
        """Whether a file is there from an earlier time."""

    def put(self, file: StoredFile, chunks: Iterable[bytes]) -> bool:
        """Add a file. False: it is not what it should be."""

    def finish(self, manifest: Manifest) -> None:
        """All is there: let it take the place of the earlier one."""


class BackupReader(Protocol):
    """A backup that is being read: first the database, then files(), to their end, then the rest."""

    def database(self) -> AbstractContextManager[BinaryIO]:
        """The database as it was written, or something else."""

    def files(self) -> Iterator[tuple[Sha256, BinaryIO]]:
        """Each file's name, and its content, which is good until the next one; it may be anything."""

    def part_done(self) -> float:
        """How much of files() is done, from 0 to 1."""

    def secrets(self) -> dict[str, str]:
        """The farm's secrets by name, if there are any.

        :raises NoBackup: they are damaged.
        """

    def manifest(self) -> Manifest:
        """:raises NoBackup: the backup is not whole."""


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
            yield _FolderWriter(path)
        return
    beside = path.with_name(f".{path.name}.part")
    with _locked(path, beside, os.O_WRONLY | os.O_CREAT) as descriptor:
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                stream.truncate()
                writer = _TarWriter(path, stream)
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
        yield _FolderReader(path)
        return
    if not path.is_file():
        raise NoBackup(f"there is no backup in {path}")
    with path.open("rb") as stream, tempfile.TemporaryFile() as spool:
        yield _TarReader(path, stream, cast(BinaryIO, spool))


class _FolderWriter:
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
        _must_be_private(self._path, self._path.stat().st_mode)
        beside = self._path / f"{_SECRETS}.part"
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(json.dumps(found).encode())
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self._path / _SECRETS)

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
        beside = self._path / f"{_MANIFEST}.part"
        with beside.open("wb") as stream:
            stream.write(manifest.to_json())
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(self._path)
        beside.replace(self._path / _MANIFEST)
        sync_folder(self._path)
        for old in self._path.iterdir():
            if _DATABASES.fullmatch(old.name) and old != database:
                old.unlink()


def _is_ours(name: str) -> bool:
    written = (_MANIFEST, f"{_MANIFEST}.part", "database.part", "files", _SECRETS, f"{_SECRETS}.part")
    return name in written or bool(_DATABASES.fullmatch(name))


def _must_be_private(path: Path, mode: int) -> None:
    if mode & 0o077:
        raise NotPrivate(path, mode)


class _FolderReader:
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
        path = self._path / _SECRETS
        return parse_secrets(self._path, path.read_bytes()) if path.exists() else {}

    def manifest(self) -> Manifest:
        try:
            return parse_manifest((self._path / _MANIFEST).read_bytes())
        except FileNotFoundError:
            raise NoBackup(f"{self._path} is no whole backup: it has no {_MANIFEST}") from None

    @contextlib.contextmanager
    def database(self) -> Iterator[BinaryIO]:
        try:
            stream = (self._path / f"database-{self._found.database}.gz").open("rb")
        except OSError as error:
            raise NoBackup(f"{self._path} is no whole backup: its database is missing") from error
        with stream:
            yield stream


class _TarWriter:
    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._tar = tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)

    def database(self, stream: BinaryIO) -> None:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        self._add(_DATABASE, size, stream)

    def secrets(self, found: Mapping[str, str]) -> None:
        _must_be_private(self._path, os.fstat(self._stream.fileno()).st_mode)
        content = json.dumps(found).encode()
        self._add(_SECRETS, len(content), io.BytesIO(content))

    def has(self, file: StoredFile) -> bool:
        return False

    def put(self, file: StoredFile, chunks: Iterable[bytes]) -> bool:
        content = _Padded(chunks, file.size)
        self._add(f"files/{file.sha256[:2]}/{file.sha256[2:]}", file.size, cast(BinaryIO, content))
        return content.is_whole() and content.digest.hexdigest() == file.sha256

    def finish(self, manifest: Manifest) -> None:
        content = manifest.to_json()
        self._add(_MANIFEST, len(content), io.BytesIO(content))

    def close(self) -> None:
        self._tar.close()

    def _add(self, name: str, size: int, stream: BinaryIO) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        self._tar.addfile(member, stream)


class _Padded:
    """Pieces as a file of exactly so many bytes: a tar has the length before the content."""

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self._left = size
        self._exact = True
        self.digest = hashlib.sha256()

    def read(self, count: int) -> bytes:
        count = min(count, self._left)
        while len(self._held) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._exact = False
                self._held += bytes(count - len(self._held))
            else:
                self._held += chunk
        data, self._held = self._held[:count], self._held[count:]
        self._left -= count
        self.digest.update(data)
        return data

    def is_whole(self) -> bool:
        """Whether there were as many bytes as there had to be."""
        return self._exact and not self._held and next(self._chunks, None) is None


class _TarReader:
    def __init__(self, path: Path, stream: BinaryIO, spool: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._spool = spool
        self._size = max(path.stat().st_size, 1)
        self._found: Manifest | None = None
        self._has_database = False
        self._secrets: dict[str, str] = {}
        self._members = self._read()
        if next(self._members, None) is not None:
            raise NoBackup(f"{path} is no backup: it does not begin with {_DATABASE}")

    def files(self) -> Iterator[tuple[Sha256, BinaryIO]]:
        for member in self._members:
            if member is not None:
                yield member

    def _read(self) -> Iterator[tuple[Sha256, BinaryIO] | None]:
        """Every file; and None for the others, once they are taken."""
        with _whole(self._path), tarfile.open(fileobj=self._stream, mode="r|") as tar:
            for member in tar:
                content: Any = tar.extractfile(member) if member.isreg() and not member.issparse() else None
                match = _FILE.fullmatch(member.name)
                if content is None or self._found is not None:
                    raise NoBackup(f"{self._path} is no backup: {member.name[:100]!r} does not belong there")
                if match:
                    yield Sha256(match[1] + match[2]), cast(BinaryIO, _Content(self._path, content))
                else:
                    self._take(member, content)
                    yield None

    def _take(self, member: tarfile.TarInfo, content: BinaryIO) -> None:
        if member.name == _DATABASE and not self._has_database:
            self._has_database = True
            shutil.copyfileobj(content, self._spool, _CHUNK)
        elif member.name == _MANIFEST and member.size < _MANIFEST_BYTES:
            self._found = parse_manifest(content.read())
        elif member.name == _SECRETS and member.size < _SECRETS_BYTES:
            self._secrets = parse_secrets(self._path, content.read())
        else:
            raise NoBackup(f"{self._path} is no backup: {member.name[:100]!r} does not belong there")

    def part_done(self) -> float:
        return min(self._stream.tell() / self._size, 1.0)

    def secrets(self) -> dict[str, str]:
        return self._secrets

    def manifest(self) -> Manifest:
        if self._found is None:
            raise NoBackup(f"{self._path} is no whole backup: its end is missing")
        return self._found

    @contextlib.contextmanager
    def database(self) -> Iterator[BinaryIO]:
        yield self._spool


class _Content:
    """The content of a member of a tar."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream

    def read(self, count: int) -> bytes:
        with _whole(self._path):
            return self._stream.read(count)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise NoBackup(f"{path} is no whole backup: {error}") from error
