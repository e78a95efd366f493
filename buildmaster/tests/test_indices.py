"""Indices in pieces: joined they are what they would be in one."""

import gzip
import hashlib
import lzma
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildmaster.indices.chunks import LEAST, MOST, USUAL, Piece, PieceDamaged, Text, change, cut, make, opened
from buildmaster.indices.joining import XZ_BEGIN, Block, compress_block, compress_member, xz_end
from buildmaster.indices.records import (
    IndexKind,
    IndexName,
    Record,
    checked,
    contents_keys,
    parsed,
    rendered,
)

PACKAGES, CONTENTS = IndexKind.PACKAGES, IndexKind.CONTENTS


def stanza(number: int, size: int = 700) -> Record:
    """A package; what is in it looks like nothing, so that it stays large."""
    noise = hashlib.sha512(str(number).encode()).hexdigest() * (size // 128 + 1)
    name = b"package%06d" % number
    text = b"Package: %s\nArchitecture: amd64\nVersion: 1\nDescription: %s" % (name, noise[:size].encode())
    return Record(b"%s 1 amd64" % name, text)


class Kept:
    """Pieces of an index, kept in memory, and not compressed."""

    def __init__(self, kind: IndexKind, records: Iterable[Record] = ()) -> None:
        self.kind = kind
        self.kept: dict[str, bytes] = {}
        self.made = 0
        self.pieces = [self._made(text) for text in cut(kind, sorted(records, key=lambda record: record.key))]

    def _made(self, each: Piece | Text) -> Piece:
        if isinstance(each, Piece):
            return each
        name = hashlib.sha256(each.plain).hexdigest()
        self.kept[name] = each.plain  # Compressing it would take most of a test's time, and change nothing.
        self.made += 1
        return Piece(name, each.first, 0, len(each.plain), 0, 0, 0)

    def read(self, piece: Piece) -> bytes:
        return self.kept[piece.name]

    def change(self, edits: dict[bytes, bytes | None]) -> int:
        """How many pieces were made."""
        self.made = 0
        self.pieces = [self._made(each) for each in change(self.kind, self.pieces, edits, self.read)]
        return self.made

    def plain(self) -> bytes:
        return b"".join(map(self.read, self.pieces))


# Joined


def stream(blocks: list[Block]) -> bytes:
    return b"".join(
        [XZ_BEGIN, *(block.data for block in blocks), xz_end([(block.unpadded, block.plain) for block in blocks])]
    )


@pytest.mark.parametrize("texts", [[], [b"a"], [b"a" * 300_000, b"b", bytes(range(256)) * 3000]], ids=len)
def test_blocks_are_a_stream(texts: list[bytes], tmp_path: Path) -> None:
    """Blocks of several streams are one stream, which xz itself tests and lists as such; of none, an empty one."""
    path = tmp_path / "joined.xz"
    path.write_bytes(stream(list(map(compress_block, texts))))
    assert lzma.decompress(path.read_bytes()) == b"".join(texts)
    subprocess.run(["xz", "-t", path], check=True)
    listed = subprocess.run(["xz", "--robot", "--list", path], capture_output=True, text=True, check=True).stdout
    assert f"totals\t1\t{len(texts)}\t" in listed


def test_a_great_many_blocks() -> None:
    """Numbers and sizes that take several bytes each are told right."""
    block = compress_block(b"text" * 5000)
    assert lzma.decompress(stream([block] * 20_000)) == b"text" * 5000 * 20_000


def test_a_block_that_is_none_is_noticed() -> None:
    """A stream whose index tells other sizes is refused: the index is not for show."""
    block = compress_block(b"some text")
    with pytest.raises(lzma.LZMAError):
        lzma.decompress(stream([Block(block.data, block.unpadded, block.plain + 1)]))


def test_members_are_a_file() -> None:
    """gzip members one after another are a gzip file, an empty one too."""
    assert gzip.decompress(compress_member(b"a") + compress_member(b"b")) == b"ab"
    assert gzip.decompress(compress_member(b"")) == b""


# In pieces


def test_one_change_makes_one_piece() -> None:
    """A record that changes, comes or leaves makes one piece anew, of any number."""
    kept = Kept(PACKAGES, map(stanza, range(3000)))
    before = {piece.name for piece in kept.pieces}
    assert len(before) > 10
    for edits in (
        {stanza(1500).key: stanza(1500).text + b"\nSection: misc"},
        {b"package001500a 1 amd64": b"Package: package001500a\nVersion: 1\nArchitecture: amd64"},
        {stanza(1501).key: None},
    ):
        assert kept.change(edits) == 1  # type: ignore[arg-type]
        now = {piece.name for piece in kept.pieces}
        assert len(now - before) == 1
        before = now
    assert kept.change({stanza(1501).key: None}) == 0


def test_no_piece_is_too_large_or_too_small() -> None:
    """An index that grows by one record at a time, anywhere, and shrinks again, stays in pieces of good size."""
    kept = Kept(PACKAGES)
    order = sorted(range(1500), key=lambda number: hashlib.md5(str(number).encode()).digest())
    for number in order:
        kept.change({stanza(number).key: stanza(number).text})
    assert len(kept.pieces) > 4 and all(LEAST <= piece.plain <= MOST for piece in kept.pieces)
    for number in order[:-5]:
        kept.change({stanza(number).key: None})
        assert len(kept.pieces) == 1 or all(piece.plain >= LEAST for piece in kept.pieces)
    assert [record.key for record in parsed(PACKAGES, kept.plain())] == sorted(stanza(each).key for each in order[-5:])
    kept.change({stanza(number).key: None for number in order})
    assert kept.pieces == []


def test_a_record_larger_than_a_piece() -> None:
    """One record may be larger than pieces are."""
    kept = Kept(PACKAGES, [stanza(1, 2 * MOST), stanza(2), stanza(3, 2 * MOST)])
    kept.change({stanza(2).key: stanza(2, 3 * MOST).text})
    assert parsed(PACKAGES, kept.plain()) == [stanza(1, 2 * MOST), stanza(2, 3 * MOST), stanza(3, 2 * MOST)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 300), st.one_of(st.none(), st.integers(1, 40_000)), max_size=40)))
