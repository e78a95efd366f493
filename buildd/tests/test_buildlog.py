"""The log of a build takes anything, and keeps what it should."""

import os
from pathlib import Path

import pytest

from buildd.buildlog import BuildLog


def test_binary_bytes_and_long_lines_are_kept(tmp_path: Path) -> None:
    """What goes in comes out, to the byte."""
    log = BuildLog(tmp_path / "log", 1 << 30)
    content = bytes(range(256)) * 4 + b"x" * (1 << 20) + b"\n"
    log.write(content)
    assert log.tail(10) == content[-10:]
    log.close()
    assert log.path.read_bytes() == content


def test_the_limit_holds_to_the_byte(tmp_path: Path) -> None:
    """Nothing is kept beyond the limit, and the log says that it is full."""
    log = BuildLog(tmp_path / "log", 10)
    log.write(b"1234567")
    assert not log.full
    log.write(b"8901234")
    assert log.full
    log.write(b"more")
    log.close()
    assert log.path.read_bytes() == b"1234567890"


@pytest.mark.parametrize("cut", range(1, 60))
def test_passwords_are_taken_out_however_the_pieces_fall(tmp_path: Path, cut: int) -> None:
    """user:password in a URL is not in the file, even when a piece ends in the middle of it."""
    line = b"Get:1 https://joe:s3cret@example.org/debian x InRelease\nend"
    log = BuildLog(tmp_path / "log", 1000)
    log.scrub = True
    log.write(line[:cut])
    log.write(line[cut:])
    assert b"s3cret" not in log.tail()
    log.close()
    assert log.path.read_bytes() == b"Get:1 https://example.org/debian x InRelease\nend"


def test_a_new_log_leaves_readers_of_the_last_one_alone(tmp_path: Path) -> None:
    """Whoever reads the last build's log reads it to its end."""
    first = BuildLog(tmp_path / "log", 1000)
    first.write(b"first")
    with first.path.open("rb") as reader:
        first.close()
        BuildLog(tmp_path / "log", 1000).close()
        assert reader.read() == b"first"
    assert first.path.read_bytes() == b""


def test_a_full_disk_is_remembered(tmp_path: Path) -> None:
    """Writing never raises; what went wrong is in `error`."""
    log = BuildLog(tmp_path / "log", 1000)
    log._fd = os.open("/dev/full", os.O_WRONLY)
    log.write(b"x")
    assert log.error is not None
    log.write(b"y")
