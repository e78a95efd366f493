"""The pieces of a suite's indices on disk: one file each, named by its content."""

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from buildmaster.indices.chunks import Piece, PieceDamaged, Text, make, verified
from buildmaster.indices.records import IndexKind
from buildmaster.publishing import files

_AT_ONCE: Final = 4  # Pieces that are compressed at the same time, by as many processors.


class Pieces:
    """A folder of pieces."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, piece: Piece) -> memoryview:
        """A piece: its text, and what it is compressed.

        :raises PieceDamaged: it is not there, or not what it was.
        """
        try:
            kept = (self._folder / piece.name).read_bytes()
        except FileNotFoundError:
            raise PieceDamaged(f"the piece {piece.name} is not there") from None
        return verified(piece, kept)

    def text(self, piece: Piece) -> bytes:
        """A piece's text.

        :raises PieceDamaged: it is not there, or not what it was.
        """
        return bytes(self.read(piece)[: piece.plain])

    def complete(self, kind: IndexKind, parts: Iterable[Piece | Text]) -> tuple[Piece, ...]:
        """Make, and write, those of an index's pieces that are not there. They are durable after sync()."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return tuple(threads.map(partial(self._completed, kind), parts))

    def _completed(self, kind: IndexKind, part: Piece | Text) -> Piece:
        if isinstance(part, Piece):
            return part
        piece, kept = make(kind, part)
        beside = self._folder / f".{piece.name}"
        beside.write_bytes(kept)
        beside.replace(self._folder / piece.name)
        return piece

    def sync(self, names: Iterable[str]) -> None:
        """Make pieces outlast a power cut."""
        files.sync([*(self._folder / name for name in names), self._folder])

    def sweep(self, wanted: Collection[str]) -> None:
        """Remove all others."""
        for name in files.names(self._folder) - set(wanted):
            (self._folder / name).unlink()
