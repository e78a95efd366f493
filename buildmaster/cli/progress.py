"""How far a long command is, on stderr: a line that changes on a terminal, else a line now and then."""

import sys
import time
from types import TracebackType

import click

from buildmaster.cli.output import Output

_ON_TERMINAL_S = 0.2  # Between two changes.
_ELSEWHERE_S = 30.0


class Progress:
    """Tells how far something is; nothing with -q, and nothing about what takes no time."""

    def __init__(self, output: Output, what: str) -> None:
        self._quiet = output.quiet
        self._what = what
        self._terminal = sys.stderr.isatty()
        self._pause_s = _ON_TERMINAL_S if self._terminal else _ELSEWHERE_S
        self._next = time.monotonic() + self._pause_s
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def show(self, part: float, words: str) -> None:
        """:param part: from 0 to 1; it is done."""
        if self._quiet or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._pause_s
        line = f"{self._what}: {part:.0%}, {words}"
        if self._terminal:
            click.echo("\r" + line.ljust(self._width), nl=False, err=True)
            self._width = len(line)
        else:
            click.echo(line, err=True)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
