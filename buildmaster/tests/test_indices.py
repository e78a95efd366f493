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

from buildmaster.indices.chunks import (
    LEAST,
    STEP,
    USUAL,
    Piece,
    PieceDamaged,
    Text,
    change,
    cut,
    make,
    opened,
    text_of,
)
from buildmaster.indices.joining import XZ_BEGIN, Block, compress_block, compress_member, xz_end
from buildmaster.indices.records import (
    IndexKind,
    IndexName,
    Record,
    checked,
    contents_key,
    contents_text,
    parsed,
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
        name = hashlib.sha256(each.text).hexdigest()
        self.kept[name] = each.text  # Compressing it would take most of a test's time, and change nothing.
        self.made += each.plain
        return Piece(name, each.marks, 0, each.plain, 0, 0, 0)

    def read(self, piece: Piece) -> bytes:
        return self.kept[piece.name]

    def change(self, edits: dict[bytes, bytes | None]) -> int:
        """How many bytes of text had to be compressed."""
        self.made = 0
        self.pieces = [self._made(each) for each in change(self.kind, self.pieces, edits, self.read)]
        return self.made

    def plain(self) -> bytes:
        return b"".join(map(self.read, self.pieces))

    def says(self) -> list[Record]:
        """What it says, sorted."""
        return sorted(parsed(self.kind, self.plain()), key=lambda record: record.key)


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


def test_a_change_makes_little_anew() -> None:
    """What comes is at the end, where pieces are small; what changes or leaves makes its piece anew, of any number."""
    kept = Kept(PACKAGES, map(stanza, range(3000)))
    first = kept.pieces
    assert len(first) > 10
    new = b"package001500a 1 amd64"
    assert kept.change({new: b"Package: package001500a\nVersion: 1\nArchitecture: amd64"}) < 2000
    assert kept.pieces[: len(first) - 1] == first[:-1]
    before = kept.pieces
    assert kept.change({stanza(1500).key: stanza(1500).text + b"\nSection: misc"}) < USUAL + LEAST
    assert sum(one != other for one, other in zip(before, kept.pieces, strict=False)) == 2  # Its piece, and the last.
    assert kept.change({stanza(1500).key: stanza(1500).text}) < LEAST
    before = kept.pieces
    assert kept.change({stanza(1500).key: stanza(1500).text, stanza(7).key: stanza(7).text, b"no 1 amd64": None}) == 0
    assert kept.pieces == before


def test_pieces_are_small_at_the_end_alone() -> None:
    """An index that grows by one record at a time, and shrinks again, has pieces of good size, but for a few at the
    end."""
    kept = Kept(PACKAGES)
    order = sorted(range(1500), key=lambda number: hashlib.md5(str(number).encode()).digest())
    made = [kept.change({stanza(number).key: stanza(number).text}) for number in order]
    assert sum(made) / 1500 < STEP + 2000 and max(made) < USUAL + STEP

    def good() -> bool:
        at = next((at for at, piece in enumerate(kept.pieces) if piece.plain < LEAST), len(kept.pieces))
        end = kept.pieces[at:]
        small = all(piece.plain < LEAST for piece in end)
        return small and sum(piece.plain for piece in end) < USUAL and len(end) <= USUAL // STEP + 1

    assert len(kept.pieces) > 4 and good()
    for number in order[:-5]:
        kept.change({stanza(number).key: None})
        assert good()
    assert [record.key for record in kept.says()] == sorted(stanza(each).key for each in order[-5:])
    kept.change({stanza(number).key: None for number in order})
    assert kept.pieces == []


def test_what_changes_often_is_last() -> None:
    """A package with a new version again and again costs the same each time, whatever it is among."""
    kept = Kept(PACKAGES, map(stanza, range(3000)))
    made = []
    for version in range(300):
        record = stanza(10_000 + version)
        made.append(kept.change({record.key: record.text, stanza(10_000 + version - 1).key: None}))
    assert max(made) < STEP + 2000


def test_a_record_larger_than_a_piece() -> None:
    """One record may be larger than pieces are."""
    large = 2 * USUAL
    kept = Kept(PACKAGES, [stanza(1, large), stanza(2), stanza(3, large)])
    kept.change({stanza(2).key: stanza(2, 3 * USUAL).text})
    assert kept.says() == [stanza(1, large), stanza(2, 3 * USUAL), stanza(3, large)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 300), st.one_of(st.none(), st.integers(1, 40_000)), max_size=40)))
