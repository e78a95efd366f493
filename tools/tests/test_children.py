"""Tests of child processes and of the register for when this program is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.account import Account
from tools.children import Child, Register, start
from tools.places import CHECKOUT, Busy, lock


@pytest.fixture
def me() -> Account:
    return Account("me", os.geteuid(), os.getegid())


def _sleeper(me: Account, folder: Path, script: str = "sleep 60") -> Child:
    return start("sleeper", ["sh", "-c", f"echo started; {script}"], me, folder / "log", {})


def test_stop(me: Account, tmp_path: Path) -> None:
    """A child that is told to stop stops, and its output is in its log."""
    child = _sleeper(me, tmp_path)
    _wait_for_log(child)
    assert child.stop() == -signal.SIGTERM
    assert child.log_tail() == "started"


def test_stubborn(me: Account, tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed, with what else is in its session."""
    child = _sleeper(me, tmp_path, "trap '' TERM; sleep 60 & wait; sleep 60")
    _wait_for_log(child)
    assert child.stop(grace_s=0.2) == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while _session_of(child) and time.monotonic() < deadline:  # What was killed with it takes a moment to end.
        time.sleep(0.02)
    assert not _session_of(child)


def test_dies_with_its_parent(tmp_path: Path) -> None:
    """A child of a program that is killed ends too."""
    script = f"""
import os, pathlib, time
from tools.account import Account
from tools.children import start
log = pathlib.Path("{tmp_path}/log")
child = start("x", ["sh", "-c", "echo started; sleep 60"], Account("me", os.geteuid(), os.getegid()), log, {{}})
while not child.log_tail():
    time.sleep(0.02)
print(child.process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=CHECKOUT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 5
    while _exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _exists(pid)


def test_leftovers_are_ended(me: Account, tmp_path: Path) -> None:
    """What a killed program left running is found in the register, and ended."""
    register = Register(tmp_path / "register")
    child = _sleeper(me, tmp_path)
    register.add(child)
    assert register.end_leftovers() == ["sleeper"]
    assert child.process.wait(5) == -signal.SIGTERM
    assert register.end_leftovers() == []


def test_another_process_of_the_same_id(me: Account, tmp_path: Path) -> None:
    """A process that has got a registered id since is left alone."""
    child = _sleeper(me, tmp_path)
    (tmp_path / "register").write_text(f'[["sleeper", {child.process.pid}, 12345]]')
    assert Register(tmp_path / "register").end_leftovers() == []
    assert child.is_running
    child.stop()


@pytest.mark.parametrize("content", ["", '[["sleeper", 12'])
def test_a_register_cut_short(tmp_path: Path, content: str) -> None:
    """A register that is not whole is taken as empty."""
    (tmp_path / "register").write_text(content)
    assert Register(tmp_path / "register").end_leftovers() == []


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second holder of a lock is told that there is a first."""
    with lock(tmp_path / "lock"), pytest.raises(Busy), lock(tmp_path / "lock"):
        pass
    with lock(tmp_path / "lock"):
        pass


def _wait_for_log(child: Child) -> None:
    deadline = time.monotonic() + 5
    while not child.log_tail() and time.monotonic() < deadline:
        time.sleep(0.02)


def _exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _session_of(child: Child) -> list[int]:
    """The processes of its session that run (proc(5): field 3 of stat is the state, 6 the session)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) == child.process.pid:
                found.append(int(stat.parent.name))
    return found
