"""The command line's frame: what it imports, how it ends, and how errors are told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from buildmaster import config
from buildmaster.cli import COMMANDS, main
from buildmaster.cli.tests.conftest import Cli, make_source, start
from buildmaster.farm import Farm
from buildmaster.tests import databases
from buildmaster.tests.factories import write_config

BUILDMASTER = [sys.executable, "-c", "from buildmaster.cli import main; main()"]


def test_every_command_has_help_with_an_example(cli: Cli) -> None:
    """Each command tells what it is for, and how to call it."""
    for name in COMMANDS:
        out = cli(name, "--help").out
        assert f"buildmaster {'--dir farm ' if name in ('init', 'run') else ''}{name}" in out
        assert "Example" in out
        assert "--json" in out or name == "run"
    listed = cli("--help").out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)


def test_help_needs_click_alone() -> None:
    """--help and --version are quick: neither SQLAlchemy, Twisted nor rich is imported for them."""
    code = (
        "import sys; from buildmaster.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'sqlalchemy', 'twisted', 'rich', 'alembic', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.endswith("\n[]\n")


def test_version(cli: Cli) -> None:
    """--version tells the version of debfarm."""
    assert cli("--version").out.startswith("buildmaster, version ")


@pytest.mark.parametrize("words", [["frobnicate"], ["--frobnicate"], ["builds", "--limit", "x"], ["show"]])
def test_wrong_usage(cli: Cli, words: list[str]) -> None:
    """Wrong usage is exit status 2, with where to find help."""
    assert "for help" in cli(*words, status=2).err


def test_config_mistakes(cli: Cli, tmp_path: Path) -> None:
    """All mistakes of the configuration are told at once, each with its place."""
    path = tmp_path / "buildmaster.conf"
    path.write_text("[files]\nport = abc\ncolour = red\n")
    assert cli("--config", path, "queue", status=1).err.splitlines() == [
        "buildmaster: buildmaster.conf: [files] colour: no such key",
        "buildmaster.conf: [files] port: 'abc' is not a port",
    ]
    assert "nowhere.conf: cannot be read" in cli("--config", tmp_path / "nowhere.conf", "queue", status=1).err


def test_directory_from_the_environment(ready: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """BUILDMASTER_DIR says which farm is meant where --dir does not."""
    environment = os.environ | {"BUILDMASTER_DIR": str(ready.directory)}
    done = subprocess.run(
        [*BUILDMASTER, "queue", "--json"], env=environment, capture_output=True, check=True, timeout=30
    )
    assert json.loads(done.stdout) == {"queue": [], "total": 0, "more": False}


@databases.on_a_file()
def test_damaged_database(ready: Cli) -> None:
    """A database that is none is told in a sentence."""
    for name in ("farm.sqlite-wal", "farm.sqlite-shm"):
        (ready.directory / name).unlink(missing_ok=True)
    (ready.directory / "farm.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    assert ready("queue", status=1).err == "buildmaster: the farm's database cannot be used: file is not a database\n"


def test_database_of_the_future(ready: Cli) -> None:
    """A farm that a newer version has migrated is left alone."""
    farm = Farm.open(config.load(directory=ready.directory).places)
    with farm.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'f00f'")
    farm.close()
    assert "not one that this version knows" in ready("queue", status=1).err


def test_farm_of_somebody_else(ready: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A farm that we may not enter is told as that."""

    def refuse(_: Path) -> Farm:
        raise PermissionError(13, "Permission denied", str(ready.directory))

    monkeypatch.setattr(Farm, "open", refuse)
    assert ready("queue", status=1).err == f"buildmaster: {ready.directory}: Permission denied\n"


def test_debug(ready: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is a sentence; with --debug, a traceback as well."""

    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("buildmaster.waiting.page", break_down)
    err = ready("queue", status=1).err
    assert "unexpected ZeroDivisionError: division by zero" in err
    assert "--debug" in err
    with pytest.raises(AssertionError, match="Traceback"):
        ready("--debug", "queue", status=1)


def test_ctrl_c(ready: Cli, farm: Farm, dsc: Path) -> None:
    """Ctrl+C ends a command that follows with exit status 130 and not a word about it."""
    ready("submit", dsc)
    start(farm, 1)
    farm.log_path(1).write_bytes(b"hello\n")
    command = [*BUILDMASTER, "--dir", str(ready.directory), "log", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"hello\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
    # There is a new line, to end that of the ^C; and the builder that is asked where masters share a farm is none.
    about_it = [line for line in err.splitlines() if line and not line.startswith(b"-- the log cannot be fetched")]
    assert (child.returncode, out, about_it) == (130, b"", [])


def test_reader_goes_away(ready: Cli, tmp_path: Path) -> None:
    """When whoever reads stdout has gone, nothing is said about it."""
    for name in ("one", "two"):
        ready("submit", make_source(tmp_path / name, name))
    reading, writing = os.pipe()
    os.close(reading)
    command = [*BUILDMASTER, "--dir", str(ready.directory), "builds"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=30)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_quiet(ready: Cli) -> None:
    """-q leaves the hints out."""
    assert ready("-q", "queue").err == ""


def test_starts_quickly() -> None:
    """--help takes a fraction of a second: the best of three, against an interpreter that does nothing."""

    def best(code: str) -> float:
        spans = []
        for _ in range(3):
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False, timeout=30)
            spans.append(time.monotonic() - began)
        return min(spans)

    assert best("from buildmaster.cli import main; main(['--help'])") - best("pass") < 0.25


def test_main_is_a_click_group() -> None:
    """The command line can be looked at from outside, as shells do to complete words."""
    assert isinstance(main, click.Group)
    assert main.get_command(click.Context(main), "nothing") is None


def test_hints_name_the_configuration(ready: Cli, tmp_path: Path) -> None:
    """What a hint says to call is about the same farm: its database may be named by the configuration file alone."""
    write_config(tmp_path / "other.conf", empty=True)
    other = ["--config", "other.conf", "--dir", str(ready.directory)]
    CliRunner().invoke(main, [*other, "init"])
    with_config = CliRunner().invoke(main, [*other, "masters"])
    hint = f"buildmaster --config {tmp_path}/other.conf --dir {ready.directory} run"
    assert hint in with_config.output
    assert f"buildmaster --dir {ready.directory} run" in ready("masters").err
