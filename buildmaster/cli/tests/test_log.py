"""A build's log, shown while it grows, after it was put away, and in between."""

from pathlib import Path

import pytest

from buildmaster.cli import log as log_module
from buildmaster.cli.log import read_log
from buildmaster.cli.output import Output
from buildmaster.cli.tests.conftest import Cli, Meanwhile, end, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.tests.stores import spoil


@pytest.fixture
def running(ready: Cli, farm: Farm, dsc: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    """The farm while build 1 runs; its only master is on this machine."""
    monkeypatch.setattr(Farm, "is_shared", False)
    ready("submit", dsc)
    start(farm, 1)
    return farm


def append(farm: Farm, data: bytes) -> None:
    with farm.log_path(1).open("ab") as file:
        file.write(data)


def test_followed_to_its_end(running: Farm) -> None:
    """The log is given as it grows, and its end comes from the store; nothing is missed, nothing comes twice."""
    append(running, b"one\n")
    meanwhile = Meanwhile(
        lambda: append(running, b"two\n"),
        lambda: end(running, 1, Event.PACKAGE_FAILED, log=b"one\ntwo\nthree\n"),
    )
    chunks = list(read_log(running, 1, follow=True, sleep=meanwhile))
    assert chunks == [b"one\n", b"two\n", b"three\n"]


def test_followed_into_another_attempt(running: Farm) -> None:
    """When a build begins again while it is followed, that is said, and the new log shown."""
    append(running, b"first\n")

    def again() -> None:
        running.log_path(1).unlink()
        append(running, b"2nd\n")

    meanwhile = Meanwhile(again, lambda: end(running, 1, Event.PACKAGE_FAILED, log=b"2nd\n"))
    notes: list[str] = []
    chunks = list(read_log(running, 1, True, notes.append, meanwhile))
    assert chunks == [b"first\n", b"2nd\n"]
    assert notes == ["-- build 1 began again --"]


def test_no_follow(ready: Cli, running: Farm) -> None:
    """With --no-follow, and with --json, what there is now is all."""
    append(running, b"so far\n\xff\x1b[0m")
    document = ready("log", 1, "--json").json
    assert (document["text"], document["ended"]) == ("so far\n\ufffd\x1b[0m", False)
    assert "so far" in ready("log", 1, "--no-follow").out


def test_bytes_into_a_pipe(ready: Cli, running: Farm, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Into a pipe the log goes as it is, byte for byte."""
    raw = bytes(range(256)) * 1000
    end(running, 1, Event.PACKAGE_FAILED, log=raw, reason="it broke")
    write = log_module._pipe_writer()
    for chunk in read_log(running, 1, follow=True):
        write(chunk, False)
    assert capfdbinary.readouterr().out == raw
    assert "-- build 1: failed: it broke" in ready("log", 1).err


def test_on_a_terminal(ready: Cli, running: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal no byte of the log can drive it."""
    monkeypatch.setattr(Output, "on_terminal", True)
    end(running, 1, Event.PACKAGE_FAILED, log=b"\x1b]0;title\x07ok\n\x9b2J" + bytes(range(256)))
    out = ready("log", 1).out
    assert out.startswith("^[]0;title^Gok\n")
    assert all(c.isprintable() or c in "\n\t" for c in out)


def test_no_log(ready: Cli, farm: Farm, dsc: Path) -> None:
    """A build that has not started has no log, and says so."""
    ready("submit", dsc)
    assert "build 1 has no log: it has not started" in ready("log", 1, "--no-follow", status=1).err
    assert "there is no build 7" in ready("log", 7, status=1).err


def test_damaged_log(ready: Cli, running: Farm) -> None:
    """A stored log that cannot be unpacked is named, not shown in half without a word."""
    end(running, 1, Event.PACKAGE_FAILED, log=b"x" * 100_000)
    sha256 = ready("show", 1, "--json").json["log"]["sha256"]
    with running.store.open(sha256) as stream:
        beginning = stream.read(60)
    spoil(running.store, sha256, beginning)
    assert f"the stored log {sha256} is damaged" in ready("log", 1, status=1).err


def test_a_build_that_waits(ready: Cli, dsc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows a build that has not begun is told what keeps it."""
    ready("submit", dsc)
    monkeypatch.setattr(log_module, "read_log", lambda *_, **__: iter(()))
    assert ready("log", 1, status=1).err.startswith("-- build 1 waits: no builder for amd64; `buildmaster why 1`")