def test_any_edits(rounds: list[dict[int, int | None]]) -> None:
    """Whatever is edited, the index says what a dictionary would, sorted."""
    kept, wanted = Kept(PACKAGES), dict[bytes, bytes]()
    for sizes in rounds:
        edits = {stanza(each).key: None if size is None else stanza(each, size).text for each, size in sizes.items()}
        kept.change(edits)
        for key, text in edits.items():
            wanted.pop(key, None)
            if text is not None:
                wanted[key] = text
        assert parsed(PACKAGES, kept.plain()) == [Record(key, text) for key, text in sorted(wanted.items())]


def test_damage_is_noticed() -> None:
    """A piece that lost its end, or a bit, is not taken for one."""
    piece, kept = make(PACKAGES, Text(b"", rendered(PACKAGES, [stanza(1)])))
    content = opened(piece, kept)
    assert b"".join([content.plain, content.block, content.member]) == kept
    assert gzip.decompress(content.member) == content.plain
    for damaged in (kept[:-1], kept[:100] + bytes([kept[100] ^ 1]) + kept[101:], b""):
        with pytest.raises(PieceDamaged):
            opened(piece, damaged)


# Contents


def contents(paths: Iterable[bytes], package: str, section: str = "misc") -> list[Record]:
    return [Record(key, b"") for key in contents_keys(paths, section, package)]


def test_a_path_of_two_packages_is_one_line() -> None:
    """A file that several packages have is one line; paths may have spaces and any bytes."""
    strange = b"usr/share/a b\xff  c"
    records = contents([b"./usr/bin/hello", strange], "hello") + contents([b"/usr/bin/hello"], "hello-again", "devel")
    kept = Kept(CONTENTS, records)
    lines = kept.plain().split(b"\n")
    assert [line.split()[-1] for line in lines[:-1]] == [b"devel/hello-again,misc/hello", b"misc/hello"]
    assert lines[1].startswith(strange + b" ")
    assert parsed(CONTENTS, kept.plain()) == sorted(records, key=lambda record: record.key)
    kept.change({b"usr/bin/hello\0misc/hello": None})
    assert kept.plain().split(b"\n")[0].split() == [b"usr/bin/hello", b"devel/hello-again"]


def test_lines_are_never_cut() -> None:
    """What many packages have is one line, in one piece, however long."""
    kept = Kept(CONTENTS)
    for number in range(60):
        paths = [b"usr/share/doc/%d/%d" % (number, each) for each in range(100)]
        kept.change({record.key: record.text for record in contents([b"usr/share/x", *paths], f"package{number}")})
    lines = kept.plain().splitlines()
    assert sum(line.startswith(b"usr/share/x ") for line in lines) == 1
    assert lines == sorted(lines) and len(lines) == 6001
    assert all(piece.plain <= MOST for piece in kept.pieces) and len(kept.pieces) > 1
    assert all(piece.plain < USUAL * 2 for piece in kept.pieces)


def test_paths_that_no_line_can_tell() -> None:
    """A path with a newline, or a space at its end, is left out."""
    assert contents([b"usr/a\nb", b"usr/c ", b"./", b""], "hello") == []


# What is no record


@pytest.mark.parametrize(
    "record",
    [
        Record(b"hello 2 amd64", b"Package: hello\nArchitecture: amd64\nVersion: 1"),  # Of another key.
        Record(b"hello 1 amd64", b"Package: hello\nArchitecture: amd64\nVersion: 1\n\nPackage: bash"),
        Record(b"hello 1 amd64", b"Package: hello\nArchitecture: amd64\nVersion: 1\n"),
        Record(b"hello 1 amd64", b"Architecture: amd64\nVersion: 1\nPackage: hello"),
        Record(b"hello 1 amd64", b"Package: hello\nVersion: 1"),
    ],
)
def test_stanzas_that_are_none(record: Record) -> None:
    """What would be read as something else than what it is edited as is refused."""
    with pytest.raises(ValueError, match="not a"):
        checked(PACKAGES, record)


@pytest.mark.parametrize("key", [b"a\0misc/x y", b"a\0misc/x,misc/y", b"a\nb\0misc/x", b"usr/a", b"a \0b/c"])
def test_paths_that_are_none(key: bytes) -> None:
    """So it is in Contents."""
    with pytest.raises(ValueError, match="not a"):
        checked(CONTENTS, Record(key, b""))


@pytest.mark.parametrize("words", [("../main", "amd64"), ("main/../..", "amd64"), ("main", "../x"), ("", "amd64")])
def test_names_of_indices(words: tuple[str, str]) -> None:
    """No component and no architecture leads out of a suite."""
    with pytest.raises(ValueError, match="component"):
        IndexName(words[0], PACKAGES, words[1])
