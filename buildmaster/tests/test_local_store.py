"""The store as a folder: what is its own. What holds for every store is in test_store.py."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildmaster.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files_in(store: LocalStore) -> list[Path]:
    return [path for path in store._directory.rglob("*") if path.is_file()]


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


def test_sweep(store: LocalStore) -> None:
    """What a writer that died has left is removed; what a living one writes is not."""
    dead = store._new / "dead.part"
    dead.parent.mkdir(parents=True)
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


def test_what_is_no_file_of_the_store(store: LocalStore) -> None:
    """What else lies in the folder is not listed: files that are being written, and an operator's own."""
    writer = store.writer()
    writer.write(b"x")
    (store._directory / "README").write_text("Do not touch.\n")
    (store._directory / "ab").mkdir()
    (store._directory / "ab" / "notes").write_text("x")
    (store._directory / "ab" / ("c" * 62)).mkdir()
    assert list(store.files()) == list(store.files("ab")) == []
    writer.discard()
