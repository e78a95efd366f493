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
        """Make, and write, those of an index's pieces that are not there."""
        parts = list(parts)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            made = threads.map(partial(self._made, kind), [part for part in parts if isinstance(part, Text)])
            return tuple(part if isinstance(part, Piece) else next(made) for part in parts)

    def _made(self, kind: IndexKind, text: Text) -> Piece:
        piece, kept = make(kind, text)
        beside = self._folder / f".{piece.name}"
        beside.write_bytes(kept)
        beside.replace(self._folder / piece.name)
        return piece

    def paths(self, names: Iterable[str]) -> list[Path]:
        """What has to be synced so that pieces outlast a power cut."""
        return [*(self._folder / name for name in names), self._folder]

    def sweep(self, wanted: Collection[str]) -> None:
        """Remove all others."""
        for name in files.names(self._folder) - set(wanted):
            (self._folder / name).unlink()
