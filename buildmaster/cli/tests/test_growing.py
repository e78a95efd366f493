"""A build's log that is read while it grows and is put away."""

from collections.abc import Callable, Iterator
from pathlib import Path

from buildmaster.cli.growing import GrowingLog, tail


def opener(*chunks: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(chunks)


def test_reads_what_is_appended(tmp_path: Path) -> None:
    """Each read gives what came since the last; before there is a file, nothing."""
    path = tmp_path / "1.log"
    log = GrowingLog(path)
    assert log.read() == b""
    path.write_bytes(b"one\n")
    assert log.read() == b"one\n"
    assert log.read() == b""
    with path.open("ab") as file:
        file.write(b"two\n")
    assert log.read() == b"two\n"
    assert not log.began_again()
    log.close()


def test_put_away_between_two_reads(tmp_path: Path) -> None:
    """When the log goes to the store while it is followed, nothing is missed and nothing comes twice."""
    path = tmp_path / "1.log"
    path.write_bytes(b"one\ntwo\n")
    log = GrowingLog(path)
    assert log.read() == b"one\ntwo\n"
    path.unlink()
    assert not log.began_again()
    assert b"".join(log.rest_of(opener(b"one\n", b"two\nthr", b"ee\n"))) == b"three\n"
    log.close()


def test_removed_with_bytes_unread(tmp_path: Path) -> None:
    """What the open file still holds after its name has gone can be read."""
    path = tmp_path / "1.log"
    path.write_bytes(b"one\n")
    log = GrowingLog(path)
    log.read()
    with path.open("ab") as file:
        file.write(b"two\n")
    path.unlink()
    assert log.read() == b"two\n"
    log.close()


def test_stored_log_of_another_attempt(tmp_path: Path) -> None:
    """A stored log that does not begin with what was read is given whole."""
    path = tmp_path / "1.log"
    path.write_bytes(b"one\n")
    log = GrowingLog(path)
    log.read()
    assert b"".join(log.rest_of(opener(b"ONE\n", b"TWO\n"))) == b"ONE\nTWO\n"
    assert b"".join(log.rest_of(opener(b"o"))) == b"o"
    log.close()


def test_another_attempt(tmp_path: Path) -> None:
    """A new file, or one cut short, is another attempt, read from its beginning."""
    path = tmp_path / "1.log"
    path.write_bytes(b"first attempt\n")
    log = GrowingLog(path)
    log.read()
    (tmp_path / "new").write_bytes(b"second attempt, longer\n")
    (tmp_path / "new").replace(path)
    assert log.began_again()
    assert log.read() == b"second attempt, longer\n"
    path.write_bytes(b"third\n")
    assert log.began_again()
    assert log.read() == b"third\n"
    assert not log.began_again()
    log.close()


def test_tail(tmp_path: Path) -> None:
    """The tail is the end of the file, or nothing while there is none."""
    assert tail(tmp_path / "1.log", 10) == b""
    (tmp_path / "1.log").write_bytes(b"0123456789")
    assert tail(tmp_path / "1.log", 4) == b"6789"
    assert tail(tmp_path / "1.log", 40) == b"0123456789"
