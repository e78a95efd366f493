"""Programs that try things out as the account of a daemon, in a place of its own, and print what came of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import base_chroot
from tools.account import Account, build_account
from tools.daemon import python_and_code
from tools.places import Places, default_root

_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Trial:
    """A place for trials, and who does them."""

    account: Account
    folder: Path  # The account's, and gone afterwards.

    def make_directory(self, name: str = "buildd") -> Path:
        """Such as a daemon has for its own."""
        return self.account.make_directory(self.folder / name)

    def program(self, name: str) -> Path:
        """A program of this directory, at a place where the account can read it."""
        return Path(shutil.copy(Path(__file__).with_name(name), self.folder))

    def start(
        self, argv: Sequence[str | Path], *, environment: Mapping[str, str] = {}, at_death: str = "TERM"
    ) -> "subprocess.Popen[str]":
        """Start Python with these arguments; it finds the code of the daemon. It ends when this thread does."""
        python, code = python_and_code(self.account, Places(default_root()))
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "HOME": str(self.folder), **environment}
        return subprocess.Popen(
            self.account.command([python, *argv], at_death),
            env=given,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, argv: Sequence[str | Path], *, environment: Mapping[str, str] = {}) -> str:
        """The same, until it has ended, and well; what it printed."""
        with self.start(argv, environment=environment) as process:
            try:
                said, complaint = process.communicate(timeout=_TIMEOUT_S)
            finally:
                process.kill()
        assert process.returncode == 0, said + complaint
        return said


@contextmanager
def trial(name: str, account: Account) -> Iterator[Trial]:
    """A place of that name."""
    folder = account.make_directory(Places(default_root()).make().tests / f"{name}-{os.getpid()}")
    try:
        yield Trial(account, folder)
    finally:
        account.remove_tree(folder)


def run_trial(program: str) -> dict[str, str]:
    """Run `program DIRECTORY TARBALL`, as an unprivileged account; the JSON object that it prints.

    It is given a directory of its own, as a daemon has one, and the tarball of a chroot.
    """
    with trial(Path(program).stem, build_account()) as place:
        answers: dict[str, str] = json.loads(place.run([place.program(program), place.make_directory(), base_chroot()]))
        return answers
