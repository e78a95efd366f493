"""Running the master of this checkout, and giving it commands."""

import configparser
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tools.account import Account
from tools.children import Child, start
from tools.places import CHECKOUT

INTERRUPTED = 130  # What a shell reports for Ctrl+C.
MAIN = "import sys; sys.argv[0] = 'buildmaster'; from buildmaster.cli import main; main()"


class CommandFailed(Exception):
    """A command of the master's ended with another exit status than 0."""

    def __init__(self, arguments: Sequence[str | Path], returncode: int, output: str) -> None:
        super().__init__(f"buildmaster {' '.join(map(str, arguments))}: exit status {returncode}\n{output}")
        self.returncode = returncode
        self.output = output


@dataclass
class Master:
    """A master of ours, as the account that runs this program. Starts from the checkout's own buildmaster.conf."""

    account: Account
    directory: Path  # The farm's.
    log: Path
    settings: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (section, key) of buildmaster.conf.
    child: Child | None = None

    def start(self) -> Child:
        """Start it. The farm must have been made by the command `init`."""
        argv = self.command("run")
        environment = {"HOME": str(self.directory), "PYTHONPATH": str(CHECKOUT)}
        self.child = start("buildmaster", argv, self.account, self.log, environment)
        return self.child

    def stop(self) -> None:
        """Stop it; harmless when it does not run. A build that is going on goes on."""
        if self.child is not None:
            self.child.stop()

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line of one of its commands."""
        return [sys.executable, "-c", MAIN, *self._words(arguments)]

    def run(self, *arguments: str | Path) -> str:
        """Give a command, and return what it prints.

        :raises CommandFailed: its exit status is not 0.
        """
        result = subprocess.run(
            self.command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise CommandFailed(arguments, result.returncode, result.stderr + result.stdout)
        return result.stdout

    def ask(self, *arguments: str | Path) -> dict[str, Any]:
        """Give a command, and return the JSON document that it prints.

        The command is run in this process: a Python and its libraries take half a second to start, and callers ask
        again and again.

        :raises CommandFailed: its exit status is not 0.
        """
        from buildmaster.cli import main  # noqa: PLC0415 - the demo's first second is for other things.

        result = CliRunner().invoke(main, self._words((*arguments, "--json")))
        if result.exit_code == INTERRUPTED:
            raise KeyboardInterrupt
        if result.exit_code:
            raise CommandFailed(arguments, result.exit_code, result.output)
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def _words(self, arguments: Sequence[str | Path]) -> list[str]:
        return ["--config", str(self._config()), "--dir", str(self.directory), *map(str, arguments)]

    def _config(self) -> Path:
        """The checkout's buildmaster.conf with our settings: a file beside the log."""
        path = self.log.with_suffix(".conf")
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(CHECKOUT / "buildmaster.conf")
        ports = {("files", "port"): "0", ("archives", "port"): "0", ("uploads", "ftp_port"): ""}
        for (section, key), value in {**ports, **self.settings}.items():
            parser.set(section, key, value)
        written = io.StringIO()
        parser.write(written)
        if not path.exists() or path.read_text() != written.getvalue():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(written.getvalue())
        return path
