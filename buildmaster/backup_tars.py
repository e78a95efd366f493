"""A backup in one file, which is written anew."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

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

_DATABASE = "database.gz"
_SECRETS_BYTES = 1 << 26
_MANIFEST_BYTES = 1 << 30
_FILE = re.compile(r"files/([0-9a-f]{2})/([0-9a-f]{62})", re.ASCII)
_CHUNK = 1 << 20


class TarWriter:
    """See :class:`BackupWriter`."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._tar = tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)

    def database(self, stream: BinaryIO) -> None:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        self._add(_DATABASE, size, stream)

    def secrets(self, found: Mapping[str, str]) -> None:
        must_be_private(self._path, os.fstat(self._stream.fileno()).st_mode)
        content = json.dumps(found).encode()
        self._add(SECRETS, len(content), io.BytesIO(content))

    def has(self, file: StoredFile) -> bool:
        return False

    def put(self, file: StoredFile, chunks: Iterable[bytes]) -> bool:
        content = _Padded(chunks, file.size)
        self._add(f"files/{file.sha256[:2]}/{file.sha256[2:]}", file.size, cast(BinaryIO, content))
        return content.is_whole() and content.digest.hexdigest() == file.sha256

    def finish(self, manifest: Manifest) -> None:
        content = manifest.to_json()
        self._add(MANIFEST, len(content), io.BytesIO(content))

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


class TarReader:
    """See :class:`BackupReader`."""

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
        elif member.name == MANIFEST and member.size < _MANIFEST_BYTES:
            self._found = parse_manifest(content.read())
        elif member.name == SECRETS and member.size < _SECRETS_BYTES:
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
