"""A generation of a suite: a folder that is written once, and is what apt sees when a link says so."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from buildmaster.indices.chunks import Piece
from buildmaster.indices.joining import Block, gzip_file, xz_stream
from buildmaster.indices.manifest import Index
from buildmaster.indices.records import IndexKind, IndexName
from buildmaster.indices.release import Sum
from buildmaster.publishing.pieces import Pieces
from buildmaster.publishing.signing import Signed

BY_HASH: Final = "by-hash"
RELEASES: Final = ("Release", "Release.gpg", "InRelease")


class Generation:
    """The folder of one generation, while it is written."""

    def __init__(self, dists: Path, by_hash: Path) -> None:
        """Begin anew.

        :param by_hash: the folder in which files of all generations are, by their SHA-256.
        """
        self._dists = dists
        self._by_hash = by_hash
        self._new: list[Path] = []
        self._sums: list[tuple[Path, Sum]] = []
        dists.mkdir(parents=True)

    def keep(self, name: IndexName, index: Index, before: Path) -> None:
        """Take over an index of another generation as it is."""
        folder = self._folder(name)
        for suffix in index.files:
            file = Path(name.path + suffix).name
            os.link(before / (name.path + suffix), folder / file)

    def write(self, name: IndexName, pieces: tuple[Piece, ...], kept: Pieces) -> Index:
        """Write an index put together from its pieces.

        :raises PieceDamaged: one of them is not what it was.
        """
        plain, size = hashlib.sha256(), 0
        blocks, members = [], []
        for piece in pieces:
            content = kept.read(piece)
            plain.update(content[: piece.plain])
            size += piece.plain
            blocks.append(Block(bytes(content[piece.plain : piece.plain + piece.xz]), piece.unpadded, piece.plain))
            members.append(bytes(content[piece.plain + piece.xz :]))
        found = {".gz": self._written(name, ".gz", gzip_file(members))}
        if name.kind is not IndexKind.CONTENTS:
            found[".xz"] = self._written(name, ".xz", xz_stream(blocks))
        return Index(pieces, Sum(size, plain.hexdigest()), found)

    def _written(self, name: IndexName, suffix: str, parts: Iterable[bytes]) -> Sum:
        sha256 = hashlib.sha256()
        path = self._folder(name) / Path(name.path + suffix).name
        with path.open("wb") as stream:
            for each in parts:
                sha256.update(each)
                stream.write(each)
            size = stream.tell()
        found = Sum(size, sha256.hexdigest())
        self._new.append(path)
        self._sums.append((path, found))
        return found

    def sign(self, release: bytes, signed: Signed, modified_at: int) -> None:
        """Write Release and its signatures.

        :param modified_at: what their time of change is said to be. Clients ask whether it is another by the second.
        """
        for file, content in zip(RELEASES, (release, signed.detached, signed.inline), strict=True):
            path = self._dists / file
            path.write_bytes(content)
            os.utime(path, (modified_at, modified_at))
            self._new.append(path)

    def link_by_hash(self) -> None:
        """Let the files that are new be had by their SHA-256.

        A file of that name that is there is replaced: it may be a dead one's, and not have come to the disk.
        """
        for path, each in self._sums:
            beside = self._by_hash / f".{each.sha256}"
            beside.unlink(missing_ok=True)
            os.link(path, beside)
            beside.replace(self._by_hash / each.sha256)

    def paths(self) -> list[Path]:
        """What has to be synced so that it outlasts a power cut."""
        folders = {path.parent for path in self._dists.rglob("*")}
        return [*self._new, *folders, self._dists, self._by_hash]

    def _folder(self, name: IndexName) -> Path:
        """The folder of an index, in which all of its files can be had by their SHA-256."""
        folder = (self._dists / name.path).parent
        by_hash = folder / BY_HASH
        if not by_hash.exists():
            by_hash.mkdir(parents=True)
            (by_hash / "SHA256").symlink_to(os.path.relpath(self._by_hash, by_hash))
        return folder
