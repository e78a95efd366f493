"""Packages may install what they like: it is kept, looked over and removed all the same (keeping.py)."""

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
    """What came of it."""
    account, places = build_account(), Places(default_root()).make()
    folder = account.make_directory(places.tests / f"keeping-{os.getpid()}")
    try:
        python, code = python_and_code(account, places)
        program = shutil.copy(Path(__file__).with_name("keeping.py"), folder)
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


def test_a_hostile_tree_becomes_a_layer(found: dict[str, str]) -> None:
    """The next daemon finds it sound, and builds see in it what was planted."""
    assert found["planted"] == "exit status 0"
    content, owner, names = found["found"].split()
    assert (content, owner) == ("here", "1234")
    assert int(names) > 600
    assert found["sound"] == "[True, True]"


def test_a_file_that_is_not_the_accounts_is_looked_at(found: dict[str, str]) -> None:
    """Its mode was changed behind our back: the layer is gone."""
    assert found["found when changed"] == "None"


def test_a_hostile_tree_is_removed(found: dict[str, str]) -> None:
    """To the last file, and so is the chroot below."""
    assert found["dropped"] == "[True]"
    assert set(found["left"].split()) <= {"layers/locks", "layers/memos"}
