"""The command debfarm-buildd: its command line, and the configuration that it names.

`debfarm-buildd` alone is `debfarm-buildd run`. Options may stand before the command or after it.
"""

import argparse
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from twisted.logger import LogLevel

from buildd import __version__, cachecommand, doctor
from buildd.config import ENVIRONMENT_PREFIX, BuilddConfig, ConfigError, read_config
from buildd.service import STOP_S, BuildTypes, CannotStart, Logging, run

SYSTEM_CONFIG: Final = Path("/etc/debfarm/buildd.conf")
_SHOWING: Final = {"doctor": doctor.run, "cache": cachecommand.run}
# Of the options, those that are keys of buildd.conf.
_KEYS: Final = ("timeout", "directory", "label", "host", "port", "allow_root")


def main(argv: Sequence[str] | None = None, build_types: BuildTypes | None = None, *, stop_s: float = STOP_S) -> int:
    """Do what the command line says.

    :param build_types: makes the build types, where they are not to be the real ones.
    :param stop_s: how long ending clean may take, when told to end.
    :returns: the exit status: 0; 1 when it cannot run here; 2 when the configuration has mistakes.
    """
    arguments = _parser().parse_args(argv)
    try:
        config = _configuration(arguments)
        if arguments.command in _SHOWING:
            status = _SHOWING[arguments.command](arguments, config)
            sys.stdout.flush()
            return status
        return run(config, _logging(arguments), build_types, stop_s=stop_s)
    except ConfigError as exc:
        status, complaints = 2, list(exc.mistakes)
    except CannotStart as exc:
        status, complaints = 1, [str(exc)]
    except BrokenPipeError:  # Whoever read it has seen enough.
        # What is left is written when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status, complaints = 1, []
    for complaint in complaints:
        print(f"debfarm-buildd: {complaint}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="debfarm-buildd",
        description="Build packages on behalf of a master, which gives its orders by XML-RPC.",
        epilog=f"Every key of buildd.conf can also be set in the environment, such as {ENVIRONMENT_PREFIX}TIMEOUT=90m. "
        "SIGTERM: abort the build and end. SIGHUP: end after the current build. COMMAND --help tells more of it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_options(parser, default=None)
    _add_options_of_run(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=False)
    _add_options_of_run(_add_command(commands, "run", "run the daemon, which is what happens without a command"))
    doctor.add_arguments(_add_command(commands, "doctor", "tell whether builds can run here, and what to mend"))
    cache = _add_command(commands, "cache", "show, verify and drop what is kept for later builds")
    cachecommand.add_arguments(cache, _add_options)
    return parser


def _add_command(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    """A command; what is not given after it keeps what was given before it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}.", argument_default=argparse.SUPPRESS
    )
    _add_options(parser)
    return parser


def _add_options(parser: argparse.ArgumentParser, default: str | None = argparse.SUPPRESS) -> None:
    """What every command needs to find the configuration; what is not given here keeps what was given before."""
    add: Any = functools.partial(parser.add_argument, default=default)
    add("-c", "--config", "--configuration", metavar="FILE", type=Path, help=f"default: {SYSTEM_CONFIG}, if there")
    add("-d", "--dir", dest="directory", metavar="DIR", help="where cache and builds are kept")


def _add_options_of_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    quiet: Any = {"action": "store_const", "const": True}  # Not store_true: that has a default of its own.
    add("-q", "--quiet", **quiet, help="log warnings and errors only")
    add("-v", "--verbose", **quiet, help="log more")
    add("--debug", **quiet, help="log everything, the libraries' messages included")
    add("-l", "--log-file", metavar="FILE", type=Path, help="log to this file (default: standard error)")
    add("-t", "--timeout", metavar="DURATION", help="how long a build may take, such as 90m (default: 3h)")
    add("-L", "--label", metavar="STR", help="what this builder calls itself (default: the host's name)")
    add("--host", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    add("--port", metavar="PORT", help="0: any that is free, see DIR/port (default: 8221)")
    add("--allow-root", action="store_const", const="yes", help="run as root, which is not needed, and not wise")


def _configuration(arguments: argparse.Namespace) -> BuilddConfig:
    """:raises ConfigError: it has mistakes."""
    path: Path | None = arguments.config
    if path is None and (named := os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")):
        path = Path(named)
    if path is None and SYSTEM_CONFIG.exists():
        path = SYSTEM_CONFIG
    options = {key: getattr(arguments, key) for key in _KEYS if getattr(arguments, key) is not None}
    if "directory" in options:
        options["directory"] = str(Path(options["directory"]).absolute())
    return read_config(path, os.environ, options)


def _logging(arguments: argparse.Namespace) -> Logging:
    ours = LogLevel.warn if arguments.quiet else LogLevel.info
    if arguments.verbose or arguments.debug:
        ours = LogLevel.debug
    return Logging(ours, LogLevel.debug if arguments.debug else LogLevel.warn, arguments.log_file)
