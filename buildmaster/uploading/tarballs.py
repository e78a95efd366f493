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
_READ_OTHERWISE = ("size", "hdrcharset")  # In a pax header;
_NAMES = ("path", "linkpath")  # in one for all members, which is never meant, those as well.
_POSIX = b"ustar\0"  # Only what says so has room for the beginning of a name; tarfile looks there in any.
_PATH_MAX = 4096  # Bytes; as the kernel has it.
_FILES = (b"\0", b"0", b"7")
_KINDS = (*_FILES, b"1", b"2", b"5")  # Hard and symbolic links, directories.


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
    _read(path, name, most_bytes, lambda stream: stream.drain())


def _read(path: Path, name: str, most_bytes: int, walk: "Callable[[_Stream], None]") -> None:
    stream = _Stream(_unpacked(path, name), most_bytes)
    try:
        walk(stream)
    except (lzma.LZMAError, zlib.error, ValueError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # Of the disk; bz2 raises one without.
            raise
        raise BadTarball(f"is broken: its compressed data cannot be read ({error}); make it anew") from error


def _walk(stream: "_Stream") -> None:
    members, name, link = 0, "", ""  # The last two: of the next member, where they are too long for its header.
    links: set[int] = set()  # Hashes of the names of symbolic links.
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
        if member.size < 0:
            raise BadTarball("has a member of a negative size: make it anew")
        if member.type in _LONG:
            found = _long(member, stream)
            name, link = found.get("path", name), found.get("linkpath", link)
            continue
        own = member.name if block[257:263] == _POSIX else _text(block[:100].partition(b"\0")[0])
        member.name, member.linkname = name or own, link or member.linkname
        name = link = ""
        _look_at(member, links)
        if block[156:157] in _FILES and member.size and (member.name.endswith("/") or member.type not in _FILES):
            raise BadTarball(f"has {member.name[:80]!r}, to some a directory, to others a file: make it anew")
        if member.type in _FILES:
            stream.skip(-(-member.size // _BLOCK) * _BLOCK)
    if not members:
        raise BadTarball("is empty: make it anew")
    stream.drain()  # Whoever unpacks it may read on as well.


def _look_at(member: tarfile.TarInfo, links: set[int]) -> None:
    if member.type not in _KINDS:
        raise BadTarball(f"has {member.name[:80]!r} in it, which is no file, directory or link: take it out")
    path = _checked(member.name)
    _must_not_lead_through(links, path, member.name)
    if member.type == b"1":
        to = _checked(member.linkname)
        _must_not_lead_through(links, to, member.linkname)
        if hash(to) in links:  # Then it is one itself.
            links.add(hash(path))
    if member.type == b"2":
        links.add(hash(path))


def _must_not_lead_through(links: set[int], path: tuple[str, ...], name: str) -> None:
    if links and any(hash(path[:length]) in links for length in range(1, len(path))):
        raise BadTarball(f"has the path {name[:80]!r} in it, which leads through a link: take it out")


def _long(member: tarfile.TarInfo, stream: "_Stream") -> dict[str, str]:
    """What a member says of the next one, in GNU's way or that of pax: its path, and where it links to."""
    if member.size > _NAME_MAX:
        raise BadTarball(f"has a name of {member.size} bytes in it: no path is so long")
    blocks = stream.read(-(-member.size // _BLOCK) * _BLOCK)
    data = blocks[: member.size]
    if member.type in (b"L", b"K"):
        long = blocks.partition(b"\0")[0]
        if not long or long != data.partition(b"\0")[0]:
            raise BadTarball("has a name that tar reads otherwise than it looks: make it anew")
        return {"path" if member.type == b"L" else "linkpath": _text(long)}
    found, others = dict(_pax(data)), (*_READ_OTHERWISE, *(_NAMES if member.type == b"g" else ()))
    if strange := sorted(key for key in found if key in others or key.startswith("GNU.sparse.")):
        key = strange[0][:80]
        raise BadTarball(f"has a pax header with {key!r}, by which it reads otherwise than it looks: make it anew")
    if "" in map(found.get, _NAMES):
        raise BadTarball("has a name that tar reads otherwise than it looks: make it anew")
    return {key: found[key] for key in _NAMES if key in found}


def _pax(data: bytes) -> Iterator[tuple[str, str]]:
    """Keys and values of a pax header: lines of a length, a blank, KEY=VALUE and a newline, which the length counts."""
    while data:
        length, blank, _ = data.partition(b" ")
        if not blank or not length.isdigit() or len(length) > 8:
            raise BadTarball("has a pax header that cannot be read: make it anew")
        size = int(length)
        record, data = data[:size], data[size:]
        key, equals, value = record[len(length) + 1 :].partition(b"=")
        if len(record) < size or not record.endswith(b"\n") or not equals:
            raise BadTarball("has a pax header that cannot be read: make it anew")
        yield _text(key), _text(value[:-1])


def _text(name: bytes) -> str:
    """As tarfile reads names in headers: two that differ stay two, and one is one wherever it stands."""
    return name.decode("utf-8", "surrogateescape")


def _checked(name: str) -> tuple[str, ...]:
    """The words of a path that stays below where it is unpacked."""
    if len(name.encode("utf-8", "surrogateescape")) > _PATH_MAX:
        raise BadTarball(f"has a path of more than {_PATH_MAX} bytes in it, which nobody can unpack: make it shorter")
    words = name.split("/")
    if name.startswith("/") or ".." in words or "\0" in name:
        raise BadTarball(f"has the path {name[:80]!r} in it, which leads elsewhere: take it out")
    return tuple(word for word in words if word not in ("", "."))


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

    def drain(self) -> None:
        """Pass all that is left."""
        while self._next():
            pass
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
