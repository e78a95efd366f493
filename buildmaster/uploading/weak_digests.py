"""The weaker digests that a .changes and a .dsc have beside SHA-256: MD5 and SHA-1. Nothing rests on them here; but
dpkg-source unpacks no source package in which one of them is wrong.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

FIELDS = {"Files": "MD5", "Checksums-Sha1": "SHA-1"}
_PIECE = 1 << 20


@dataclass(frozen=True)
class Listed:
    """A line of such a field."""

    digest: str
    size: str
    name: str


def listed(fields: Mapping[str, str], field: str) -> list[Listed]:
    """What one of the fields has, as far as it can be read.

    :param fields: by lower-case name.
    """
    rows = (line.split() for line in fields.get(field.lower(), "").splitlines())
    return [Listed(words[0], words[1], words[-1]) for words in rows if len(words) >= 3]


@dataclass(frozen=True)
class Said:
    """What a control file says of a file."""

    by: str
    kind: str  # Of FIELDS.
    digest: str


def said_by(controls: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, list[Said]]:
    """What control files say of other files, by the names of these.

    :param controls: their names and fields.
    """
    found: dict[str, list[Said]] = defaultdict(list)
    for by, fields in controls:
        for field, kind in FIELDS.items():
            for each in listed(fields, field):
                found[each.name].append(Said(by, kind, each.digest))
    return found


def wrong(name: str, stream: IO[bytes], said: Sequence[Said]) -> Iterator[str]:
    """Which of the digests of a file is not what is said of it, in words. Blocks."""
    if not said:
        return
    digests = {"MD5": hashlib.md5(usedforsecurity=False), "SHA-1": hashlib.sha1(usedforsecurity=False)}
    while piece := stream.read(_PIECE):
        for digest in digests.values():
            digest.update(piece)
    for each in said:
        if digests[each.kind].hexdigest() != each.digest:
            yield f"{name} does not have the {each.kind} that {each.by} says: build the source package again"
