"""What apt sees of one suite of one archive: its indices, signed, on disk; each change is one rename."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from buildmaster.indices.records import Edit, IndexName, Record
from buildmaster.indices.release import Facts
from buildmaster.publishing.signing import Signer


class TreeDamaged(ValueError):
    """What was kept of a suite's indices is not there or not whole: only rebuild() can go on from here."""


@dataclass(frozen=True)
class Keep:
    """How long what was replaced can still be fetched by its digest."""

    seconds: float = 300.0
    generations: int = 3  # At least so many, however old.


@dataclass(frozen=True)
class Published:
    """A generation of a suite."""

    generation: int  # Counted up from 1.
    published_at: float
    valid_until: float | None  # None: it does not expire.


class SuiteTree:
    """One suite of one archive. Blocks; one process at a time changes it (others wait), any number reads."""

    def __init__(self, archive: Path, suite: str, keep: Keep = Keep()) -> None:
        """Take the archive's directory and the suite's name (bookworm-updates); neither need be there yet."""
        raise NotImplementedError

    def current(self) -> Published | None:
        """What is there now; None: nothing was ever published.

        :raises TreeDamaged: there is something, but it cannot be read.
        """
        raise NotImplementedError

    def publish(self, edits: Iterable[Edit], facts: Facts, signer: Signer, now: float) -> Published:
        """Change what apt sees, in one step. The files that the edits name are in the pool by now (Pool.place()).

        Publishing what is there already changes nothing and returns what is current, unless Release files expire and
        half of their time is over. So a caller that died anywhere does the same again. The first time, a suite comes
        into being, with all indices that `facts` asks for, be they empty; an index of a component or architecture that
        is no longer asked for goes.

        :raises TreeDamaged: rebuild() is needed.
        :raises ValueError: an edit is of an index that `facts` does not have.
        :raises OSError: the disk is full or broken; what apt sees is what it was.
        """
        raise NotImplementedError

    def rebuild(
        self, records: Iterable[tuple[IndexName, Record]], facts: Facts, signer: Signer, now: float
    ) -> Published:
        """The same, from all records there are, in any order, whatever was there before."""
        raise NotImplementedError

    def records(self, index: IndexName) -> Iterator[Record]:
        """What an index says now, sorted; of an index that is not there, nothing.

        :raises TreeDamaged: it cannot be read.
        """
        raise NotImplementedError


def take_snapshot(archive: Path, name: str) -> None:
    """Keep all suites of an archive as they are now, and the pool's files, below snapshot/NAME: hard links, so that
    neither publications nor the pool's sweeping matter to it. There is all of it or nothing; one that exists is left.

    :raises OSError: the disk is full or broken; nothing is left that anybody sees.
    """
    raise NotImplementedError


def remove_snapshot(archive: Path, name: str) -> None:
    """Remove one; harmless when it is not there."""
    raise NotImplementedError
