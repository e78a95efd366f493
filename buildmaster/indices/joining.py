"""Compressed pieces put together: blocks as one xz stream, members as one gzip file.

apt reads the first of several xz streams only, so pieces have to be blocks of one. What is made here of lzma's output
is described in "The .xz File Format", 1.2.1: a stream is a header, blocks, an index of their sizes, and a footer; its
integers of variable length have seven bits a byte, the lowest first, all bytes but the last with the eighth bit set.
"""

import gzip
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_FLAGS: Final = b"\0\x04"  # Of every stream: what is in it is checked by CRC64.
XZ_BEGIN: Final = b"\xfd7zXZ\0" + _FLAGS + struct.pack("<I", zlib.crc32(_FLAGS))
_FOOTER_BYTES: Final = 12
_QUICK: Final = {"mf": lzma.MF_HC4, "nice_len": 16, "depth": 8}
_GZIP_LEVEL: Final = 6  # 9 takes a quarter longer, for half a per cent.


@dataclass(frozen=True)
class Block:
    """A block of an xz stream."""

    data: bytes  # With the padding to four bytes.
    unpadded: int  # Bytes, without it.
    plain: int  # Bytes of what was compressed.


def compress_block(plain: bytes) -> Block:
    """Compress at least one byte as a block.

    Of 112 kB of Packages, xz -6 makes 24.1 kB in 14.7 ms. With hash chains, and content with less, it is 25.2 kB in
    6.3; xz -3, 26.9 in 4.5. The dictionary is no larger than what there is to look back to: lzma clears all of it.
    """
    dictionary = max(4096, 1 << (len(plain) - 1).bit_length())
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary, **_QUICK}]
    stream = lzma.compress(plain, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=filters)
    (backward,) = struct.unpack("<I", stream[-8:-4])
    index_at = len(stream) - _FOOTER_BYTES - 4 * (backward + 1)
    count, at = _integer(stream, index_at + 1)
    unpadded, at = _integer(stream, at)
    size, _ = _integer(stream, at)
    assert count == 1 and size == len(plain) and stream.startswith(XZ_BEGIN)
    return Block(stream[len(XZ_BEGIN) : index_at], unpadded, size)


def xz_end(sizes: Sequence[tuple[int, int]]) -> bytes:
    """What follows the blocks of a stream that begins with XZ_BEGIN.

    :param sizes: of each block, `unpadded` and `plain`.
    """
    index = b"\0" + _variable(len(sizes)) + b"".join(_variable(one) + _variable(other) for one, other in sizes)
    index += bytes(-len(index) % 4)
    end = struct.pack("<I", (len(index) + 4) // 4 - 1) + _FLAGS
    return b"".join((index, struct.pack("<II", zlib.crc32(index), zlib.crc32(end)), end, b"YZ"))


def compress_member(plain: bytes) -> bytes:
    """Compress as a member of a gzip file, which has one at least. Equal bytes make equal members, whenever it is."""
    return gzip.compress(plain, _GZIP_LEVEL, mtime=0)


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
