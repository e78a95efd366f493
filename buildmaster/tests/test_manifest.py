"""What was published, written down: read back as it was, or not at all."""

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildmaster.indices.chunks import Piece
from buildmaster.indices.manifest import Index, Left, Manifest, ManifestDamaged, read, written
from buildmaster.indices.records import IndexKind, IndexName
from buildmaster.indices.release import Sum
from buildmaster.tests.archive_case import FACTS, PACKAGES

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
MANIFEST = Manifest(
    generation=7,
    published_at=1_790_000_000.25,
    modified_at=1_790_000_001,
    facts=FACTS,
    fingerprints=("AB" * 20,),
    indices={
        PACKAGES: Index(
            (Piece(A, "", 5, 100, 40, 38, 44), Piece(B, "abcdEF+/", 6, 100, 40, 38, 44)),
            Sum(200, C),
            {".xz": Sum(120, A), ".gz": Sum(88, B)},
        ),
        IndexName("main/debug", IndexKind.SOURCES): Index((), Sum(0, C), {".gz": Sum(20, C)}),
    },
    left={C: Left(1_789_999_999.5, 6)},
)


def signed(body: bytes) -> bytes:
    """A body that somebody means."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def body() -> Any:
    return json.loads(written(MANIFEST).partition(b"\n")[2])


def test_read_back() -> None:
    """What was written is read back."""
    assert read(written(MANIFEST)) == MANIFEST
    assert MANIFEST.sums()["main/binary-amd64/Packages.xz"] == Sum(120, A)
    assert MANIFEST.digests() == {A, B, C}


def test_any_bit() -> None:
    """A bit that changed anywhere, or an end that is missing, is noticed."""
    good = written(MANIFEST)
    for at in range(len(good)):
        with pytest.raises(ManifestDamaged):
            read(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(ManifestDamaged):
            read(good[:at])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is, in what JSON has."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


WRONG: list[Any] = [None, -1, 1.5, "", "x", "../../etc/passwd", [], {}, [[]], True, "\u20ac", 1e400, "a" * 63 + "/"]


@pytest.mark.parametrize("path", list(places(body())), ids=str)
def test_any_other_value(path: tuple[Any, ...]) -> None:
    """Whatever stands anywhere instead, there is a manifest or the one error; and no name in it leads elsewhere."""
    for wrong in WRONG:
        changed = copy.deepcopy(body())
        where = changed
        for key in path[:-1]:
            where = where[key]
        if path:
            where[path[-1]] = wrong
        else:
            changed = wrong
        try:
            manifest = read(signed(json.dumps(changed).encode()))
        except ManifestDamaged:
            continue
        names = {piece.name for index in manifest.indices.values() for piece in index.pieces}
        assert all("/" not in name and name for name in names | set(manifest.left) | manifest.digests())
        assert all(".." not in name.path for name in manifest.indices)


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """Bytes that are no manifest are none."""
    for each in (content, signed(content)):
        with pytest.raises(ManifestDamaged):
            read(each)


def test_another_layout() -> None:
    """What was written before pieces were what they are now is not taken for it, though it looks alike."""
    for change in ({"layout": 1}, {"layout": None}):
        with pytest.raises(ManifestDamaged, match="layout"):
            read(signed(json.dumps({**body(), **change}).encode()))
    without = body()
    del without["layout"]
    with pytest.raises(ManifestDamaged, match="layout"):
        read(signed(json.dumps(without).encode()))


def test_deep_nesting() -> None:
    """What is nested so deep that nobody can read it is refused like the rest."""
    with pytest.raises(ManifestDamaged):
        read(signed(b"[" * 100_000))
