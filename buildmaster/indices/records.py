"""Which indices a suite has, what each consists of, and how its text is taken apart and put together."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Final, assert_never

# Debian Policy allows less; apt's own limits are wider. What is in a path is checked here, whoever says it.
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*", re.ASCII)
# Contents have paths to the left, in a column of this width where they fit, and to the right a section and a package.
_COLUMN: Final = 55
_CONTENTS_KEY: Final = re.compile(rb"[^\s,]+/[^\s,/]+")


class IndexKind(StrEnum):
    """What an index lists."""

    PACKAGES = "Packages"  # Binary packages of an architecture, those of all among them.
    SOURCES = "Sources"
    CONTENTS = "Contents"  # Which package has a file. Those of all are in an index of their own.
    TRANSLATION = "Translation"  # Descriptions in a language; there is none where no package gives any.


@dataclass(frozen=True, order=True)
class IndexName:
    """An index of a suite.

    :raises ValueError: a component or an architecture cannot be part of a path.
    """

    component: str  # main, or main/debug.
    kind: IndexKind
    architecture: str = "source"  # Of Packages and Contents; of Translation the language: de, pt_BR.

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
            case IndexKind.TRANSLATION:
                return f"{self.component}/i18n/Translation-{self.architecture}"
            case _:
                assert_never(self.kind)


@dataclass(frozen=True, slots=True)
class Record:
    """What an index says of one package."""

    key: bytes  # There is one of a key.
    text: bytes  # A stanza, or a package's lines of Contents; without the newline at its end.


@dataclass(frozen=True, slots=True)
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


def sources_key(package: str, version: str) -> bytes:
    """The key of a source package in Sources."""
    return f"{package} {version}".encode()


def translation_key(package: str, description_md5: str) -> bytes:
    """The key of a description in Translation, which all packages have that are described so, of whatever version."""
    return f"{package} {description_md5}".encode()


def contents_key(section: str, package: str) -> bytes:
    """The key of a binary package in Contents, for all versions of it.

    :param section: as in its control file; "": misc.
    """
    return f"{section or 'misc'}/{package}".encode()


def contents_text(paths: Iterable[bytes], key: bytes) -> bytes:
    """The text of a binary package in Contents; nothing for one that has no files.

    A path that a line cannot tell, for it has a newline or ends in a space, is left out: nobody looks for one.

    :param paths: of its files, not directories; "./usr/bin/hello" and "/usr/bin/hello" are "usr/bin/hello".
    """
    found = {path.removeprefix(b".").lstrip(b"/") if path.startswith((b"/", b"./")) else path for path in paths}
    good = sorted(
        path for path in found if path and b"\n" not in path and b"\0" not in path and not path[-1:].isspace()
    )
    return b"\n".join([b"%s %s" % (path.ljust(_COLUMN), key) for path in good])


# An index's text


def _end(kind: IndexKind) -> bytes:
    """What follows a record."""
    return b"\n" if kind is IndexKind.CONTENTS else b"\n\n"


def rendered(kind: IndexKind, records: Iterable[Record]) -> bytes:
    """The text of records."""
    end = _end(kind)
    return b"".join([record.text + end for record in records])


def parsed(kind: IndexKind, text: bytes) -> list[Record]:
    """The records of such a text.

    :raises ValueError: it is none.
    """
    texts = text.split(_end(kind))
    if texts.pop():
        raise ValueError(f"the text of {kind} has no end")
    match kind:
        case IndexKind.CONTENTS:
            packages = groupby(texts, lambda line: line.rpartition(b" ")[2])
            return [Record(_checked_key(key), b"\n".join(lines)) for key, lines in packages]
        case IndexKind.PACKAGES | IndexKind.SOURCES | IndexKind.TRANSLATION:
            return [Record(key_of(kind, stanza), stanza) for stanza in texts]
        case _:
            assert_never(kind)


def _checked_key(key: bytes) -> bytes:
    if not _CONTENTS_KEY.fullmatch(key):
        raise ValueError(f"not what a line of Contents ends in: {key[:80]!r}")
    return key


_VERSION: Final = re.compile(rb"^Version: (\S+)$", re.MULTILINE)
_ARCHITECTURE: Final = re.compile(rb"^Architecture: (\S+)$", re.MULTILINE)
_DESCRIPTION_MD5: Final = re.compile(rb"^Description-md5: (\S+)$", re.MULTILINE)
_NAMES: Final[dict[IndexKind, Sequence[re.Pattern[bytes]]]] = {
    IndexKind.PACKAGES: (_VERSION, _ARCHITECTURE),
    IndexKind.SOURCES: (_VERSION,),
    IndexKind.TRANSLATION: (_DESCRIPTION_MD5,),
}


def key_of(kind: IndexKind, stanza: bytes) -> bytes:
    """The key of a stanza of Packages, Sources or Translation.

    :raises ValueError: it is none.
    """
    first, _, _ = stanza.partition(b"\n")
    found = [pattern.search(stanza) for pattern in _NAMES[kind]]
    if not first.startswith(b"Package: ") or not all(found):
        raise ValueError(f"not a stanza of {kind}: {stanza[:80]!r}")
    return b" ".join([first[len(b"Package: ") :], *(match[1] for match in found if match)])


def checked(kind: IndexKind, record: Record) -> Record:
    """A record that is what its key says, and whose text cannot be taken for that of two.

    :raises ValueError: it is not.
    """
    if kind is IndexKind.CONTENTS:
        paths = (line.rpartition(b" ")[0] for line in record.text.split(b"\n"))
        good = parsed(kind, rendered(kind, [record])) == [record] and all(path.strip() for path in paths)
    else:
        good = key_of(kind, record.text) == record.key and b"\n\n" not in record.text and record.text[-1:] != b"\n"
    if not good:
        raise ValueError(f"not a record of {kind}: {record.key[:200]!r}")
    return record
