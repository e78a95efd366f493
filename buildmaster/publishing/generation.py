"""A generation of a suite: a folder that is written once, and is what apt sees when a link says so."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from buildmaster.indices.chunks import Piece, Text
from buildmaster.indices.manifest import Index
from buildmaster.indices.records import IndexName
from buildmaster.publishing.digests import Progress
from buildmaster.publishing.joined import Before, write_index
from buildmaster.publishing.pieces import Pieces
from buildmaster.publishing.signing import Signed

BY_HASH: Final = "by-hash"
RELEASES: Final = ("Release", "Release.gpg", "InRelease")


class Generation:
    """The folder of one generation, while it is written."""

    def __init__(self, dists: Path, by_hash: Path, sync: Callable[[Iterable[Path]], None]) -> None:
        """Begin anew.

        :param by_hash: the folder in which files of all generations are, by their SHA-256: one that is called so.
        :param sync: begins to make files outlast a power cut.
        """
        self._dists = dists
        self._by_hash = by_hash
        self._sync = sync
        self._new: list[tuple[Path, str]] = []  # Files of indices, with their SHA-256.
        self._folders: set[Path] = set()  # Of indices.
        dists.mkdir(parents=True)

    def make_folder(self, name: IndexName) -> None:
        """Make the folder of an index, in which all of its files can be had by their SHA-256."""
        folder = (self._dists / name.path).parent
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / BY_HASH).symlink_to(os.path.relpath(self._by_hash.parent, folder))
            self._folders.add(folder)

    def keep(self, name: IndexName, index: Index, before: Path) -> None:
        """Take over an index of another generation as it is."""
        for suffix in index.files:
            os.link(before / (name.path + suffix), self._dists / (name.path + suffix))

    def write(
        self, name: IndexName, parts: Sequence[Piece | Text], kept: Pieces, before: Before
    ) -> tuple[Index, Progress]:
        """Write an index put together from its pieces, and make those that are not there.

        :raises PieceDamaged: one of those that are there is not what it was.
        :raises FileNotFoundError: what it was is not there.
        """
        path = self._dists / name.path
        index, progress = write_index(path, name.kind, parts, kept, before)
        new = {path.with_name(path.name + suffix): each.sha256 for suffix, each in index.files.items()}
        self._sync(new)  # It goes on while others are written.
        self._new += new.items()
        return index, progress

    def sign(self, release: bytes, signed: Signed, modified_at: int) -> None:
        """Write Release and its signatures.

        :param modified_at: what their time of change is said to be. Clients ask whether it is another by the second.
        """
        for file, content in zip(RELEASES, (release, signed.detached, signed.inline), strict=True):
            path = self._dists / file
            path.write_bytes(content)
            os.utime(path, (modified_at, modified_at))

    def link_by_hash(self) -> None:
        """Let the files that are new be had by their SHA-256.

        A file of that name that is there is replaced: it may be a dead one's, and not have come to the disk.
        """
        for path, sha256 in self._new:
            beside = self._by_hash / f".{sha256}"
            beside.unlink(missing_ok=True)
            os.link(path, beside)
            beside.replace(self._by_hash / sha256)

    def paths(self) -> list[Path]:
        """What has yet to be synced so that all of it outlasts a power cut."""
        releases = [self._dists / name for name in RELEASES]
        folders = {each for folder in self._folders for each in (folder, *folder.parents)}
        return [*releases, *(each for each in folders if each.is_relative_to(self._dists)), self._by_hash]
