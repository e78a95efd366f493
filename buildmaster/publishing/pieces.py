"""The pieces of a suite's indices on disk: one file each, named by its content."""

from collections.abc import Collection, Iterable
from pathlib import Path
from threading import get_ident

from buildmaster.indices.chunks import Content, Piece, PieceDamaged, Text, make, opened
from buildmaster.indices.records import IndexKind
from buildmaster.publishing import files


class Pieces:
    """A folder of pieces."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, piece: Piece, buffer: bytearray | None = None) -> Content:
        """What is in a piece.

        :param buffer: where to put it, if it is large enough: what was read into it before is gone then.
        :raises PieceDamaged: it is not there, or not what it was.
        """
        place = memoryview(bytearray(piece.size + 1) if buffer is None or len(buffer) <= piece.size else buffer)
        try:
            with (self._folder / piece.name).open("rb", buffering=0) as stream:
                size = stream.readinto(place)
        except FileNotFoundError:
            raise PieceDamaged(f"the piece {piece.name} is not there") from None
        return opened(piece, place[:size])

    def text(self, piece: Piece) -> bytes:
        """A piece's text.

        :raises PieceDamaged: it is not there, or not what it was.
        """
        return bytes(self.read(piece).plain)

    def make(self, kind: IndexKind, text: Text) -> Content:
        """Make a piece, and write it."""
        piece, kept = make(kind, text)
        beside = self._folder / f".{piece.name}.{get_ident()}"  # Two indices may have the same piece.
        beside.write_bytes(kept)
        beside.replace(self._folder / piece.name)
        return Content(piece, memoryview(kept))

    def paths(self, names: Iterable[str]) -> list[Path]:
        """What has to be synced so that pieces outlast a power cut."""
        return [*(self._folder / name for name in names), self._folder]

    def sweep(self, wanted: Collection[str]) -> None:
        """Remove all others."""
        for name in files.names(self._folder) - set(wanted):
            (self._folder / name).unlink()
