"""Programs that try things out as the unprivileged account, and print what came of it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from harness import base_chroot
from tools.account import build_account
from tools.daemon import python_and_code
from tools.places import Places, default_root


def run_trial(program: str) -> dict[str, str]:
    """Run a program of this directory, `program DIRECTORY TARBALL`; the JSON object that it prints.

    It is given a directory of its own, as a daemon has one, and the tarball of a chroot.
    """
    account, places = build_account(), Places(default_root()).make()
    folder = account.make_directory(places.tests / f"{Path(program).stem}-{os.getpid()}")
    try:
        python, code = python_and_code(account, places)
        copied = shutil.copy(Path(__file__).with_name(program), folder)
        argv = [python, copied, account.make_directory(folder / "buildd"), base_chroot()]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "HOME": str(folder)}
        ended = subprocess.run(
            account.command(argv), env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        answers: dict[str, str] = json.loads(ended.stdout)
        return answers
    finally:
        account.remove_tree(folder)
