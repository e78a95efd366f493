"""The pieces of a suite's indices on disk: one file each, named by its content."""

from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore, get_ident
from typing import Final

from buildmaster.indices.chunks import USUAL, Content, Piece, PieceDamaged, Text, make, opened, text_of
from buildmaster.indices.records import IndexKind, IndexName, Record
from buildmaster.publishing import files

_AT_ONCE: Final = 4  # Pieces that are compressed at the same time, by as many processors.


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


def fill(
    pieces: Pieces, wanted: Iterable[IndexName], records: Iterable[tuple[IndexName, Record]]
) -> dict[IndexName, list[Piece]]:
    """Make the pieces of all that indices say, as it comes: in memory is no more of it than is compressed just now.

    :param wanted: indices that there are to be, whatever comes.
    :param records: in their order; of those with the same key the first counts.
    """
    runs = {name: _Run() for name in wanted}
    free = BoundedSemaphore(2 * _AT_ONCE)  # What is compressed, and what waits for that.

    def make(name: IndexName, text: Text) -> Piece:
        try:
            return pieces.make(name.kind, text).piece
        finally:
            free.release()

    def end(name: IndexName, run: _Run) -> None:
        free.acquire()
        run.made.append(threads.submit(make, name, text_of(name.kind, run.records)))
        run.records, run.length = [], 0

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for name, record in records:
            run = runs.setdefault(name, _Run())
            if run.put(record) >= USUAL:
                end(name, run)
        for name, run in runs.items():
            if run.records:
                end(name, run)
    return {name: [each.result() for each in run.made] for name, run in sorted(runs.items())}


@dataclass
class _Run:
    """An index that is being filled."""

    seen: set[bytes] = field(default_factory=set)  # The keys that it has.
    records: list[Record] = field(default_factory=list)  # Of the piece that comes next,
    length: int = 0  # and how long they are.
    made: list[Future[Piece]] = field(default_factory=list)

    def put(self, record: Record) -> int:
        """Put a record to the end, if there is none of its key. Returns how long the next piece is by then."""
        if record.key not in self.seen:
            self.seen.add(record.key)
            self.records.append(record)
            self.length += len(record.text)
        return self.length
