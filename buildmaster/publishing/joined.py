"""The files of an index, written from its pieces."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from buildmaster.indices.chunks import Piece, Text
from buildmaster.indices.joining import XZ_BEGIN, compress_member, xz_end
from buildmaster.indices.manifest import Index
from buildmaster.indices.records import IndexKind
from buildmaster.indices.release import Sum
from buildmaster.publishing.pieces import Pieces

_AT_ONCE: Final = 4  # Pieces that are compressed at the same time, by as many processors.


class _Sink:
    """A file that is digested while it is written; or only digested."""

    def __init__(self, path: Path | None) -> None:
        self._stream = path.open("wb", buffering=0) if path else None
        self._sha256 = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._size += len(data)
        while self._stream and data:
            data = data[self._stream.write(data) :]

    def close(self) -> Sum:
        if self._stream:
            self._stream.close()
        return Sum(self._size, self._sha256.hexdigest())


def write_index(path: Path, kind: IndexKind, parts: Sequence[Piece | Text], kept: Pieces) -> Index:
    """Write an index, compressed in each way, put together from its pieces; make those that are not there.

    Those that are there go one by one through a buffer that stays in the processor's cache: threads that read,
    digested and wrote at the same time took a fifth more of processor time.

    :param path: of the index, without what says how it is compressed.
    :raises PieceDamaged: one of those that are there is not what it was.
    """
    plain, gz = _Sink(None), _Sink(path.with_name(path.name + ".gz"))
    xz = None if kind is IndexKind.CONTENTS else _Sink(path.with_name(path.name + ".xz"))
    pieces: list[Piece] = []
    buffer = bytearray(1 + max((part.size for part in parts if isinstance(part, Piece)), default=0))
    if xz:
        xz.write(XZ_BEGIN)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        made = iter([threads.submit(kept.make, kind, part) for part in parts if isinstance(part, Text)])
        for part in parts:
            content = next(made).result() if isinstance(part, Text) else kept.read(part, buffer)
            plain.write(content.plain)
            gz.write(content.member)
            if xz:
                xz.write(content.block)
            pieces.append(content.piece)
    if not pieces:
        gz.write(compress_member(b""))
    files = {".gz": gz.close()}
    if xz:
        xz.write(xz_end([(piece.unpadded, piece.plain) for piece in pieces]))
        files[".xz"] = xz.close()
    return Index(tuple(pieces), plain.close(), files)
