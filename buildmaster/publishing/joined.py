"""The files of an index, written from its pieces."""

import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from buildmaster.indices.chunks import Content, Piece, PieceDamaged, Text
from buildmaster.indices.joining import XZ_BEGIN, compress_member, xz_end
from buildmaster.indices.manifest import Index
from buildmaster.indices.records import IndexKind
from buildmaster.indices.release import Sum
from buildmaster.publishing import threads
from buildmaster.publishing.digests import Progress, States
from buildmaster.publishing.pieces import Pieces

if TYPE_CHECKING:
    from hashlib import _Hash

_STEP: Final = 1 << 20
# Where files cannot be copied so: of some file systems, of two of them, and where a container forbids it.
_NOT_BY_KERNEL: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
_AT_ONCE: Final = 4  # Pieces that are compressed at the same time, by as many processors.


@dataclass(frozen=True)
class Before:
    """An index as it was before it changed."""

    path: Path  # Without what says how it is compressed.
    progress: Progress  # Of no pieces, where that is not remembered.


class _Sink:
    """A file that is digested while it is written; or only digested."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stream = path.open("wb", buffering=0) if path else None
        self._sha256 = hashlib.sha256()
        self._size = 0

    def take(self, before: Path, size: int, state: "_Hash") -> None:
        """Begin as another file does, of whose beginning this is the digest: neither is read here.

        :raises PieceDamaged: it is shorter.
        """
        self._size, self._sha256 = size, state.copy()
        if self._stream and self._path:
            with before.with_name(before.name + self._path.suffix).open("rb", buffering=0) as stream:
                if _copied(stream, self._stream, size) < size:
                    raise PieceDamaged(f"{stream.name} is not whole")

    def write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._size += len(data)
        while self._stream and data:
            data = data[self._stream.write(data) :]

    def state(self) -> "_Hash":
        return self._sha256.copy()

    def close(self) -> Sum:
        if self._stream:
            self._stream.close()
        return Sum(self._size, self._sha256.hexdigest())


def _copied(source: FileIO, target: FileIO, size: int) -> int:
    """Copy so many bytes, if there are, by the kernel where the file system lets it. Returns how many there were."""
    done, by_kernel = 0, True
    while done < size:
        if by_kernel:
            try:
                step = os.copy_file_range(source.fileno(), target.fileno(), size - done)
            except OSError as error:
                if error.errno not in _NOT_BY_KERNEL:
                    raise
                by_kernel = False
                continue
        else:
            data = memoryview(source.read(min(size - done, _STEP)))
            step = len(data)
            while data:
                data = data[target.write(data) :]
        if not step:
            break
        done += step
    return done


class _Files:
    """The files of an index while they are written."""

    def __init__(self, path: Path, kind: IndexKind) -> None:
        self._plain, self._gz = _Sink(None), _Sink(path.with_name(path.name + ".gz"))
        self._xz = None if kind is IndexKind.CONTENTS else _Sink(path.with_name(path.name + ".xz"))

    def begin(self, before: Path, pieces: Sequence[Piece], states: Sequence[States]) -> None:
        """Begin with these pieces, as another index does; be it with none."""
        if not pieces:
            if self._xz:
                self._xz.write(XZ_BEGIN)
            return
        plain, gz, *xz = states[-1]
        self._plain.take(before, sum(piece.plain for piece in pieces), plain)
        self._gz.take(before, sum(piece.gz for piece in pieces), gz)
        if self._xz:
            self._xz.take(before, len(XZ_BEGIN) + sum(piece.xz for piece in pieces), *xz)

    def write(self, content: Content) -> States:
        """Put a piece to the end. Returns how far the digests are then."""
        self._plain.write(content.plain)
        self._gz.write(content.member)
        if not self._xz:
            return self._plain.state(), self._gz.state()
        self._xz.write(content.block)
        return self._plain.state(), self._gz.state(), self._xz.state()

    def close(self, pieces: Sequence[Piece]) -> Index:
        """The index, which has these pieces."""
        if not pieces:
            self._gz.write(compress_member(b""))
        files = {".gz": self._gz.close()}
        if self._xz:
            self._xz.write(xz_end([(piece.unpadded, piece.plain) for piece in pieces]))
            files[".xz"] = self._xz.close()
        return Index(tuple(pieces), self._plain.close(), files)


def write_index(
    path: Path, kind: IndexKind, parts: Sequence[Piece | Text], kept: Pieces, before: Before
) -> tuple[Index, Progress]:
    """Write an index, compressed in each way, put together from its pieces; make those that are not there.

    Those that are there go one by one through a buffer that stays in the processor's cache: threads that read,
    digested and wrote at the same time took a fifth more of processor time.

    :param path: of the index, without what says how it is compressed.
    :param before: what it was, to be gone on from where the two begin to differ.
    :raises PieceDamaged: one of those that are there is not what it was.
    """
    files = _Files(path, kind)
    same = _shared(parts, before.progress.pieces)
    pieces, states = list(before.progress.pieces[:same]), list(before.progress.states[:same])
    files.begin(before.path, pieces, states)
    rest = parts[same:]
    buffer = bytearray(1 + max((part.size for part in rest if isinstance(part, Piece)), default=0))
    texts = [part for part in rest if isinstance(part, Text)]
    made = iter(threads.each(_AT_ONCE, lambda text: kept.make(kind, text), texts))
    for part in rest:
        content = next(made) if isinstance(part, Text) else kept.read(part, buffer)
        states.append(files.write(content))
        pieces.append(content.piece)
    return files.close(pieces), Progress(tuple(pieces), tuple(states), before.progress.since)


def _shared(parts: Sequence[Piece | Text], pieces: Sequence[Piece]) -> int:
    """With how many pieces both begin."""
    pairs = enumerate(zip(parts, pieces, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(parts), len(pieces)))
