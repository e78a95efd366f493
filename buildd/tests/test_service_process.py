"""The whole daemon, as a process of its own: how it starts, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildd import commands, service
from buildd.tests.running import CHECKOUT, FileServer, RunningDaemon, begin_build, hang


def _command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-W", "ignore", "-m", "buildd.tests.fakes", *arguments]
    return subprocess.run(
        argv, env=os.environ | environment, capture_output=True, text=True, timeout=20, cwd=CHECKOUT, check=False
    )


def test_second_daemon_on_a_directory(daemon: RunningDaemon) -> None:
    """One daemon a directory: the second says so."""
    ended = _command("--dir", str(daemon.directory), "--port", "0", "--allow-root")
    assert ended.returncode == 1
    directory, pid = daemon.directory, daemon.process.pid
    assert ended.stderr == f"debfarm-buildd: {directory} is in use by another daemon, process {pid}\n"
    assert daemon.rpc.echo() == []


def test_port_that_is_taken(tmp_path: Path) -> None:
    """A port that is taken is one clear line, and exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = _command("--dir", str(tmp_path / "d"), "--port", port, "--allow-root", "-q")
    assert ended.returncode == 1
    assert ended.stderr == f"debfarm-buildd: it cannot listen on 127.0.0.1, port {port}: Address already in use\n"


def test_mistakes_in_the_configuration(tmp_path: Path) -> None:
    """All mistakes are told, and the exit status is 2."""
    path = tmp_path / "buildd.conf"
    path.write_text("[builder]\nport = abc\ncolour = red\n")
    ended = _command("--config", str(path), "-t", "soon", DEBFARM_BUILDD_SILENCE="never")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "debfarm-buildd: buildd.conf: [builder] colour: no such key",
        "debfarm-buildd: buildd.conf: [builder] port: 'abc' is not a port",
        "debfarm-buildd: --timeout: 'soon' is not a duration; write one like 3h, 90m, 45s or 1h30m",
        "debfarm-buildd: environment: DEBFARM_BUILDD_SILENCE: 'never' is not a duration; "
        "write one like 3h, 90m, 45s or 1h30m",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_refuses_root(tmp_path: Path) -> None:
    """Refuses to run as root unless told, and says what to do."""
    ended = _command("--dir", str(tmp_path / "d"))
    assert ended.returncode == 1
    assert "does not run as root" in ended.stderr
    assert "--allow-root" in ended.stderr
    assert not (tmp_path / "d").exists()


def test_refuses_a_wrong_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Refuses to run with a clock that is plainly wrong."""

    class Past(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Past":
            return cls(1999, 12, 31, tzinfo=UTC)

    monkeypatch.setattr(service, "datetime", Past)
    assert commands.main(["--dir", str(tmp_path / "d"), "--allow-root"]) == 1
    assert "the clock is wrong, it says 1999-12-31" in capsys.readouterr().err


def test_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """A directory that cannot be made is one clear line."""
    (tmp_path / "file").touch()
    ended = _command("--dir", str(tmp_path / "file" / "d"), "--allow-root")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "cannot be used: Not a directory" in ended.stderr


def test_cache_that_cannot_be_used(tmp_path: Path) -> None:
    """Neither can a directory with something else in place of the cache."""
    (tmp_path / "filecache").touch()
    ended = _command("--dir", str(tmp_path), "--allow-root")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert f"{tmp_path} cannot be used: " in ended.stderr


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o750), (0o2777, 0o2750), (0o700, 0o700), (0o1777, 0o1777)])
def test_directory_is_closed_to_others(before: int, after: int, tmp_path: Path) -> None:
    """Chroots may hold passwords, so nobody else is let into the directory, unless it is a public one such as /tmp."""
    directory = tmp_path / "daemon"
    directory.mkdir()
    directory.chmod(before)
    with RunningDaemon(directory):
        assert directory.stat().st_mode & 0o7777 == after


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("IsolationFailure('no namespaces: allow them')", "debfarm-buildd: no namespaces: allow them\n"),
        ("OSError(5, 'Input/output error')", "this builder cannot build: [Errno 5] Input/output error\n"),
    ],
)
def test_nothing_can_be_built_here(raised: str, said: str, tmp_path: Path) -> None:
    """When a build type finds at the start that no build can run, the daemon says why, and ends with status 1."""
    program = f"""
import sys
from buildd import commands
from buildd.isolation import IsolationFailure
from buildd.tests.fakes import FakeManager

class Unable(FakeManager):
    async def recover(self, builds):
        raise {raised}

