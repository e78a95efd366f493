"""The store as a folder."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildd.protocol import Sha1
from buildmaster.store import NotStored, Sha256, StoredFile, parse_sha256
from buildmaster.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files_in(store: LocalStore) -> list[Path]:
    return [path for path in store._directory.rglob("*") if path.is_file()]


def test_a_file_comes_back(store: LocalStore) -> None:
    """What was stored is read back, and its digests and size are told."""
    stored = store.add([b"Hello ", b"World"])
    assert stored == StoredFile(
        Sha256(hashlib.sha256(b"Hello World").hexdigest()), Sha1(hashlib.sha1(b"Hello World").hexdigest()), 11
    )
    assert store.has(stored.sha256)
    with store.open(stored.sha256) as stream:
        assert stream.read() == b"Hello World"


def test_the_same_file_twice(store: LocalStore) -> None:
    """A file that is here already is left as it is."""
    first = store.add([b"x"])
    inode = store.path(first.sha256).stat().st_ino
    assert store.add([b"x"]) == first
    assert store.path(first.sha256).stat().st_ino == inode and len(files_in(store)) == 1


def test_a_source_that_breaks_off_leaves_nothing(store: LocalStore) -> None:
    """When the content cannot be had, nothing is stored and nothing is left behind."""

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        store.add(broken())
    assert files_in(store) == []


def test_a_full_disk_leaves_nothing(store: LocalStore) -> None:
    """When the disk is full, nothing is stored and nothing is left behind."""
    writer = store.writer()
    os.dup2(os.open("/dev/full", os.O_WRONLY), writer._stream.fileno())
    with pytest.raises(OSError, match="No space"):
        writer.write(b"x" * 100)
        writer.commit()
    writer.discard()
    assert files_in(store) == []


def test_nothing_is_seen_before_commit(store: LocalStore) -> None:
    """A file that is being written is not in the store."""
    writer = store.writer()
    writer.write(b"x")
    assert not store.has(writer.sha256)
    writer.discard()
    writer.discard()
    assert files_in(store) == []


def test_absent(store: LocalStore) -> None:
    """A file that is not here is told by its name."""
    with pytest.raises(NotStored) as told:
        store.open(Sha256("0" * 64))
    assert told.value.sha256 == "0" * 64
    assert not store.has(Sha256("0" * 64))


@pytest.mark.parametrize("bad", ["", "../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "/" * 64])
def test_no_path_by_a_bad_name(store: LocalStore, bad: str) -> None:
    """What is no SHA-256 never becomes a path."""
    with pytest.raises(ValueError, match="SHA-256"):
        parse_sha256(bad)
    with pytest.raises(ValueError, match="SHA-256"):
        store.open(Sha256(bad))


def test_sweep(store: LocalStore) -> None:
    """What a writer that died has left is removed; what a living one writes is not."""
    dead = store._new / "dead.part"
    dead.write_bytes(b"x")
    writer = store.writer()
    writer.write(b"y")
    assert store.sweep() == 1 and not dead.exists()
    assert store.has(writer.commit().sha256)


def test_sweep_comes_between(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is swept in the moment before its writer has locked it is begun anew."""
    real = fcntl.flock
    swept: list[int] = []

    def sweep_first(stream: Any, how: int) -> None:
        if how == fcntl.LOCK_EX and not swept:
            swept.append(LocalStore(store._directory).sweep())
        real(stream, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    assert store.has(store.add([b"x"]).sha256)
    assert swept == [1]
