"""Running the master of this checkout, and giving it commands."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.children import Child

_MAIN = "import sys; sys.argv[0] = 'buildmaster'; from buildmaster.cli import main; main()"


class CommandFailed(Exception):
    """A command of the master's ended with another exit status than 0."""

    def __init__(self, arguments: tuple[str, ...], returncode: int, output: str) -> None:
        super().__init__(f"buildmaster {' '.join(arguments)}: exit status {returncode}\n{output}")
        self.returncode = returncode
        self.output = output


@dataclass
class Master:
    """A master of ours, as the account that runs this program."""

    directory: Path  # The farm's.
    log: Path
    config: Path  # A buildmaster.conf.
    child: Child | None = None

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line of one of its commands."""
        options = ["--config", str(self.config), "--dir", str(self.directory)]
        return [sys.executable, "-c", _MAIN, *options, *map(str, arguments)]

    def run(self, *arguments: str | Path) -> str:
        """Give a command, and return what it prints.

        :raises CommandFailed: its exit status is not 0.
        """
        result = subprocess.run(
            self.command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise CommandFailed(tuple(map(str, arguments)), result.returncode, result.stderr + result.stdout)
        return result.stdout

    def ask(self, *arguments: str | Path) -> dict[str, Any]:
        """Give a command, and return the JSON document that it prints.

        :raises CommandFailed: its exit status is not 0.
        """
        document: dict[str, Any] = json.loads(self.run(*arguments, "--json"))
        return document
