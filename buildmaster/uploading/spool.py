"""What has come of uploads, until it is accepted, refused, or too old.

DIRECTORY/new/          files that are being written, and folders of uploads that are being accepted
DIRECTORY/ARCHIVE/NAME/SHA256    a file that came whole, by the archive's id

Files are kept by name and content: whoever sends another file of the same name touches nobody else's, and a .changes
finds those that it means. Nothing here is synced to the disk, since its digest is looked at again when it is accepted.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from buildmaster.peers import who
from buildmaster.store import Sha256, parse_sha256
from buildmaster.uploading.arrivals import Arrived
from buildmaster.uploading.rules import Came
from buildmaster.uploading.terms import Terms

_FILES_MAX = 10_000
_FILES_OF_PEER = 500
_AT_ONCE_MAX = 200  # Files that are being written; each takes a descriptor.
_AT_ONCE_OF_PEER = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,199}", re.ASCII)
_SUFFIXES = (".changes", ".dsc", ".buildinfo", ".deb", ".udeb", ".ddeb", ".asc", ".gz", ".bz2", ".xz", ".lzma", ".zst")


class Why(StrEnum):
    """Why a file is not taken."""

    NAME = "name"  # It can have no such name.
    LARGE = "large"  # It is larger than any may be.
    FULL = "full"  # There is no room for more now.


class SpoolRefused(Exception):
    """A file is not taken; the message is a sentence that says why, and what to do."""

    def __init__(self, why: Why, words: str) -> None:
        super().__init__(words)
        self.why = why


@dataclass(frozen=True)
class Spooled:
    """A file that came whole."""

    archive_id: int
    name: str
    size: int
    sha256: Sha256
    path: Path
    changed_at: float

    @property
    def is_changes(self) -> bool:
        """Whether it says what an upload consists of."""
        return self.name.endswith(".changes")


class Spool:
    """The folder. Not for several threads at once, but for find() and what reads."""

    def __init__(self, directory: Path, terms: Terms) -> None:
        self.directory = directory
        self.terms = terms
        self._new = directory / "new"
        self._used = 0  # Bytes, with those that are on their way.
        self._count = 0
        self._of_peer: dict[str, int] = {}
        self._writing: Counter[str] = Counter()  # Files that are being written, by who sends them.
        self._owners: dict[Path, list[str]] = {}  # Who sent what is here, as far as this process knows.

    def begin(self, name: str, peer: str, size: int | None = None) -> "Incoming":
        """Begin to take a file.

        :param peer: the address that it comes from.
        :param size: what it will have, if that was said.
        :raises SpoolRefused: it is not taken.
        :raises OSError: the disk is broken.
        """
        check_name(name)
        peer = who(peer)
        if self._count >= _FILES_MAX or self._files_of(peer) >= _FILES_OF_PEER:
            raise SpoolRefused(Why.FULL, "too many files wait here for the rest of their uploads: try again in an hour")
        if self._writing.total() >= _AT_ONCE_MAX or self._writing[peer] >= _AT_ONCE_OF_PEER:
            raise SpoolRefused(Why.FULL, "too many files come at the same time: send one after the other")
        if size is not None:
            self.check_room(name, peer, size, size)
        self._new.mkdir(parents=True, exist_ok=True, mode=0o700)
        incoming = Incoming(self, name, peer, self._new)
        self._writing[peer] += 1
        return incoming

    def ended(self, peer: str) -> None:
        """Note that a file is not being written any more."""
        self._writing[peer] -= 1
        if self._writing[peer] <= 0:
            del self._writing[peer]

    def check_room(self, name: str, peer: str, more: int, size: int) -> None:
        """Look whether there is room for more bytes of a file that will have had so many.

        :raises SpoolRefused: there is not.
        """
        terms = self.terms
        if size > terms.file_bytes:
            raise SpoolRefused(
                Why.LARGE, f"{name} is larger than the {terms.file_bytes} bytes that a file may have here"
            )
        if self._of_peer.get(peer, 0) + more > terms.upload_bytes:
            raise SpoolRefused(
                Why.FULL,
                f"more than {terms.upload_bytes} bytes came from {peer}: end an upload before you send the next",
            )
        if self._used + more > terms.spool_bytes:
            raise SpoolRefused(Why.FULL, "there is no room for more uploads now: try again in an hour")

    def count(self, peer: str, more: int) -> None:
        """Note bytes that came, or went."""
        self._used = max(0, self._used + more)
        left = max(0, self._of_peer.get(peer, 0) + more)
        if left:
            self._of_peer[peer] = left
        else:
            self._of_peer.pop(peer, None)

    def _files_of(self, peer: str) -> int:
        return sum(peer in owners for owners in self._owners.values())

    def keep(self, part: Path, archive_id: int, name: str, peer: str, came: Came) -> Spooled:
        """Put a file that came whole where it belongs, in place of another of its name from the same address. One that
        is there already is as good, and belongs to both then."""
        path = self.directory / str(archive_id) / name / came.sha256
        for each in list(self._of_name(archive_id, name)):
            if each.path != path:
                self._release(each, peer)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        was_there = path.exists()
        part.replace(path)  # Before anything is counted: it may fail.
        owners = self._owners.setdefault(path, [])
        if was_there:
            self.count(peer if owners else "", -came.size)
        else:
            self._count += 1
        if peer not in owners:
            owners.append(peer)
        return Spooled(archive_id, name, came.size, Sha256(came.sha256), path, path.stat().st_mtime)

    def find(self, archive_id: int, name: str, sha256: str, peer: str) -> Arrived | None:
        """See :class:`buildmaster.uploading.arrivals.Arrivals`. Of another content only what came from this address;
        what others send is no business of an upload."""
        found = list(self._of_name(archive_id, name))
        best = next((each for each in found if each.sha256 == sha256), None)
        if best is None:
            best = next((each for each in found if peer and peer in self._owners.get(each.path, ())), None)
        return None if best is None else Arrived(best.path, Came(best.size, best.sha256))

    def remove(self, archive_id: int, name: str, sha256: str, peer: str, *, known: bool) -> None:
        """An upload is over: remove what came for it from this address.

        :param known: who signed it is known: then this file is removed as well when nobody can tell whose it is.
        """
        for each in list(self._of_name(archive_id, name)):
            if peer and peer in self._owners.get(each.path, ()):
                self._release(each, peer)
            elif known and each.sha256 == sha256 and not self._owners.get(each.path):
                self._remove(each)

    def _release(self, spooled: Spooled, peer: str) -> None:
        """Somebody needs a file no more, if it was his; it goes when nobody does."""
        owners = self._owners.get(spooled.path, [])
        if peer not in owners:
            return
        if owners == [peer]:
            self._remove(spooled)
            return
        if owners[0] == peer:  # Who has it counted.
            self.count(peer, -spooled.size)
            self.count(owners[1], spooled.size)
        owners.remove(peer)

    def peer_of(self, spooled: Spooled) -> str:
        """The address that a file came from first; "": nobody knows any more."""
        return next(iter(self._owners.get(spooled.path, ())), "")

    def came_from(self, spooled: Spooled, peer: str) -> bool:
        """Whether a file came from this address, too."""
        return peer in self._owners.get(spooled.path, ())

    def every(self) -> Iterator[Spooled]:
        """All that is here whole."""
        for folder in self._folders():
            with suppress(FileNotFoundError):
                for each in list(folder.iterdir()):
                    yield from self._of_name(int(folder.name), each.name)

    def sweep(self, now: float) -> None:
        """Remove what is too old, and what nobody writes any more; and count what is here."""
        for each in list(self.every()):
            if each.changed_at < now - self.terms.keep_s:
                self._remove(each)
        with suppress(FileNotFoundError):
            for path in list(self._new.iterdir()):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < now - self.terms.keep_s:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in self._folders():
            for each_name in list(folder.iterdir()):
                with suppress(OSError):  # Not empty.
                    each_name.rmdir()
            with suppress(OSError):
                folder.rmdir()

    def recount(self) -> None:
        """Count what is here, as a process that has just begun must."""
        found = list(self.every())
        self._count, self._used = len(found), sum(each.size for each in found)

    def _remove(self, spooled: Spooled) -> None:
        with suppress(FileNotFoundError):
            spooled.path.unlink()
            self._count = max(0, self._count - 1)
            self.count(next(iter(self._owners.pop(spooled.path, ())), ""), -spooled.size)
        with suppress(OSError):  # Not empty.
            spooled.path.parent.rmdir()
            spooled.path.parent.parent.rmdir()

    def _folders(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return [path for path in self.directory.iterdir() if path.name.isdecimal()]
        return []

    def _of_name(self, archive_id: int, name: str) -> Iterator[Spooled]:
        folder = self.directory / str(archive_id) / name
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted(folder.iterdir()):
                with suppress(ValueError, FileNotFoundError):
                    status = path.stat()
                    yield Spooled(archive_id, name, status.st_size, parse_sha256(path.name), path, status.st_mtime)


class Incoming:
    """A file on its way."""

    def __init__(self, spool: Spool, name: str, peer: str, folder: Path) -> None:
        self._spool = spool
        self.name = name
        self.peer = peer
        self.size = 0
        self._digest = hashlib.sha256()
        descriptor, path = tempfile.mkstemp(suffix=".part", dir=folder)
        self._part = Path(path)
        self._stream = os.fdopen(descriptor, "wb")
        self._ended = False

    def write(self, data: bytes) -> None:
        """Append.

        :raises SpoolRefused: it becomes too large; nothing is left of it.
        :raises OSError: the disk is full or broken; likewise.
        """
        try:
            self._spool.check_room(self.name, self.peer, len(data), self.size + len(data))
            self._stream.write(data)
        except BaseException:
            self.discard()
            raise
        self._digest.update(data)
        self.size += len(data)
        self._spool.count(self.peer, len(data))

    def finish(self, archive_id: int) -> Spooled:
        """It came whole.

        :raises OSError: the disk is full or broken, or who sent it has gone meanwhile; nothing is left of it.
        """
        if self._ended:
            raise ConnectionAbortedError(f"{self.name} broke off")
        try:
            self._stream.close()
            came = Came(self.size, self._digest.hexdigest())
            kept = self._spool.keep(self._part, archive_id, self.name, self.peer, came)
        except BaseException:
            self.discard()
            raise
        self._ended = True
        self._spool.ended(self.peer)
        return kept

    def discard(self) -> None:
        """Forget it. Harmless when it has ended."""
        if self._ended:
            return
        self._ended = True
        with suppress(OSError):  # Closing flushes what a full disk did not take.
            self._stream.close()
        self._part.unlink(missing_ok=True)
        self._spool.count(self.peer, -self.size)
        self._spool.ended(self.peer)


def check_name(name: str) -> str:
    """A name that a file of an upload can have.

    :raises SpoolRefused: it is none.
    """
    if not _NAME.fullmatch(name) or not name.endswith(_SUFFIXES):
        known = ", ".join(_SUFFIXES)
        raise SpoolRefused(Why.NAME, f"no file of an upload is called {name[:80]!r}: names end in one of {known}")
    return name