sys.exit(commands.main(sys.argv[1:], lambda config, reactor: {{"fake": Unable()}}))
"""
    argv = [sys.executable, "-W", "ignore", "-c", program, "--dir", str(tmp_path), "--port", "0", "--allow-root"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=CHECKOUT, check=False)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert not (tmp_path / "port").exists()


def test_version_and_help() -> None:
    """--version and --help answer."""
    assert _command("--version").stdout.startswith("debfarm-buildd ")
    shown = _command("--help").stdout
    for option in ("--config", "--quiet", "--verbose", "--log-file", "--debug", "--timeout", "--dir", "--label"):
        assert option in shown


def test_log_file_and_label(tmp_path: Path) -> None:
    """--log-file takes the log; every line about a build names build and builder."""
    path = tmp_path / "some.log"
    with RunningDaemon(tmp_path / "daemon", "--log-file", str(path), "--label", "by option") as daemon:
        begin_build(daemon, "PACKAGEBUILD-7")
        daemon.wait_for("WAITING")
        assert daemon.end() == 0
        assert "buildd.builder" not in daemon.log.read_text()
    about = [line for line in path.read_text().splitlines() if "buildd.builder#" in line and "PACKAGEBUILD-7" in line]
    assert len(about) >= 3
    assert all("PACKAGEBUILD-7 on by option: " in line for line in about)


def test_quiet(tmp_path: Path) -> None:
    """-q: an uneventful life is not logged."""
    with RunningDaemon(tmp_path / "daemon", "-q") as daemon:
        daemon.rpc.info()
        assert daemon.end() == 0
        assert "#info" not in daemon.log.read_text()


def test_log_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A log file that cannot be written is one clear line."""
    ended = _command("--dir", str(tmp_path / "d"), "--allow-root", "-l", str(tmp_path))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "cannot be written: Is a directory" in ended.stderr


def test_clients_that_hang_up(own_daemon: RunningDaemon) -> None:
    """A client that hangs up in the middle of anything is nobody's trouble; what it asked for is done all the same."""
    sha1 = own_daemon.present(os.urandom(1 << 20))
    body = xmlrpc.client.dumps(("BuilderStatus.IDLE", "", 30), "wait").encode()
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(20):
        own_daemon.send(head + body).close()
        own_daemon.send(head + body[:-5]).close()
        own_daemon.send(f"GET /filecache/{sha1} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).close()
    build = xmlrpc.client.dumps(("PACKAGEBUILD-1", "fake", sha1, {}, {}), "build").encode()
    own_daemon.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(build) + build).close()
    assert own_daemon.wait_for("WAITING")["build_id"] == "PACKAGEBUILD-1"
    assert own_daemon.end() == 0
    assert "Traceback" not in own_daemon.log.read_text()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_ends_clean_when_told(by: signal.Signals, own_daemon: RunningDaemon) -> None:
    """SIGTERM, or Ctrl+C: the build is aborted, nothing of it is left, exit status 0, within 10 s."""
    begin_build(own_daemon, hang=True)
    assert own_daemon.end(by) == 0
    assert not list((own_daemon.directory / "builds").iterdir())
    assert not (own_daemon.directory / "port").exists()
    with pytest.raises(ConnectionRefusedError):
        own_daemon.rpc.info()


def test_sigterm_with_a_build_that_does_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even then the daemon ends soon (8 s; less in this test), and says that it was not clean."""
    monkeypatch.setenv("FAKE_STOP_S", "0.5")
    with RunningDaemon(tmp_path / "daemon") as daemon:
        begin_build(daemon, hang=True, deaf=True)
        assert daemon.end(signal.SIGTERM) == 1
        log = daemon.log.read_text()
        assert "not all could be ended in 0.5 s: what is left of it goes at the next start" in log
        assert "Traceback" not in log


def test_clock_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sets the clock: forward, and no limit is over before its time; back, and none lasts longer."""
    ahead_s = tmp_path / "ahead_s"
    ahead_s.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, time\n"
        "of_day = time.time\n"
        f"time.time = lambda: of_day() + float(pathlib.Path({str(ahead_s)!r}).read_text() or 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with RunningDaemon(tmp_path / "daemon") as daemon:
        begin_build(daemon, hang=True, deaf=True)
        daemon.rpc.abort()
        ahead_s.write_text("86400")
        for _ in range(5):
            time.sleep(0.05)
            assert daemon.rpc.status()["builder_status"] == "BuilderStatus.ABORTING"
        answers: list[Any] = []
        asking = daemon.rpc
        thread = threading.Thread(
            target=lambda: answers.append(asking.wait("BuilderStatus.ABORTING", "PACKAGEBUILD-1", 0.5)), daemon=True
        )
        thread.start()
        time.sleep(0.2)
        ahead_s.write_text("-86400")
        thread.join(5)
        assert answers


