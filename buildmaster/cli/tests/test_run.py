"""The master, run by the command line as an operator runs it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildmaster.cli.presence import master_runs
from buildmaster.cli.tests.conftest import Cli
from buildmaster.cli.tests.test_group import BUILDMASTER
from buildmaster.tests import databases
from buildmaster.tests.waiting import wait_until


@contextmanager
def master(cli: Cli, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A master that runs on the farm, with its log in tmp_path/log."""
    config = tmp_path / "master.conf"
    used = os.environ.get("BUILDMASTER_CONFIG")  # That of the tests on PostgreSQL.
    ports = "[files]\nport = 0\n[archives]\nport = 0\n[uploads]\nftp_port =\n"
    config.write_text(ports + (Path(used).read_text() if used else ""))
    options = ["--config", str(config), "--dir", str(cli.directory), "--log-file", str(tmp_path / "log")]
    with subprocess.Popen([*BUILDMASTER, *options, "run"], stderr=subprocess.PIPE, text=True) as child:
        try:
            wait_for_line(tmp_path / "log", "files at")
            yield child
        finally:
            child.kill()


def wait_for_line(path: Path, words: str) -> None:
    def log() -> str:
        return path.read_text() if path.exists() else ""

    wait_until(lambda: words in log(), told=log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_until_a_signal(ready: Cli, tmp_path: Path, number: signal.Signals) -> None:
    """The master runs in the foreground, logs where asked, and ends in order on SIGTERM and on Ctrl+C."""
    assert not master_runs(ready.directory)
    with master(ready, tmp_path) as child:
        assert master_runs(ready.directory)
        child.send_signal(number)
        _, err = child.communicate(timeout=20)
        assert child.returncode in (0, 130) if number == signal.SIGINT else child.returncode == 0
        assert err == ""
    log = (tmp_path / "log").read_text()
    assert "the master ends" in log
    assert "twisted" not in log and "starting on" not in log
    assert not master_runs(ready.directory)


@databases.one_master()
def test_second_master(ready: Cli, tmp_path: Path) -> None:
    """A second master on the same farm is refused."""
    with master(ready, tmp_path):
        done = subprocess.run(
            [*BUILDMASTER, "--dir", str(ready.directory), "run"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(f"buildmaster: another master runs on the farm in {ready.directory}\n")


def test_hint_when_no_master_runs(ready: Cli, tmp_path: Path, dsc: Path) -> None:
    """Who submits or looks at the queue learns that no master runs, when none does."""
    assert "No master runs on this farm" in ready("submit", dsc).err
    assert "No master runs on this farm" in ready("queue").err
    with master(ready, tmp_path):
        assert "No master" not in ready("queue").err


def test_run_without_a_farm(cli: Cli) -> None:
    """Where there is no farm, the master does not start."""
    done = subprocess.run(
        [*BUILDMASTER, "--dir", str(cli.directory), "run"], capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr.splitlines()[-1].count(cli.how_to_make_it)) == (1, 1)
