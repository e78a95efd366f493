"""What commands print: tables for people, plain columns for pipes, one JSON document for programs.

Results go to stdout; hints, progress and errors to stderr. rich is imported only when a terminal gets a table.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from buildmaster.cli import text


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    right: bool = False  # Numbers stand at the right.
    wide: bool = False  # The one that gives way, wrapped, when the terminal is too narrow.


# Looked up by the word for a state; what is not here has no colour.
STATE_STYLES = {
    "built": "green",
    "building": "cyan",
    "gathering": "cyan",
    "cancelling": "yellow",
    "failed": "red",
    "failed-upload": "red",
    "chroot-wait": "yellow",
    "dep-wait": "yellow",
    "disabled": "red",
    "failing": "red",
    "idle": "green",
}


class Output:
    """Where one command's results go."""

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    @property
    def on_terminal(self) -> bool:
        """True when a person reads stdout as it comes."""
        return not self.as_json and sys.stdout.isatty()

    def document(self, value: object) -> None:
        """Print the one JSON document of a command, in which what a terminal would take for an order is escaped."""
        click.echo(text.escaped(json.dumps(value, indent=2, ensure_ascii=not _prints_unicode())))

    def say(self, sentence: str) -> None:
        """Print a result as a sentence; not beside a JSON document."""
        if not self.as_json:
            click.echo(text.harmless(sentence))

    def hint(self, sentence: str) -> None:
        """Tell, on stderr, what to do next; not with -q, nor beside a JSON document."""
        if not self.quiet and not self.as_json:
            click.echo(text.harmless(sentence), err=True)

    def table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], empty: str, whole_lines: bool = False
    ) -> None:
        """Print rows under their columns.

        :param empty: what to say, on stderr, when there are none.
        :param whole_lines: leave it to the terminal to wrap, so that what is long can be copied in one piece.
        """
        rows = [[text.one_line(cell) for cell in row] for row in rows]
        if not rows:
            self.hint(empty)
        elif self.on_terminal and not whole_lines:
            _print_rich(columns, rows)
        else:
            _print_plain(columns, rows)

    def listing(
        self,
        document: object,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        empty: str,
        whole_lines: bool = False,
    ) -> None:
        """Print what a command lists: its document with --json, else a table; see table()."""
        if self.as_json:
            self.document(document)
        else:
            self.table(columns, rows, empty, whole_lines)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Print what is known about one thing, a line each."""
        width = max((len(name) for name, _ in facts), default=0) + 1
        for name, value in facts:
            indented = text.harmless(value).rstrip("\n").replace("\n", "\n" + " " * (width + 1))
            heading = f"{name + ':':{width}}"
            click.echo(f"{click.style(heading, bold=True)} {styled(indented)}")


def styled(word: str) -> str:
    """A state's word in its colour; click takes the colour off where no terminal reads."""
    colour = STATE_STYLES.get(word)
    return click.style(word, fg=colour) if colour else word


def _prints_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "") == "utf8"


def _print_plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns with their titles, two spaces apart, never cut: for pipes and files."""
    lines = [[column.title.upper() for column in columns], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title.upper(), justify="right" if column.right else "left", no_wrap=not column.wide, overflow="fold"
        )
    for row in rows:
        # Text, not str: rich would read [brackets] in a stranger's text as its markup.
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)
