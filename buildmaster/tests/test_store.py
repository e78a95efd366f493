"""What holds for every store: a folder, SeaweedFS, and rclone's S3 server."""

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildd.protocol import Sha1
from buildmaster.store import NotStored, Sha256, Store, StoredFile, parse_sha256
from buildmaster.tests.stores import KINDS, make_store

BYTES = bytes(range(256)) * 4096  # 1 MiB.


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return make_store(request.param, tmp_path)


def named(content: bytes) -> Sha256:
    return Sha256(hashlib.sha256(content).hexdigest())


def test_a_file_comes_back(store: Store) -> None:
    """What was stored is read back, and its digests, its size and the time are told."""
    before = time.time()
    stored = store.add([b"Hello ", b"World"])
    assert stored == StoredFile(named(b"Hello World"), Sha1(hashlib.sha1(b"Hello World").hexdigest()), 11)
    assert before <= stored.stored_at <= time.time()
    assert store.has(stored.sha256)
    with store.open(stored.sha256) as stream:
        assert stream.read() == b"Hello World"


def test_an_empty_file(store: Store) -> None:
    """A file without content is a file."""
    stored = store.add([])
    assert stored.size == 0 and store.has(stored.sha256)
    with store.open(stored.sha256) as stream:
        assert stream.seek(0, io.SEEK_END) == 0 and stream.read() == b""


def test_a_stream_is_read_from_anywhere(store: Store) -> None:
    """A file is read from its beginning, again, from its middle and at its end, whatever was read before."""
    stored = store.add([BYTES, BYTES])
    with store.open(stored.sha256) as stream:
        assert stream.seek(0, io.SEEK_END) == 2 * len(BYTES) and stream.read(1) == b""
        assert stream.seek(0) == 0 and stream.read(300_000) == BYTES[:300_000]
        assert stream.seek(1_000_001) == 1_000_001
        assert stream.read() == (BYTES + BYTES)[1_000_001:]
        assert stream.seek(-3, io.SEEK_END) and stream.read(10) == BYTES[-3:]
        assert stream.seek(5) == 5 and stream.read(2) == BYTES[5:7] and stream.tell() == 7
        assert stream.seek(1, io.SEEK_CUR) == 8 and stream.read(1) == BYTES[8:9]


def test_the_same_file_twice(store: Store) -> None:
    """A file that is here already is left as it is."""
    stored = store.add([b"x"])
    (listed,) = store.files()
    time.sleep(1.1)  # Servers tell times by the second.
    assert store.add([b"x"]) == stored
    assert list(store.files()) == [listed]


def test_writers_of_one_file_at_once(store: Store) -> None:
    """Several that store the same file at once all succeed, and it is whole whenever it is seen."""
    ends: list[StoredFile] = []
    seen: list[bytes] = []

    def write() -> None:
        ends.append(store.add([BYTES] * 3))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if store.has(named(BYTES * 3)):
            with store.open(named(BYTES * 3)) as stream:
                seen.append(stream.read())
    assert len(ends) == 6 and len({end.sha256 for end in ends}) == 1
    with store.open(ends[0].sha256) as stream:
        seen.append(stream.read())
    assert all(content == BYTES * 3 for content in seen)
    assert [each.size for each in store.files()] == [3 * len(BYTES)]


def test_a_source_that_breaks_off_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """When the content cannot be had, nothing is stored and nothing is left behind."""

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        store.add(broken())
    assert list(store.files()) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nothing_is_seen_before_commit(store: Store) -> None:
    """A file that is being written is not in the store; nor is it once it was given up."""
    writer = store.writer()
    writer.write(b"x")
    assert not store.has(writer.sha256) and list(store.files()) == []
    assert (writer.size, writer.sha1) == (1, hashlib.sha1(b"x").hexdigest())
    writer.discard()
    writer.discard()
    assert not store.has(writer.sha256) and list(store.files()) == []


def test_absent(store: Store) -> None:
    """A file that is not here is told by its name; deleting it is harmless."""
    with pytest.raises(NotStored) as told:
        store.open(Sha256("0" * 64))
    assert told.value.sha256 == "0" * 64
    assert not store.has(Sha256("0" * 64))
    store.delete(Sha256("0" * 64))


@pytest.mark.parametrize("bad", ["", "../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "/" * 64])
def test_no_path_by_a_bad_name(store: Store, bad: str) -> None:
    """What is no SHA-256 never becomes a path or a key."""
    with pytest.raises(ValueError, match="SHA-256"):
        parse_sha256(bad)
    for use in (store.open, store.has, store.delete):
        with pytest.raises(ValueError, match="SHA-256"):
            use(Sha256(bad))


def test_files(store: Store) -> None:
    """Every file is listed once, with its size and when it came; or those whose name begins so."""
    begun = time.time()
    contents = [b"%d" % number for number in range(40)]
    for content in contents:
        store.add([content])
    listed = {each.sha256: each for each in store.files()}
    assert {sha256: each.size for sha256, each in listed.items()} == {named(each): len(each) for each in contents}
    assert all(begun - 2 < each.changed_at < time.time() + 2 for each in listed.values())
    for length in (1, 2, 3, 64):
        prefix = named(b"7")[:length]
        assert {each.sha256 for each in store.files(prefix)} == {each for each in listed if each.startswith(prefix)}


def test_delete(store: Store) -> None:
    """A file that was deleted is gone, can be stored again, and no other is."""
    kept, gone = store.add([b"kept"]), store.add([b"gone"])
    store.delete(gone.sha256)
    assert not store.has(gone.sha256) and [each.sha256 for each in store.files()] == [kept.sha256]
    with pytest.raises(NotStored):
        store.open(gone.sha256)
    assert store.add([b"gone"]) == gone and store.has(gone.sha256)


def test_a_living_writer_is_not_swept(store: Store) -> None:
    """What a living writer writes is left alone by sweep()."""
    writer = store.writer()
    writer.write(b"y")
    assert store.sweep() == 0
    assert store.has(writer.commit().sha256)
