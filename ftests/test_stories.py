"""Each file of stories/ is a test: a story, told to a reader, whose examples must come out as they stand there."""

import contextlib
import doctest
from pathlib import Path
from typing import Any

import pytest

from buildmaster.tests.factories import make_seed_world
from ftests.tiny_source import tiny_source
from harness import BuilddSlaveTestSetup, BuilddTestSetup, FarmTestSetup, FileServer, base_chroot

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))
WITHOUT_BUILDS = {"builder-and-master.txt"}  # The others build real packages.


def _story(path: Path) -> Any:
    marks = [] if path.name in WITHOUT_BUILDS else [pytest.mark.real]
    return pytest.param(path, id=path.stem, marks=marks)


def running(command: str) -> list[str]:
    """The command lines on this machine that have this in them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if command in line]


@pytest.mark.parametrize("path", [_story(path) for path in STORIES])
def test_story(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the story says happens."""
    setups: list[BuilddTestSetup | FarmTestSetup] = []

    def set_up(kind: type[Any], *arguments: Any, **more: Any) -> Any:
        setup = kind(*arguments, **more)
        setups.append(setup)
        setup.setUp()
        return setup

    names = {
        "BuilddSlaveTestSetup": BuilddSlaveTestSetup,
        "BuilddTestSetup": BuilddTestSetup,
        "FarmTestSetup": FarmTestSetup,
        "FileServer": FileServer,
        "base_chroot": base_chroot,
        "make_seed_world": make_seed_world,
        "running": running,
        "set_up": set_up,
        "folder": tmp_path,
        "tiny_source": tiny_source,
    }
    try:
        failed, tried = doctest.testfile(
            str(path), module_relative=False, globs=names, optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF
        )
    finally:
        for setup in setups:
            setup.tearDown()
    assert tried and not failed, capsys.readouterr().out
