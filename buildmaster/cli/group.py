"""The command line's frame: commands imported only when used, global options, and how errors are told."""

import builtins
import importlib
import os
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path
from typing import Any

import click

from buildmaster.cli.output import Output
from buildmaster.cli.text import command_on

INTERRUPTED = 130  # What a shell reports for Ctrl+C.


class Refusal(click.ClickException):
    """A command cannot do what was asked; the message says why, and what to do next."""

    def show(self, file: Any = None) -> None:
        """Print it as one paragraph, without click's own heading."""
        click.echo(f"buildmaster: {self.format_message()}", file=file, err=file is None)


@dataclass
class Session:
    """What the global options say, for the commands."""

    config: Path | None = None
    directory: Path | None = None
    log_file: Path | None = None
    verbosity: int = 0  # -1 quiet, 0, 1 verbose.
    debug: bool = False
    output: Output = field(default_factory=Output)

    def command_on(self, directory: Path, words: str) -> str:
        """A command on the farm that this one is about."""
        return command_on(directory, words, self.config)


pass_session = click.make_pass_decorator(Session, ensure=True)


def json_option(command: Any) -> Any:
    """Add --json to a command; what it prints then is documented in docs/cli.md."""

    def choose(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
        context.ensure_object(Session).output.as_json = value
        return value

    return click.option(
        "--json", "as_json", is_flag=True, expose_value=False, callback=choose, help="Print one JSON document."
    )(command)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that --help needs click alone."""

    def __init__(self, *args: Any, commands_in: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_in = commands_in  # Name to module and one line of help; in the order that help shows.

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of a farm's life."""
        return list(self._commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module; its command is the function of the same name, with _ for -; and with another _ at
        its end, where Python has that name itself."""
        if cmd_name not in self._commands_in:
            return None
        module, name = importlib.import_module(self._commands_in[cmd_name][0]), cmd_name.replace("-", "_")
        command: click.Command = getattr(module, f"{name}_" if hasattr(builtins, name) or iskeyword(name) else name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._commands_in.items()])

    def main(self, args: Sequence[str] | None = None, *positional: Any, **extra: Any) -> Any:
        """Run a command; whatever goes wrong is one paragraph on stderr and an exit status.

        0 done; 1 refused or failed; 2 wrong usage; 130 Ctrl+C; with --debug a traceback as well.
        """
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            status = super().main(arguments, *positional, **extra)
            sys.stdout.flush()
        except BaseException as error:
            status = _tell(error, debug="--debug" in arguments)
        sys.exit(status if isinstance(status, int) else 0)


def _tell(error: BaseException, debug: bool) -> int:
    """Say on stderr what went wrong, and return the exit status."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case click.exceptions.Exit():
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return INTERRUPTED
        case BrokenPipeError():
            _discard_stdout()
            return 1  # As click has it, where it notices first.
    if debug:
        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    click.echo(f"buildmaster: {_sentence(error)}", err=True)
    return 1


def _sentence(error: BaseException) -> str:
    """Any other error for a person: ours have their sentence; what nobody foresaw says how to learn more."""
    if type(error).__module__.startswith(("buildmaster.", "buildd.")):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    cause = getattr(error, "orig", None)  # SQLAlchemy wraps what the database says.
    if isinstance(cause, sqlite3.Error) or type(cause).__module__.startswith("psycopg"):
        return f"the farm's database cannot be used: {cause}"
    if type(error).__module__.startswith("alembic."):
        return f"the farm's database is not one that this version knows: {error}"
    kind = type(error).__name__
    return f"unexpected {kind}: {error}\nCall it again as `buildmaster --debug ...` to see where, and report that."


def _discard_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere: whoever read our output has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
