"""What a build cannot do, each tried by a program that would do it (shut_in.py)."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import base_chroot
from tools.account import build_account
from tools.daemon import python_and_code
from tools.places import Places, default_root

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What came of each attempt."""
    account, places = build_account(), Places(default_root()).make()
    folder = account.make_directory(places.tests / f"shut-in-{os.getpid()}")
    try:
        python, code = python_and_code(account, places)
        program = shutil.copy(Path(__file__).with_name("shut_in.py"), folder)
        argv = [python, program, account.make_directory(folder / "buildd"), base_chroot()]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "HOME": str(folder)}
        ended = subprocess.run(
            account.command(argv), env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        answers: dict[str, str] = json.loads(ended.stdout)
        return answers
    finally:
        account.remove_tree(folder)


def test_a_command_in_the_root_sees_the_root_only(found: dict[str, str]) -> None:
    """No old root, no process but its own and the first, root of the namespace, a loopback and nothing else."""
    processes, uid, interfaces = found["inside"].split()[:-2], *found["inside"].split()[-2:]
    assert processes[0] == "/proc/1"
    assert len(processes) <= 4
    assert (uid, interfaces) == ("0", "3")  # Two lines of heading.


def test_a_setuid_program_left_in_the_root_finds_nothing_outside(found: dict[str, str]) -> None:
    """It leaves the chroot as root of the namespace, and stands among the host's programs, with nothing to harm."""
    words = found["beside"].split()
    assert words[0] == "0", "the attack does not even work"
    assert "usr" in words
    assert "boot" not in words, "it is still in the chroot"
    assert "escaped" not in found["beside"]
    assert found["owned"] == "False"


def test_what_runs_beside_a_root_sees_no_other_build(found: dict[str, str]) -> None:
    """Nor the daemon's own files, nor anybody's home."""
    assert "usr" in found["host"].split()
    assert not {"bases", "layers", "filecache", "lock", "home", "root", "srv"} & set(found["host"].split())


def test_a_command_that_is_ended_at_once_ends(found: dict[str, str]) -> None:
    """However early: also while its namespaces are being set up."""
    assert found["lost kills"] == "0"


def test_nothing_is_left(found: dict[str, str]) -> None:
    """Of a build whose directory was removed."""
    assert found["left"] == ""
