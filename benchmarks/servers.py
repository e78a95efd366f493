"""The servers of a benchmark, each in a process of its own: baselines, and the daemon with its own Python."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import Server
from harness import BuilddTestSetup
from tools.places import CHECKOUT


@contextmanager
def baseline(kind: str, file: Path | None = None, python: str = sys.executable) -> Iterator[Server]:
    """One of baselines.KINDS while the context lasts.

    :param file: what it serves, when it serves a file.
    :param python: the interpreter; the daemon's, where both are to have the same.
    """
    command = [python, "-m", "benchmarks.baselines", kind, *([str(file)] if file else [])]
    # It ends with this program, however that ends.
    argv = ["setpriv", "--pdeathsig=KILL", "--", *command]
    with subprocess.Popen(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Server(kind, int(process.stdout.readline()), process.pid)
        finally:
            process.kill()


@contextmanager
def daemon(settings: dict[str, str] | None = None) -> Iterator[BuilddTestSetup]:
    """A daemon of ours with an empty directory, while the context lasts."""
    setup = BuilddTestSetup(settings=settings)
    setup.setUp()
    try:
        yield setup
    finally:
        setup.tearDown()


def as_server(setup: BuilddTestSetup) -> Server:
    """The daemon as something to call."""
    return Server("debfarm-buildd", setup.port, setup.process.process.pid)


def python_of(setup: BuilddTestSetup) -> str:
    """The interpreter that the daemon runs on: Debian's own where it runs as another account, with Debian's Twisted."""
    return Path(f"/proc/{setup.process.process.pid}/cmdline").read_bytes().split(b"\0")[0].decode()
