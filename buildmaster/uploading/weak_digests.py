"""The weaker digests that a .changes and a .dsc have beside SHA-256: MD5 and SHA-1. Nothing rests on them here; but
dpkg-source unpacks no source package in which one of them is wrong.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
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


def wrong(name: str, stream: IO[bytes], said_by: Iterable[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    """Which of the digests of a file is not what control files say of it, in words. Blocks.

    :param said_by: names of control files, and their fields.
    """
    said = [
        (by, kind, each.digest)
        for by, fields in said_by
        for field, kind in FIELDS.items()
        for each in listed(fields, field)
        if each.name == name
    ]
    if not said:
        return
    digests = {"MD5": hashlib.md5(usedforsecurity=False), "SHA-1": hashlib.sha1(usedforsecurity=False)}
    while piece := stream.read(_PIECE):
        for each in digests.values():
            each.update(piece)
    for by, kind, digest in said:
        if digests[kind].hexdigest() != digest:
            yield f"{name} does not have the {kind} that {by} says: build the source package again"
