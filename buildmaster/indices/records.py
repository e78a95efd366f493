"""Which indices a suite has, what each consists of, and how its text is taken apart and put together."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

# Debian Policy allows less; apt's own limits are wider. What is in a path is checked here, whoever says it.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*", re.ASCII)


class IndexKind(StrEnum):
    """What an index lists."""

    PACKAGES = "Packages"  # Binary packages of an architecture, those of all among them.
    SOURCES = "Sources"
    CONTENTS = "Contents"  # Which package has a file. Those of all are in an index of their own.


@dataclass(frozen=True, order=True)
class IndexName:
    """An index of a suite.

    :raises ValueError: a component or an architecture cannot be part of a path.
    """

    component: str  # main, or main/debug.
    kind: IndexKind
    architecture: str = "source"  # Of Packages and Contents.

    def __post_init__(self) -> None:
        words = [*self.component.split("/"), self.architecture]
        if not all(map(_WORD.fullmatch, words)):
            raise ValueError(
                f"not a component and an architecture: {self.component[:80]!r}, {self.architecture[:80]!r}"
            )
        if (self.kind is IndexKind.SOURCES) != (self.architecture == "source"):
            raise ValueError(f"{self.kind} of {self.architecture}")

    @property
    def path(self) -> str:
        """Where it is in a suite, without what says how it is compressed."""
        match self.kind:
            case IndexKind.PACKAGES:
                return f"{self.component}/binary-{self.architecture}/Packages"
            case IndexKind.SOURCES:
                return f"{self.component}/source/Sources"
            case IndexKind.CONTENTS:
                return f"{self.component}/Contents-{self.architecture}"


@dataclass(frozen=True)
class Record:
    """What an index says of one package, or of one file of one package."""

    key: bytes  # Records are sorted by it; there is one of a key.
    text: bytes


@dataclass(frozen=True)
class Edit:
    """A change of an index: this is what it says from now on under this key, whatever it said before."""

    index: IndexName
    key: bytes
    text: bytes | None  # None: nothing.


def put(index: IndexName, records: Iterable[Record]) -> Iterator[Edit]:
    """The edits by which records come into an index."""
    return (Edit(index, record.key, record.text) for record in records)


def take_out(index: IndexName, keys: Iterable[bytes]) -> Iterator[Edit]:
    """Those by which they leave it. What is not there leaves harmlessly."""
    return (Edit(index, key, None) for key in keys)


def packages_key(package: str, version: str, architecture: str) -> bytes:
    """The key of a binary package in Packages. A space sorts before all that a name can have."""
    return f"{package} {version} {architecture}".encode()


def contents_keys(paths: Iterable[bytes], section: str, package: str) -> Iterator[bytes]:
    """The keys of a binary package in Contents."""
    raise NotImplementedError


def sources_key(package: str, version: str) -> bytes:
    """The key of a source package in Sources."""
    return f"{package} {version}".encode()
