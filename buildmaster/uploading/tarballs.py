"""Looks a source package's tarballs over, as a stream: nothing is written anywhere, and little is kept in memory.

What unpacks to more than there is room for, has paths that lead elsewhere, or breaks off is refused here rather than
found out by every builder.
"""

import bz2
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

_BLOCK = 512
_PIECE = 1 << 16
_MEMORY_MAX = 256 << 20  # Of a decompressor: xz -9 needs 65 MiB.
_MEMBERS_MAX = 1_000_000  # The kernel has 90,000.
_NAME_MAX = 1 << 16  # Of a record that holds a name, or what pax has about a member.
_LONG = (b"L", b"K", b"x", b"g", b"X")
_KINDS = (b"\0", b"0", b"1", b"2", b"5", b"7")  # Files, hard and symbolic links, directories.


class BadTarball(Exception):
    """A tarball cannot be accepted; the message is the end of a sentence that begins with its name."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Gzip:
    """zlib's, with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def look_over(path: Path, name: str, most_bytes: int) -> None:
    """Read a tarball to its end. Blocks.

    :param name: what it is called, by which one knows how it is compressed.
    :param most_bytes: that it may unpack to.
    :raises BadTarball: it is none, or one that cannot be accepted.
    :raises OSError: it cannot be read.
    """
    _read(path, name, most_bytes, _walk)


def unpack(path: Path, name: str, most_bytes: int) -> None:
    """Read any compressed file to its end; as look_over()."""

    def walk(stream: _Stream) -> None:
        while stream.read(1):
            stream.skip_piece()

    _read(path, name, most_bytes, walk)


def _read(path: Path, name: str, most_bytes: int, walk: "Callable[[_Stream], None]") -> None:
    stream = _Stream(_unpacked(path, name), most_bytes)
    try:
        walk(stream)
    except (lzma.LZMAError, zlib.error, ValueError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # Of the disk; bz2 raises one without.
            raise
        raise BadTarball(f"is broken: its compressed data cannot be read ({error}); make it anew") from error


def _walk(stream: "_Stream") -> None:
    members = 0
    while True:
        block = stream.read(_BLOCK)
        if not block or block == bytes(_BLOCK):
            break
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise BadTarball(f"is no tarball: {error}; make it anew") from error
        members += 1
        if members > _MEMBERS_MAX:
            raise BadTarball(f"has more than {_MEMBERS_MAX} members: no source package needs them")
        long_name = _look_at(member, stream)
        if long_name:
            _check_path(long_name)
    if not members:
        raise BadTarball("is empty: make it anew")


def _look_at(member: tarfile.TarInfo, stream: "_Stream") -> str:
    """Pass a member. Returns the name that it has for the next one, if it has; "" otherwise."""
    if member.size < 0:
        raise BadTarball("has a member of a negative size: make it anew")
    if member.type in _LONG:
        if member.size > _NAME_MAX:
            raise BadTarball(f"has a name of {member.size} bytes in it: no path is so long")
        data = stream.read(-(-member.size // _BLOCK) * _BLOCK)[: member.size]
        return _name_in(member.type, data)
    if member.type not in _KINDS:
        raise BadTarball(f"has {member.name[:80]!r} in it, which is no file, directory or link: take it out")
    _check_path(member.name)
    if member.type in (b"\0", b"0", b"7"):
        stream.skip(-(-member.size // _BLOCK) * _BLOCK)
    return ""


def _name_in(kind: bytes, data: bytes) -> str:
    """The path in a record of a long name, of GNU's or of pax."""
    if kind == b"L":
        return data.rstrip(b"\0").decode("utf-8", "replace")
    for line in data.split(b"\n"):
        _, _, said = line.partition(b" ")
        if said.startswith(b"path="):
            return said.removeprefix(b"path=").decode("utf-8", "replace")
    return ""


def _check_path(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise BadTarball(f"has the path {name[:80]!r} in it, which leads elsewhere: take it out")


class _Stream:
    """What a tarball unpacks to, read in pieces, up to a limit."""

    def __init__(self, pieces: Iterator[bytes], most_bytes: int) -> None:
        self._pieces = pieces
        self._most_bytes = most_bytes
        self._came = 0
        self._rest = b""

    def read(self, size: int) -> bytes:
        """So many bytes; none at the end."""
        found = b""
        while len(found) < size:
            if not self._rest and not self._next():
                if found:
                    raise BadTarball("breaks off in the middle: send it again, whole")
                return b""
            taken = self._rest[: size - len(found)]
            self._rest = self._rest[len(taken) :]
            found += taken
        return found

    def skip(self, size: int) -> None:
        """Pass so many bytes."""
        while size:
            if not self._rest and not self._next():
                raise BadTarball("breaks off in the middle: send it again, whole")
            passed = min(size, len(self._rest))
            self._rest = self._rest[passed:]
            size -= passed

    def skip_piece(self) -> None:
        """Pass what is at hand."""
        self._rest = b""

    def _next(self) -> bool:
        self._rest = next(self._pieces, b"")
        self._came += len(self._rest)
        if self._came > self._most_bytes:
            raise BadTarball(f"unpacks to more than {self._most_bytes} bytes, which are accepted here")
        return bool(self._rest)


def _unpacked(path: Path, name: str) -> Iterator[bytes]:
    """What is in a compressed file, in pieces; all streams of it, one after another."""
    with path.open("rb") as file:
        data = file.read(_PIECE)
        while data:
            inner = _decompressor(name)
            while not inner.eof:
                piece = inner.decompress(data, _PIECE)
                data = b""
                if piece:
                    yield piece
                if getattr(inner, "needs_input", True) and not inner.eof:
                    data = file.read(_PIECE)
                    if not data:
                        if piece:
                            continue
                        raise BadTarball("breaks off in the middle: send it again, whole")
            data = inner.unused_data.lstrip(b"\0") or file.read(_PIECE).lstrip(b"\0")


def _decompressor(name: str) -> _Decompressor:
    match name.rpartition(".")[2]:
        case "gz":
            return _Gzip()
        case "bz2":
            return bz2.BZ2Decompressor()
        case "xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_MAX)
        case "lzma":
            return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY_MAX)
        case other:
            raise BadTarball(f"is compressed in a way that is not known here (.{other})")
