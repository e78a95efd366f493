"""The files of an archive's packages: placed before an index names them, removed long after the last one did."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from buildmaster.publishing import files

_CHUNK: Final = 1 << 20
_MODE: Final = 0o644  # Any web server may read them.
_CANNOT_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)


class NoPoolPath(ValueError):
    """A path is not one of a file in a pool."""

    def __init__(self, path: str) -> None:
        super().__init__(f"not the path of a file in a pool: {path[:200]!r}")
        self.path = path


class PoolConflict(ValueError):
    """A file of this name is in the pool, with other content."""

    def __init__(self, path: str, sha256: str = "") -> None:
        """:param sha256: of what was to be there; "": of several, all of which are."""
        super().__init__(f"{path} is in the pool already, with other content")
        self.path = path
        self.sha256 = sha256


class PoolFileDamaged(ValueError):
    """A file is not what was promised of it, by size or SHA-256."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} does not have the size and the SHA-256 that were promised")
        self.path = path


@dataclass(frozen=True)
class PoolFile:
    """A file that is to be in the pool."""

    path: str  # From the archive's directory on: pool/main/h/hello/hello_2.10-3_amd64.deb.
    size: int  # Bytes.
    sha256: str
    # Where it is on this machine, to be linked (it never changes); or what opens it, to be copied.
    source: Path | Callable[[], BinaryIO]


class Pool:
    """The pool of one archive. Blocks. Several threads and processes may use one."""

    def __init__(self, archive: Path) -> None:
        """Take the archive's directory, which need not be there yet."""
        self._archive = archive
        state = archive / ".state"
        self._lock = state / "pool.lock"
        self._leaving = state / "leaving.json"
        self._copies = state / "copies"

    def place(self, wanted: Iterable[PoolFile], *, anew: bool = False) -> None:
        """Have these files there, durably. What is there already is left as it is; what was retired is wanted again.

        :param anew: what is there with other content is replaced. What was retired always is: no index names it.
        :raises PoolConflict: one of that name has other content.
        :raises PoolFileDamaged: one is not what was promised.
        :raises NoPoolPath: one would not be in the pool.
        :raises OSError: the disk is full or broken.
        """
        wanted = list(wanted)
        targets = [self._path(each.path) for each in wanted]
        with files.locked(self._lock):
            leaving = self._read()
            changed: set[Path] = set()
            for each, target in zip(wanted, targets, strict=True):
                changed.update((target.parent, *files.make(target.parent)))
                self._place(each, target, anew=anew or each.path in leaving)
            files.sync(changed)
            if not leaving.keys().isdisjoint(each.path for each in wanted):
                mine = {each.path for each in wanted}
                self._write({path: since for path, since in leaving.items() if path not in mine})

    def retire(self, paths: Collection[str], now: float) -> None:
        """Note, durably, that no current index of any suite names these files any more. Saying so again is harmless,
        and does not prolong anything.

        :raises NoPoolPath: one is not in the pool.
        """
        for path in paths:
            self._path(path)
        with files.locked(self._lock):
            leaving = self._read()
            if not leaving.keys() >= set(paths):
                self._write({**dict.fromkeys(paths, now), **leaving})

    def retire_others(self, known: Collection[str], now: float) -> list[str]:
        """Note of all files that are there, but for these, that no index names them; say which."""
        pool = self._archive / "pool"
        there = (Path(folder, name).relative_to(self._archive) for folder, _, names in os.walk(pool) for name in names)
        others = sorted(str(path) for path in there if str(path) not in known and _is_pool_path(str(path)))
        self.retire(others, now)
        return others

    def is_leaving(self) -> bool:
        """Whether there is anything that was retired."""
        return bool(self._read())

    def sweep(self, before: float) -> list[str]:
        """Remove the files that were retired before a time, and what interrupted copies left; say which."""
        with files.locked(self._lock):
            for name in files.names(self._copies):
                (self._copies / name).unlink()
            leaving = self._read()
            gone = sorted(path for path, since in leaving.items() if since < before)
            for path in gone:
                self._remove(self._path(path))
            if gone:  # Whoever dies before this removes again what is not there any more.
                self._write({path: since for path, since in leaving.items() if path not in gone})
            return gone

    # In our turn

    def _place(self, wanted: PoolFile, target: Path, *, anew: bool) -> None:
        if target.exists():
            if _is(target, wanted):
                return
            if not anew:
                raise PoolConflict(wanted.path, wanted.sha256)
            target.unlink()  # It is of use to nobody: there is no other way to replace it by a link, at once.
        if isinstance(wanted.source, Path):
            try:
                _link(wanted, wanted.source, target)
                return
            except OSError as exc:
                if exc.errno not in _CANNOT_LINK:
                    raise
        self._copy(wanted, target)

    def _copy(self, wanted: PoolFile, target: Path) -> None:
        self._copies.mkdir(parents=True, exist_ok=True)
        beside = self._copies / wanted.sha256
        opened = wanted.source.open("rb") if isinstance(wanted.source, Path) else wanted.source()
        try:
            with opened as source, beside.open("wb") as copy:
                size, sha256 = _digest(source, copy)
                if (size, sha256) != (wanted.size, wanted.sha256):
                    raise PoolFileDamaged(wanted.path)
                copy.flush()
                os.fchmod(copy.fileno(), _MODE)
                os.fsync(copy.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    def _remove(self, path: Path) -> None:
        """Remove a file, and the folders that are empty then."""
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self._archive / "pool" or files.names(folder):
                return
            with contextlib.suppress(FileNotFoundError):  # Removed by one who died.
                folder.rmdir()

    def _path(self, path: str) -> Path:
        if not _is_pool_path(path):
            raise NoPoolPath(path)
        return self._archive / path

    def _read(self) -> Mapping[str, float]:
        """What was retired, and when. If that cannot be read, nothing was: so no file goes that should not."""
        try:
            read = json.loads(self._leaving.read_bytes())
            return {str(path): float(since) for path, since in read.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            return {}

    def _write(self, leaving: Mapping[str, float]) -> None:
        files.write(self._leaving, json.dumps(leaving).encode())


def _is_pool_path(path: str) -> bool:
    segments = path.split("/")
    return segments[0] == "pool" and len(segments) > 1 and all(each[:1] not in ("", ".") for each in segments)


def _link(wanted: PoolFile, source: Path, target: Path) -> None:
    """Link a file of the store, which has looked at its content, and is the only one that could change it."""
    status = source.stat()
    if status.st_size != wanted.size:
        raise PoolFileDamaged(wanted.path)
    if status.st_mode & _MODE != _MODE:
        source.chmod(_MODE)
    os.link(source, target)


def _is(path: Path, wanted: PoolFile) -> bool:
    """Whether a file is what is wanted."""
    if path.stat().st_size != wanted.size:
        return False
    if isinstance(wanted.source, Path) and wanted.source.exists() and path.samefile(wanted.source):
        return True
    with path.open("rb") as stream:
        return _digest(stream)[1] == wanted.sha256


def _digest(source: BinaryIO, copy: BinaryIO | None = None) -> tuple[int, str]:
    """A stream's size and SHA-256."""
    size, sha256 = 0, hashlib.sha256()
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        sha256.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return size, sha256.hexdigest()
