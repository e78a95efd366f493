"""An index in pieces, cut by its records' keys: a change makes few of them anew, and leaves the others as they are.

A piece is kept as one run of bytes: its text, then that text compressed in each way that its index is published in. So
what a publication reads of a piece that did not change is one file, and what it does with it is to copy.
"""

import hashlib
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from buildmaster.indices.joining import Block, compress_block, compress_member
from buildmaster.indices.records import IndexKind, Record, parsed, part, rendered, size

# Bytes of text. To compress 112 kB by xz takes 14 ms, and what it makes is 4% larger than from 400 kB, which take 75.
USUAL: Final = 96 << 10  # That of a piece, when an index is cut.
MOST: Final = 160 << 10  # A larger one is cut.
LEAST: Final = 32 << 10  # A smaller one is joined with its neighbour.


@dataclass(frozen=True, slots=True)
class Piece:
    """What is known of a piece that is kept somewhere."""

    name: str  # The SHA-256 of all of it.
    first: bytes  # Records before it in the index have smaller keys than this, those from it on no smaller ones.
    crc: int  # Of all of it: tells damage faster than SHA-256.
    plain: int  # Bytes of text.
    xz: int  # Bytes of the block, with padding; 0: it has none.
    unpadded: int  # Bytes of the block without.
    gz: int  # Bytes of the gzip member.

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return self.plain + self.xz + self.gz


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a piece that is to be made."""

    first: bytes
    plain: bytes


class PieceDamaged(ValueError):
    """A piece that was kept is not what it was."""


Read = Callable[[Piece], bytes]  # The text of a piece that is kept.


def make(kind: IndexKind, text: Text) -> tuple[Piece, bytes]:
    """Compress a piece; returns what is to be kept, too. Takes most of its time without the interpreter's lock."""
    block = Block(b"", 0, 0) if kind is IndexKind.CONTENTS else compress_block(text.plain)
    member = compress_member(text.plain)
    kept = b"".join((text.plain, block.data, member))
    name = hashlib.sha256(kept).hexdigest()
    sizes = len(text.plain), len(block.data), block.unpadded, len(member)
    return Piece(name, text.first, zlib.crc32(kept), *sizes), kept


@dataclass(frozen=True, slots=True)
class Content:
    """A piece with what is in it."""

    piece: Piece
    kept: memoryview

    @property
    def plain(self) -> memoryview:
        """Its text."""
        return self.kept[: self.piece.plain]

    @property
    def block(self) -> memoryview:
        """A block of an xz stream; of nothing, where it has none."""
        return self.kept[self.piece.plain : self.piece.plain + self.piece.xz]

    @property
    def member(self) -> memoryview:
        """A member of a gzip file."""
        return self.kept[self.piece.plain + self.piece.xz :]


def opened(piece: Piece, kept: bytes | memoryview) -> Content:
    """What was kept of a piece, looked at.

    :raises PieceDamaged: it is not what it was.
    """
    if len(kept) != piece.size or zlib.crc32(kept) != piece.crc:
        raise PieceDamaged(f"the piece {piece.name} is damaged")
    return Content(piece, memoryview(kept))


def cut(kind: IndexKind, records: Iterable[Record]) -> Iterator[Text]:
    """Cut an index, given in order, into pieces of usual size."""
    run: list[Record] = []
    length = 0
    for record in records:
        if length >= USUAL and part(kind, record.key) != part(kind, run[-1].key):
            yield _text(kind, run)
            run, length = [], 0
        run.append(record)
        length += size(kind, record)
    if run:
        yield _text(kind, run)


def _text(kind: IndexKind, run: Sequence[Record]) -> Text:
    return Text(part(kind, run[0].key), rendered(kind, run))


def change(
    kind: IndexKind, pieces: Sequence[Piece], edits: Mapping[bytes, bytes | None], read: Read
) -> list[Piece | Text]:
    """The index after edits, by key: pieces that stay, and texts of those that are to be made.

    :raises ValueError: what was kept is not such an index's.
    """
    touched: dict[int, dict[bytes, bytes | None]] = {}
    firsts = [piece.first for piece in pieces]
    for key, text in edits.items():
        at = max(0, bisect_right(firsts, part(kind, key)) - 1)
        touched.setdefault(at, {})[key] = text
    if not pieces:
        return list(cut(kind, _edited([], touched.get(0, {}))))
    found: list[Piece | Text] = list(pieces)
    for at, some in touched.items():
        before = read(pieces[at])
        after = rendered(kind, _edited(parsed(kind, before), some))
        if after != before:
            found[at] = Text(pieces[at].first, after)
    return list(_of_good_size(kind, found, read))


def _edited(records: Iterable[Record], edits: Mapping[bytes, bytes | None]) -> list[Record]:
    texts: dict[bytes, bytes | None] = {record.key: record.text for record in records}
    texts.update(edits)
    return [Record(key, text) for key, text in sorted(texts.items()) if text is not None]


def _of_good_size(kind: IndexKind, found: Iterable[Piece | Text], read: Read) -> Iterator[Piece | Text]:
    """The same, with texts that became too large cut, and those that became too small joined with a neighbour's."""
    ready: list[Piece | Text] = []
    for each in found:
        if isinstance(each, Text) and not each.plain:
            continue
        if ready and (_small(ready[-1]) or _small(each)):
            last = ready.pop()
            ready.append(Text(last.first, _plain(last, read) + _plain(each, read)))
        else:
            ready.append(each)
    for each in ready:
        if isinstance(each, Text) and len(each.plain) > MOST:
            yield from cut(kind, parsed(kind, each.plain))
        else:
            yield each


def _small(each: Piece | Text) -> bool:
    """Whether it was made small just now. (Small pieces that did not change stay as they are.)"""
    return isinstance(each, Text) and len(each.plain) < LEAST


def _plain(each: Piece | Text, read: Read) -> bytes:
    return each.plain if isinstance(each, Text) else read(each)


def in_order(pieces: Sequence[Piece]) -> bool:
    """Whether pieces follow one another."""
    return all(one.first < other.first for one, other in pairwise(pieces))
