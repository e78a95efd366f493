"""What is known of a suite as it was published last: which pieces its indices have, and what clients may still ask for.

It is kept beside what was published, and read back before the next publication. What is read may be damaged: then there
is one error, whatever is wrong, and the indices have to be made anew.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

from buildmaster.indices.chunks import Piece
from buildmaster.indices.records import IndexKind, IndexName
from buildmaster.indices.release import Facts, Sum

_LAYOUT: Final = 3  # Of the pieces: in 1 records were sorted, and those of Contents by path.
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ManifestDamaged(ValueError):
    """It is not what was written; the message says what was noticed."""


@dataclass(frozen=True)
class Index:
    """An index as it was published."""

    pieces: tuple[Piece, ...]
    plain: Sum
    files: Mapping[str, Sum]  # By what is behind its name: ".xz", ".gz".


@dataclass(frozen=True)
class Left:
    """Since when a file is not in the suite any more."""

    at: float  # Unix time.
    generation: int  # The first one without it.


@dataclass(frozen=True)
class Manifest:
    """A generation of a suite."""

    generation: int
    published_at: float  # Unix time, as is all.
    modified_at: int  # What InRelease was said to be of: later than its predecessor by a second at least.
    facts: Facts
    fingerprints: tuple[str, ...]  # Of the keys that signed.
    indices: Mapping[IndexName, Index]
    left: Mapping[str, Left]  # Files that can still be fetched, by SHA-256.

    @property
    def valid_until(self) -> float | None:
        return self.published_at + self.facts.valid_s if self.facts.valid_s else None

    def digests(self) -> set[str]:
        """Of all files that are in the suite now."""
        return {each.sha256 for index in self.indices.values() for each in index.files.values()}

    def sums(self) -> dict[str, Sum]:
        """What Release says: of every index as it is, and compressed."""
        found = {}
        for name, index in self.indices.items():
            found[name.path] = index.plain
            found.update((name.path + suffix, each) for suffix, each in index.files.items())
        return found


def written(manifest: Manifest) -> bytes:
    """A manifest as bytes: a line with the SHA-256 of what follows, and that."""
    found = {
        "layout": _LAYOUT,
        "generation": manifest.generation,
        "published_at": manifest.published_at,
        "modified_at": manifest.modified_at,
        "facts": asdict(manifest.facts),
        "fingerprints": manifest.fingerprints,
        "indices": [_index(name, index) for name, index in manifest.indices.items()],
        "left": [[left.at, left.generation, "".join(names)] for left, names in _together(manifest.left).items()],
    }
    content = json.dumps(found, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _together(left: Mapping[str, Left]) -> dict[Left, list[str]]:
    """What has left, by when. (Where much is published, these are thousands.)"""
    found: dict[Left, list[str]] = {}
    for sha256, each in left.items():
        found.setdefault(each, []).append(sha256)
    return found


def _index(name: IndexName, index: Index) -> dict[str, Any]:
    return {
        "name": [name.component, name.kind, name.architecture],
        "plain": [index.plain.size, index.plain.sha256],
        "files": {suffix: [each.size, each.sha256] for suffix, each in index.files.items()},
        "pieces": list(zip(*index.pieces, strict=True)),  # All names, all marks ...: that is read faster.
    }


@lru_cache(maxsize=8)
def read(content: bytes) -> Manifest:
    """The manifest that was written so. (A publication asks several times.)

    :raises ManifestDamaged: none was.
    """
    digest, _, body = content.partition(b"\n")
    if digest != hashlib.sha256(body).hexdigest().encode():
        raise ManifestDamaged("a manifest's SHA-256 is not what it says")
    try:
        return _manifest(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ManifestDamaged(f"a manifest does not say what it should: {exc!r}") from exc


def _manifest(found: Any) -> Manifest:
    facts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found["facts"].items()
    }
    if found["layout"] != _LAYOUT:
        raise ValueError(f"its pieces are of another layout than {_LAYOUT}")
    return Manifest(
        generation=_count(found["generation"]),
        published_at=float(found["published_at"]),
        modified_at=_count(found["modified_at"]),
        facts=Facts(**facts),
        fingerprints=tuple(map(str, found["fingerprints"])),
        indices=dict(map(_read_index, found["indices"])),
        left={name: Left(float(at), _count(number)) for at, number, names in found["left"] for name in _sha256s(names)},
    )


def _read_index(found: Any) -> tuple[IndexName, Index]:
    component, kind, architecture = found["name"]
    pieces = _pieces(found["pieces"])
    files = {str(suffix): _sum(each) for suffix, each in found["files"].items()}
    if not files.keys() <= {".xz", ".gz"}:
        raise ValueError(f"files of other kinds: {sorted(files)}")
    return IndexName(component, IndexKind(kind), architecture), Index(pieces, _sum(found["plain"]), files)


def _pieces(found: Any) -> tuple[Piece, ...]:
    if not found:
        return ()
    names, marks, *counts = found
    if not all(map(_SHA256.fullmatch, names)) or set(map(type, marks)) != {str}:
        raise ValueError("not the names and marks of pieces")
    for column in counts:
        if set(map(type, column)) != {int} or min(column) < 0:
            raise ValueError("not the sizes of pieces")
    return tuple(map(Piece._make, zip(names, marks, *counts, strict=True)))


def _sum(found: Any) -> Sum:
    size, sha256 = found
    return Sum(_count(size), _sha256(sha256))


def _sha256(value: Any) -> str:
    """A SHA-256; files are named by them."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"not a SHA-256: {value!r}")
    return value


def _sha256s(value: Any) -> list[str]:
    """Those that follow one another."""
    return [_sha256(value[at : at + 64]) for at in range(0, len(value), 64)]


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"not a count: {value!r}")
    return value