def test_any_edits(rounds: list[dict[int, int | None]]) -> None:
    """Whatever is edited, the index says what a dictionary would; of what is as it was nothing is made anew."""
    kept, wanted = Kept(PACKAGES), dict[bytes, bytes]()
    for sizes in rounds:
        edits = {stanza(each).key: None if size is None else stanza(each, size).text for each, size in sizes.items()}
        kept.change(edits)
        for key, text in edits.items():
            wanted.pop(key, None)
            if text is not None:
                wanted[key] = text
        assert kept.says() == [Record(key, text) for key, text in sorted(wanted.items())]
        assert kept.change(edits) == 0


def test_damage_is_noticed() -> None:
    """A piece that lost its end, or a bit, is not taken for one."""
    piece, kept = make(PACKAGES, text_of(PACKAGES, [stanza(1)]))
    content = opened(piece, kept)
    assert b"".join([content.plain, content.block, content.member]) == kept
    assert gzip.decompress(content.member) == content.plain
    for damaged in (kept[:-1], kept[:100] + bytes([kept[100] ^ 1]) + kept[101:], b""):
        with pytest.raises(PieceDamaged):
            opened(piece, damaged)


# Contents


def contents(paths: Iterable[bytes], package: str, section: str = "misc") -> Record:
    key = contents_key(section, package)
    return Record(key, contents_text(paths, key))


def test_a_file_of_two_packages() -> None:
    """It is a line of each; paths may have spaces and any bytes."""
    strange = b"usr/share/a b\xff  c"
    hello, again = (
        contents([b"./usr/bin/hello", strange], "hello"),
        contents([b"/usr/bin/hello"], "hello-again", "devel"),
    )
    kept = Kept(CONTENTS, [hello, again])
    lines = kept.plain().split(b"\n")
    assert [line.split()[-1] for line in lines[:-1]] == [b"devel/hello-again", b"misc/hello", b"misc/hello"]
    assert lines[1].startswith(strange + b" ") or lines[2].startswith(strange + b" ")
    assert kept.says() == [again, hello]
    kept.change({b"misc/hello": None})
    assert kept.plain().split() == [b"usr/bin/hello", b"devel/hello-again"]


def test_contents_cost_what_changes() -> None:
    """However many packages there are, Contents change at their end."""
    kept = Kept(CONTENTS)
    made = []
    for number in range(300):
        paths = [b"usr/share/x", *(b"usr/share/doc/%d/%d" % (number, each) for each in range(100))]
        record = contents(paths, f"package{number}")
        made.append(kept.change({record.key: record.text}))
    assert len(kept.plain().splitlines()) == 300 * 101
    assert max(made) < USUAL + LEAST and sum(made) / 300 < 3 * len(record.text)


def test_paths_that_no_line_can_tell() -> None:
    """A path with a newline, or a space at its end, is left out."""
    assert contents([b"usr/a\nb", b"usr/c ", b"./", b""], "hello").text == b""


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


@pytest.mark.parametrize(
    "record",
    [
        Record(b"misc/x", b"usr/a misc/y"),  # Of another key.
        Record(b"misc/x", b"usr/a misc/x\nusr/b misc/y"),
        Record(b"misc/x", b"usr/a misc/x\n"),
        Record(b"misc/x", b""),
        Record(b"misc/x", b"misc/x"),
        Record(b"misc/x", b"   misc/x"),
        Record(b"x", b"usr/a x"),
        Record(b"misc/x,misc/y", b"usr/a misc/x,misc/y"),
    ],
)
def test_lines_that_are_none(record: Record) -> None:
    """So it is in Contents."""
    with pytest.raises(ValueError, match="not "):
        checked(CONTENTS, record)


@pytest.mark.parametrize("words", [("../main", "amd64"), ("main/../..", "amd64"), ("main", "../x"), ("", "amd64")])
def test_names_of_indices(words: tuple[str, str]) -> None:
    """No component and no architecture leads out of a suite."""
    with pytest.raises(ValueError, match="component"):
        IndexName(words[0], PACKAGES, words[1])
