"""An index in pieces, the newest records last: a change makes a piece or two anew, and leaves the others as they are.

Readers of indices do not ask for an order. So what is new goes to the end, as in a log, and what is replaced moves
there: what changes often is where there is little behind it that has to be digested again.

A piece is kept as one run of bytes: its text, then that text compressed in each way that its index is published in. So
what a publication reads of a piece that did not change is one file, and what it does with it is to copy.
"""

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from buildmaster.indices.joining import Block, compress_block, compress_member
from buildmaster.indices.records import IndexKind, Record, parsed, rendered

# Bytes of text. To compress 112 kB by xz takes 6 ms, and what it makes is 4% larger than from 400 kB.
USUAL: Final = 96 << 10  # That of a piece, when an index is cut. Those at the end are joined when they are so much.
LEAST: Final = 32 << 10  # What is left of a smaller one goes to the end.
STEP: Final = 8 << 10  # A smaller one at the end is made anew with what is new; else that has a piece of its own.
_MARK_BYTES: Final = 3  # Which are four letters.


class Piece(NamedTuple):
    """What is known of a piece that is kept somewhere. (A publication reads of hundreds: a tuple is made faster.)"""

    name: str  # The SHA-256 of all of it.
    marks: str  # Those of its records' keys.
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

    marks: str
    text: bytes

    @property
    def plain(self) -> int:
        """Bytes of it."""
        return len(self.text)


class PieceDamaged(ValueError):
    """A piece that was kept is not what it was."""


Read = Callable[[Piece], bytes]  # The text of a piece that is kept.


def mark(key: bytes) -> str:
    """Four letters that tell in which pieces a key can be, but for one in millions that tells of another key."""
    return b64encode(zlib.crc32(key).to_bytes(4, "big")[:_MARK_BYTES]).decode()


def make(kind: IndexKind, text: Text) -> tuple[Piece, bytes]:
    """Compress a piece; returns what is to be kept, too. Takes most of its time without the interpreter's lock."""
    block = Block(b"", 0, 0) if kind is IndexKind.CONTENTS else compress_block(text.text)
    member = compress_member(text.text)
    kept = b"".join((text.text, block.data, member))
    name = hashlib.sha256(kept).hexdigest()
    sizes = text.plain, len(block.data), block.unpadded, len(member)
    return Piece(name, text.marks, zlib.crc32(kept), *sizes), kept


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
    """Cut an index into pieces of usual size."""
    run: list[Record] = []
    length = 0
    for record in records:
        run.append(record)
        length += len(record.text)
        if length >= USUAL:
            yield text_of(kind, run)
            run, length = [], 0
    if run:
        yield text_of(kind, run)


def text_of(kind: IndexKind, run: Collection[Record]) -> Text:
    """What a piece of these records is made of."""
    return Text("".join([mark(record.key) for record in run]), rendered(kind, run))


def change(
    kind: IndexKind, pieces: Iterable[Piece], edits: Mapping[bytes, bytes | None], read: Read
) -> list[Piece | Text]:
    """The index after edits, by key: pieces that stay, and texts of those that are to be made.

    :raises ValueError: what was kept is not such an index's.
    """
    found: list[Piece | Text] = []
    last: list[Record] = []  # What goes to the end.
    new = {key: text for key, text in edits.items() if text is not None}
    marks = {mark(key) for key in edits}
    for piece in pieces:
        if not any(each in piece.marks for each in marks):
            found.append(piece)
            continue
        records = parsed(kind, read(piece))
        stay = [record for record in records if edits.get(record.key, record.text) == record.text]
        for record in stay:
            new.pop(record.key, None)
        if len(stay) == len(records):
            found.append(piece)
        elif (text := text_of(kind, stay)).plain < LEAST:
            last += stay
        else:
            found.append(text)
    last += [Record(key, text) for key, text in sorted(new.items())]
    return _ended(kind, found, last, read) if last else found


def _ended(kind: IndexKind, found: Sequence[Piece | Text], last: Collection[Record], read: Read) -> list[Piece | Text]:
    """An index with records put to its end, where pieces may be small, as long as all of these are less than one."""
    at = len(found)
    while at and found[at - 1].plain < LEAST:
        at -= 1
    end, new = list(found[at:]), text_of(kind, last)
    if end and end[-1].plain < STEP:
        before = end.pop()
        new = Text(before.marks + new.marks, _plain(before, read) + new.text)
    end.append(new)
    if new.plain >= LEAST or sum(each.plain for each in end) >= USUAL:
        end = list(cut(kind, parsed(kind, b"".join([_plain(each, read) for each in end]))))
    return [*found[:at], *end]


def _plain(each: Piece | Text, read: Read) -> bytes:
    return each.text if isinstance(each, Text) else read(each)