def test_sigterm_during_a_download(own_daemon: RunningDaemon) -> None:
    """A server that hangs does not hold up the end."""
    with FileServer({"/file": hang}) as server:
        asking, url = own_daemon.rpc, server.url("/file")

        def ask() -> None:
            with pytest.raises((OSError, xmlrpc.client.Error)):
                asking.ensurepresent("a" * 40, url, "", "")

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.requests:
            time.sleep(0.02)
        assert own_daemon.end(signal.SIGTERM, within_s=3) == 0
        thread.join(5)


def test_sighup_when_idle(own_daemon: RunningDaemon) -> None:
    """SIGHUP when IDLE: the daemon ends at once."""
    assert own_daemon.end(signal.SIGHUP, within_s=3) == 0


def test_sighup_after_the_current_build(own_daemon: RunningDaemon) -> None:
    """SIGHUP: it ends after the current build, once the master has collected it, and takes no other."""
    begin_build(own_daemon, hang=True, files={"a.deb": "x"})
    own_daemon.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    own_daemon.rpc.abort()
    status = own_daemon.wait_for("WAITING")
    assert status["build_status"] == "BuildStatus.ABORTED"
    time.sleep(0.2)
    assert own_daemon.process.poll() is None
    own_daemon.rpc.clean()
    assert own_daemon.process.wait(5) == 0


def test_kill_and_restart(own_daemon: RunningDaemon) -> None:
    """After kill -9 and restart: IDLE, nothing left but whole files of the cache, which are still there."""
    begin_build(own_daemon, hang=True)
    sha1 = own_daemon.present(b"kept")
    (own_daemon.directory / "filecache" / ".partial-x").write_bytes(b"half")
    own_daemon.kill()
    assert list((own_daemon.directory / "builds").iterdir())
    with RunningDaemon(own_daemon.directory) as again:
        assert again.rpc.status()["builder_status"] == "BuilderStatus.IDLE"
        assert not list((again.directory / "builds").iterdir())
        assert again.rpc.ensurepresent(sha1, "", "", "") == [True, "No URL"]
        assert not list((again.directory / "filecache").glob(".*"))
        begin_build(again)
        assert again.wait_for("WAITING")["build_status"] == "BuildStatus.OK"


def test_start_removes_what_fast_cleanup_left(own_daemon: RunningDaemon) -> None:
    """The directory of a build with fast_cleanup stays after clean(); the next start removes it."""
    begin_build(own_daemon, fast_cleanup=True)
    own_daemon.wait_for("WAITING")
    own_daemon.rpc.clean()
    assert own_daemon.end() == 0
    assert list((own_daemon.directory / "builds").iterdir())
    with RunningDaemon(own_daemon.directory) as again:
        assert not list((again.directory / "builds").iterdir())


def test_systemd_is_told(tmp_path: Path) -> None:
    """Under systemd the daemon says when it is ready, that it is alive, what it does, and that it is ending."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        os.environ.update(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        try:
            daemon = RunningDaemon(tmp_path / "daemon")
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
        with daemon:
            told = [systemd.recv(1000)]
            assert told == [b"READY=1"]
            while told.count(b"WATCHDOG=1") < 3:
                told.append(systemd.recv(1000))
            begin_build(daemon, hang=True)
            while told[-1] != b"STATUS=BUILDING PACKAGEBUILD-1":
                told.append(systemd.recv(1000))
            daemon.end()
            while told[-1] != b"STOPPING=1":
                told.append(systemd.recv(1000))
    assert b"STATUS=IDLE" in told


@pytest.mark.parametrize("arguments", [["run", "--dir", "D"], ["--dir", "D", "run"], ["--dir", "D"]])
def test_options_before_or_after_the_command(arguments: list[str], tmp_path: Path) -> None:
    """`run` may be left out; options stand before the command or after it."""
    (tmp_path / "filecache").touch()  # So it cannot start, and says where.
    ended = _command(*(str(tmp_path) if word == "D" else word for word in arguments), "--allow-root")
    assert ended.returncode == 1
    assert f"{tmp_path} cannot be used: " in ended.stderr


@pytest.mark.parametrize("where", [0, 1, 2])
def test_options_may_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: int) -> None:
    """Before a command, after it, and after what it is to do."""
    words = ["cache", "list"]
    words[where:where] = ["--dir", str(tmp_path / "d")]
    assert commands.main(words) == 0
    assert capsys.readouterr().err == f"no layers in {tmp_path / 'd' / 'layers'}\n"


@pytest.mark.parametrize("words", [("doctor",), ("cache", "list", "--json")])
def test_nobody_reads_to_the_end(tmp_path: Path, words: tuple[str, ...]) -> None:
    """As in `doctor | head`: nothing is said of it."""
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-W", "ignore", "-m", "buildd", "--dir", str(tmp_path / "d"), *words]
    with os.fdopen(writing, "wb") as stdout:
        ended = subprocess.run(argv, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
