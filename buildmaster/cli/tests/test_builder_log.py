"""The log of a build that runs, from its builder: for who is on another machine than the master."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xmlrpc.client import dumps

import pytest
from sqlalchemy import update

from buildmaster import builds
from buildmaster.cli.builder_log import BuilderLog, more_of
from buildmaster.cli.growing import Attempt
from buildmaster.cli.log import read_log
from buildmaster.cli.tests.conftest import Cli, Meanwhile, end, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.tables import builder


class Daemon:
    """A builder that has build 1."""

    def __init__(self) -> None:
        self.build_id = "PACKAGEBUILD-1"
        self.log = b""
        self.ranges = True
        self.afterwards: Callable[[], object] = lambda: None  # Called when a part of the log is about to be sent.
        self.status = "BuilderStatus.BUILDING"
        self.more: dict[str, object] = {}  # That status() tells.
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                told = {"builder_status": daemon.status, "build_id": daemon.build_id, **daemon.more}
                self.answer(200, dumps((told,), methodresponse=True).encode())

            def do_GET(self) -> None:
                assert self.path == "/filecache/buildlog"
                offset = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if daemon.ranges else 0
                data = daemon.log[offset:]
                daemon.afterwards()  # Before the answer: who has it may ask for the status at once.
                self.answer(206 if data and daemon.ranges else 200 if data else 416, data)

            def answer(self, code: int, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        self.attempt = Attempt(self.url, builds.cookie(1), 1.0)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    running = Daemon()
    yield running
    running.stop()


@pytest.fixture
def shared(ready: Cli, farm: Farm, dsc: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Farm:
    """A farm of several masters, on which the daemon builds build 1; none of the masters is on this machine."""
    monkeypatch.setattr(Farm, "is_shared", True)
    monkeypatch.setattr("buildmaster.cli.builder_log._PAUSE_S", 0.0)
    monkeypatch.setattr("buildmaster.cli.builder_log._TROUBLE_S", 0.0)
    ready("submit", dsc)
    start(farm, 1)
    with farm.transaction() as connection:
        connection.execute(update(builder).values(url=daemon.url))
    return farm


@pytest.mark.parametrize("ranges", [True, False])
def test_followed_to_its_end(shared: Farm, daemon: Daemon, ranges: bool) -> None:
    """What its builder has is shown as it grows, and the end from the store: nothing is missed, nothing comes twice."""
    daemon.ranges = ranges

    def more() -> None:
        daemon.log += b"two\n"

    daemon.log = b"one\n"
    meanwhile = Meanwhile(more, lambda: end(shared, 1, Event.PACKAGE_FAILED, log=b"one\ntwo\nthree\n"))
    assert list(read_log(shared, 1, follow=True, sleep=meanwhile)) == [b"one\n", b"two\n", b"three\n"]


def test_no_follow(ready: Cli, shared: Farm, daemon: Daemon) -> None:
    """What there is now is all, however long it is."""
    daemon.log = bytes(range(256)) * 10_000
    assert b"".join(read_log(shared, 1, follow=False)) == daemon.log
    daemon.log = b"so far\n"
    assert ready("log", 1, "--no-follow").out == "so far\n"


def test_another_attempt(shared: Farm, daemon: Daemon) -> None:
    """When it begins again that is said, and the new log shown from its beginning."""
    daemon.log = b"the first\n"

    def again() -> None:
        daemon.log = b"2nd\n"
        with shared.transaction() as connection:
            builds.record(connection, 1, Event.REQUEUED, 1.0)
        start(shared, 1)

    meanwhile = Meanwhile(again, lambda: end(shared, 1, Event.PACKAGE_FAILED, log=b"2nd\n"))
    notes: list[str] = []
    assert list(read_log(shared, 1, True, notes.append, meanwhile)) == [b"the first\n", b"2nd\n"]
    assert notes == ["-- build 1 began again --"]


def test_what_is_another_build_s(daemon: Daemon) -> None:
    """The log of a build that the builder had before, or begins meanwhile, is not taken for this one's."""
    daemon.log, daemon.build_id = b"of another\n", "PACKAGEBUILD-2"
    assert more_of(daemon.attempt, 0) == b""
    daemon.build_id = "PACKAGEBUILD-1"
    assert more_of(daemon.attempt, 3) == b"another\n"
    daemon.afterwards = lambda: setattr(daemon, "build_id", "PACKAGEBUILD-2")
    assert more_of(daemon.attempt, 0) == b""


def test_many_results(daemon: Daemon) -> None:
    """A build that has ended with thousands of results is known by its builder as well."""
    daemon.log = b"all of it\n"
    files = {f"a-package-with-a-long-name-{number}_1.0-1_amd64.deb": "0" * 40 for number in range(5_000)}
    daemon.more = {"build_status": "BuildStatus.OK", "filemap": files}
    daemon.status = "BuilderStatus.WAITING"
    assert more_of(daemon.attempt, 0) == b"all of it\n"


def test_a_builder_that_cannot_be_asked(shared: Farm, daemon: Daemon) -> None:
    """That is said once; the copy on this machine is shown, where there is one, and the whole log at the end."""
    daemon.stop()
    notes: list[str] = []
    end_it = Meanwhile(
        lambda: shared.log_path(1).write_bytes(b"one\n"),
        lambda: end(shared, 1, Event.PACKAGE_FAILED, log=b"one\ntwo\n"),
    )
    assert list(read_log(shared, 1, True, notes.append, end_it)) == [b"one\n", b"two\n"]
    assert len(notes) == 1 and "cannot be fetched from the builder" in notes[0] and "refused" in notes[0]


@pytest.mark.parametrize("status", ["BuilderStatus.DREAMING", "x" * 300])
def test_a_builder_that_talks_nonsense(daemon: Daemon, status: str, tmp_path: Path) -> None:
    """What is no answer is trouble, and no crash."""
    daemon.status = status
    log = BuilderLog(tmp_path / "1.log")
    log.look_at(daemon.attempt)
    assert log.read() == b"" and "status()" in log.trouble


def test_it_is_not_asked_without_a_pause(daemon: Daemon, tmp_path: Path) -> None:
    """A builder with nothing new is asked once a second, and one that does not answer every five."""
    now = 100.0
    clock: Any = lambda: now  # noqa: E731
    log = BuilderLog(tmp_path / "1.log", clock)
    log.look_at(daemon.attempt)
    assert log.read() == b""
    daemon.log = b"x"
    assert log.read() == b""
    now += 1.0
    assert log.read() == b"x"
