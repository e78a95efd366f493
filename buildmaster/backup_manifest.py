"""What a backup is, whatever the place: its manifest, what it may have in it, and how it is written and read."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from buildmaster import secrets
from buildmaster.secrets import is_secret_name
from buildmaster.store import Sha256, StoredFile, parse_sha256

MANIFEST = "backup.json"
SECRETS = "secrets.json"
_FORM = 1
_LATEST = 253402300799  # The last second of the year 9999.


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
    raise NoBackup(f"{MANIFEST} is not that of a backup that this version knows")


def parse_secrets(path: Path, content: bytes) -> dict[str, str]:
    """:raises NoBackup: these are no secrets."""
    try:
        found = json.loads(content)
        if isinstance(found, dict) and all(map(is_secret_name, found)):
            return {name: secrets.parse(path, secret.encode()) for name, secret in found.items()}
    except (ValueError, AttributeError, RecursionError, secrets.SecretRefused):
        pass
    raise NoBackup(f"{SECRETS} in {path} is not what a backup has of secrets")


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


def must_be_private(path: Path, mode: int) -> None:
    if mode & 0o077:
        raise NotPrivate(path, mode)
