"""Tests of buildd.filecache."""

import errno
import hashlib
import os
import resource
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from buildd.filecache import KEEP_S, FileCache, NoSpace, Stopped, UntrustedFile
from buildd.protocol import Sha1

HELLO = Sha1(hashlib.sha1(b"hello").hexdigest())


class Clock:
    """The time of day."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> FileCache:
    return FileCache(tmp_path / "filecache", limit_bytes=1000, free_floor_bytes=0, now=clock)


def _files(cache: FileCache) -> set[str]:
    return {path.name for path in cache.directory.iterdir()}


def test_added_file_is_there_by_its_sha1(cache: FileCache) -> None:
    """A file is stored under the SHA-1 of its content, and adding it again is harmless."""
    assert cache.add([b"hel", b"lo"]) == cache.add([b"hello"]) == HELLO
    assert HELLO in cache
    assert cache.path(HELLO).read_bytes() == b"hello"
    assert cache.path(HELLO).stat().st_mode & 0o777 == 0o644
    assert _files(cache) == {HELLO}


def test_partial_file_is_never_visible(cache: FileCache) -> None:
    """A partial file is never visible under its SHA-1."""

    def chunks() -> Iterator[bytes]:
        yield b"hello"
        assert HELLO not in cache
        assert all(name.startswith(".") for name in _files(cache))

    cache.add(chunks())


def test_add_that_breaks_off_leaves_nothing(cache: FileCache) -> None:
    """Whatever ends an addition early, nothing of it is left behind."""

    def chunks() -> Iterator[bytes]:
        yield b"hello"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.add(chunks())
    assert not _files(cache)


def test_full_disk_leaves_nothing(cache: FileCache) -> None:
    """A disk that is full as a file is written is told as such, and nothing is left behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # The kernel refuses to write more.
    try:
        with pytest.raises(NoSpace, match="the builder's disk is full"):
            cache.add([b"x" * 80_000] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not _files(cache)


def test_space_is_left_on_the_disk(tmp_path: Path) -> None:
    """No file is taken that would leave less than the space that is to stay free."""
    cache = FileCache(tmp_path / "filecache", limit_bytes=1000, free_floor_bytes=1 << 60)
    with pytest.raises(NoSpace, match="are to stay free"):
        cache.add([b"hello"])
    assert not _files(cache)


def test_start_sweeps_what_was_half_written(tmp_path: Path) -> None:
    """What an earlier daemon left half-written is removed at the start; whole files stay."""
    directory = tmp_path / "filecache"
    FileCache(directory, 1000, 0).add([b"hello"])
    (directory / ".partial-x").write_bytes(b"hel")
    (directory / ".partial-y").mkdir()
    cache = FileCache(directory, 1000, 0)
    assert _files(cache) == {HELLO}


def test_longest_unused_files_go_first(cache: FileCache, clock: Clock) -> None:
    """Beyond the limit, those not used for longest go."""
    sha1s = []
    for letter in b"abc":
        sha1s.append(cache.add([bytes([letter]) * 300]))
        clock.now += 1
    cache.touch(sha1s[0])
    clock.now += KEEP_S + 1
    cache.make_room(300)
    assert _files(cache) == {sha1s[0], sha1s[2]}


def test_pinned_files_stay(cache: FileCache, clock: Clock) -> None:
    """A file that a build uses is neither evicted nor forgotten, until every build is done with it."""
    sha1 = cache.add([b"a" * 900])
    cache.pin([sha1])
    cache.pin([sha1])
    cache.unpin([sha1])
    clock.now += KEEP_S + 1
    cache.make_room(900)
    cache.forget(sha1)
    assert sha1 in cache
    cache.unpin([sha1])
    cache.make_room(900)
    assert sha1 not in cache


def test_files_asked_for_lately_stay(cache: FileCache, clock: Clock) -> None:
    """Files asked for in the last minutes never go: a build that needs them may be about to begin."""
    sha1 = cache.add([b"a" * 900])
    clock.now += KEEP_S - 1
    cache.make_room(900)
    assert sha1 in cache


def test_clock_that_ran_ahead(cache: FileCache, clock: Clock) -> None:
    """A file that was last used in what is the future now counts as used now, and goes in its turn."""
    clock.now += 1e7
    sha1 = cache.add([b"a" * 900])
    clock.now -= 1e7
    cache.make_room(900)
    assert sha1 in cache
    clock.now += KEEP_S + 1
    cache.make_room(900)
    assert sha1 not in cache


def test_half_written_file_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier daemon left half-written may be beyond removal: the cache does without."""
    directory = tmp_path / "filecache"
    (directory / ".partial-x").mkdir(parents=True)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("shutil.rmtree", refuse)
    cache = FileCache(directory, 1000, 0)
    assert cache.add([b"hello"]) == HELLO
    assert _files(cache) == {HELLO, ".partial-x"}


def test_forgotten_file_is_gone(cache: FileCache) -> None:
    """forget() removes a file; one that is not there is fine."""
    sha1 = cache.add([b"hello"])
    assert cache.forget(sha1)
    assert not cache.forget(sha1)
    assert not _files(cache)


def test_result_is_moved_into_the_cache(cache: FileCache, tmp_path: Path) -> None:
    """A result of a build is moved rather than copied."""
    path = tmp_path / "hello.deb"
    path.write_bytes(b"hello")
    inode = path.stat().st_ino
    assert cache.adopt(path) == HELLO
    assert not path.exists()
    assert cache.path(HELLO).stat().st_ino == inode
    assert _files(cache) == {HELLO}


def test_results_end_with_the_daemon(cache: FileCache, tmp_path: Path) -> None:
    """The one that comes after a crash knows of no build that they were of; what was fetched it keeps."""
    path = tmp_path / "hello.deb"
    path.write_bytes(b"hello")
    cache.adopt(path)
    fetched = cache.add([b"fetched"])
    assert _files(FileCache(cache.directory, limit_bytes=1000, free_floor_bytes=0)) == {fetched}


def test_result_from_another_file_system_is_copied(cache: FileCache, tmp_path: Path) -> None:
    """A result on another file system is taken as well."""
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir=elsewhere) as directory:
        path = Path(directory, "hello.deb")
        path.write_bytes(b"hello")
        assert cache.adopt(path) == HELLO
    assert cache.path(HELLO).read_bytes() == b"hello"
    assert _files(cache) == {HELLO}


def _symbolic_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _hard_link(path: Path) -> None:
    other = path.with_name("secret")
    other.write_bytes(b"secret")
    path.hardlink_to(other)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize("make", [_symbolic_link, _hard_link, os.mkfifo, _socket, os.mkdir])
def test_result_that_is_no_plain_file_is_refused(
    make: Callable[[Path], None], cache: FileCache, tmp_path: Path
) -> None:
    """A result that is a link, a fifo, a socket or a directory is not followed, not waited for, and not taken."""
    path = tmp_path / "evil.deb"
    make(path)
    with pytest.raises(UntrustedFile, match=r"'evil.deb' is "):
        cache.adopt(path)
    assert not _files(cache)
    assert os.path.lexists(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_result_of_another_user_is_refused(cache: FileCache, tmp_path: Path) -> None:
    """A result must belong to the daemon's own user."""
    path = tmp_path / "evil.deb"
    path.write_bytes(b"x")
    os.chown(path, 65534, 65534)
    with pytest.raises(UntrustedFile, match="belongs to user 65534"):
        cache.adopt(path)


def test_missing_result_is_an_error(cache: FileCache, tmp_path: Path) -> None:
    """A result that is not there is an OSError."""
    with pytest.raises(FileNotFoundError):
        cache.adopt(tmp_path / "none")


def test_ending_daemon_reads_no_file_to_its_end(cache: FileCache, tmp_path: Path) -> None:
    """After stop(), what reads or writes a file ends at its next piece and leaves nothing."""
    path = tmp_path / "hello.deb"
    path.write_bytes(b"hello")
    cache.stop()
    with pytest.raises(Stopped):
        cache.adopt(path)
    with pytest.raises(Stopped):
        cache.add([b"hello"])
    assert not _files(cache)


def test_each_file_is_looked_at_only_when_the_limit_may_be_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache may have thousands of files, and be given as many: looking at all of them each time takes for ever."""
    cache = FileCache(tmp_path / "filecache", limit_bytes=1 << 40, free_floor_bytes=0)
    look = Mock(wraps=cache._entries)
    monkeypatch.setattr(cache, "_entries", look)
    for number in range(50):
        cache.add([b"%d" % number])
    assert look.call_count == 1
