"""Compressed pieces put together: blocks as one xz stream, members as one gzip file.

apt reads the first of several xz streams only, so pieces have to be blocks of one. What is made here of lzma's output
is described in "The .xz File Format", 1.2.1: a stream is a header, blocks, an index of their sizes, and a footer; its
integers of variable length have seven bits a byte, the lowest first, all bytes but the last with the eighth bit set.
"""

import gzip
import lzma
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_FLAGS: Final = b"\0\x04"  # Of every stream: what is in it is checked by CRC64.
_HEADER: Final = b"\xfd7zXZ\0" + _FLAGS + struct.pack("<I", zlib.crc32(_FLAGS))
_FOOTER_BYTES: Final = 12
_GZIP_LEVEL: Final = 6  # 9 takes a quarter longer, for half a per cent.


@dataclass(frozen=True)
class Block:
    """A block of an xz stream."""

    data: bytes  # With the padding to four bytes.
    unpadded: int  # Bytes, without it.
    plain: int  # Bytes of what was compressed.


def compress_block(plain: bytes) -> Block:
    """Compress at least one byte as a block.

    The dictionary is no larger than what there is to look back to: that saves lzma a fifth of its time, in memory that
    is never used.
    """
    dictionary = max(4096, 1 << (len(plain) - 1).bit_length())
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}]
    stream = lzma.compress(plain, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=filters)
    (backward,) = struct.unpack("<I", stream[-8:-4])
    index_at = len(stream) - _FOOTER_BYTES - 4 * (backward + 1)
    count, at = _integer(stream, index_at + 1)
    unpadded, at = _integer(stream, at)
    size, _ = _integer(stream, at)
    assert count == 1 and size == len(plain) and stream.startswith(_HEADER)
    return Block(stream[len(_HEADER) : index_at], unpadded, size)


def xz_stream(blocks: Iterable[Block]) -> Iterator[bytes]:
    """The parts of one stream of all the blocks; of none, the stream of nothing."""
    yield _HEADER
    sizes = []
    for block in blocks:
        yield block.data
        sizes.append(_variable(block.unpadded) + _variable(block.plain))
    index = b"\0" + _variable(len(sizes)) + b"".join(sizes)
    index += bytes(-len(index) % 4)
    yield index + struct.pack("<I", zlib.crc32(index))
    end = struct.pack("<I", (len(index) + 4) // 4 - 1) + _FLAGS
    yield struct.pack("<I", zlib.crc32(end)) + end + b"YZ"


def compress_member(plain: bytes) -> bytes:
    """Compress as a member of a gzip file. Equal bytes make equal members, whenever it is."""
    return gzip.compress(plain, _GZIP_LEVEL, mtime=0)


def gzip_file(members: Iterable[bytes]) -> Iterator[bytes]:
    """The parts of a file of all the members; of none, the file of nothing."""
    empty = True
    for member in members:
        empty = False
        yield member
    if empty:
        yield compress_member(b"")


def _variable(number: int) -> bytes:
    """A number as an integer of variable length."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """An integer of variable length, and where what follows it begins."""
    number = shift = 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return number | data[at] << shift, at + 1
