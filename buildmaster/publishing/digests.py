"""How far the digests of indices had come at the end of each piece, remembered from one publication to the next.

An index is digested from its beginning to its end, as it is and compressed in each way. Of one that changed, what is
before the change has the digests that it had: so these go on from there, and nobody reads it. What is remembered is no
more than that; who has forgotten it reads all pieces, and comes to the same.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from buildmaster.indices.chunks import Piece
from buildmaster.indices.records import IndexName

if TYPE_CHECKING:
    from hashlib import _Hash

_BELIEVED_S: Final = 3600.0  # Then all pieces are read again: it is noticed when the disk has lost some.
_MOST: Final = 20_000  # Ends of pieces, each about a kilobyte: an archive of Debian's size has some hundreds.

States = tuple["_Hash", ...]  # Of an index as it is, by gzip, and by xz where there is that.


@dataclass(frozen=True)
class Progress:
    """The digests of an index."""

    pieces: tuple[Piece, ...]
    states: tuple[States, ...]  # At the end of each piece.
    since: float  # When all of it was read the last time. Unix time.


class Digests:
    """Those of some indices: of many, what was not asked for for longest is forgotten. For any thread."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._number = 0
        self._found: OrderedDict[tuple[Path, IndexName], Progress] = OrderedDict()
        self._lock = Lock()

    def of(self, suite: Path, name: IndexName, pieces: Sequence[Piece], now: float) -> Progress | None:
        """Those of an index that has these pieces; None: they are not known.

        :param suite: where it is.
        """
        with self._lock:
            found = self._found.get((suite, name))
        if found is None or found.pieces != tuple(pieces) or not 0 <= now - found.since < _BELIEVED_S:
            return None
        return found

    def keep(self, suite: Path, name: IndexName, progress: Progress) -> None:
        """Remember those of an index, instead of what they were."""
        with self._lock:
            before = self._found.pop((suite, name), None)
            self._found[suite, name] = progress
            self._number += len(progress.states) - (len(before.states) if before else 0)
            while self._number > self._most:
                _, forgotten = self._found.popitem(last=False)
                self._number -= len(forgotten.states)
