"""A layer is whole or absent, wherever its maker dies or fails."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from buildd.isolation.layers import Layers, layer_note
from buildd.tests.layers_farm import KEY, Farm, done

# What changes files. Each is a moment at which the process may die, or be told that it cannot be done: it makes no
# difference which of the looks before it was the last.
_STEPS = ("os.", "fcntl.", "shutil.", "subprocess.Popen")
_LOOKS = ("os.chdir", "os.getxattr", "os.listdir", "os.listxattr", "os.scandir", "os.walk")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_DIED, _FAILED, _ENDED = "died", "failed", "ended"


def _make(farm: Farm, layers: Layers, tree: Path) -> None:
    done(layers.keep(KEY, tree, layer_note("test", "here", ""))).release()


def _make_within(farm: Farm, layers: Layers, tree: Path) -> None:
    async def work() -> None:
        async with layers.turn(KEY), layers.making() as path:
            tree.rename(path / "tree")
            (await layers.keep(KEY, path / "tree", "")).release()

    done(work())


def _make_anew_and_drop(farm: Farm, layers: Layers, tree: Path) -> None:
    _make(farm, layers, farm.tree("older"))
    _make(farm, layers, tree)
    for stored in layers.stored():
        done(layers.drop(stored))


def _until(step: int, happens: Callable[[], None], work: Callable[[], None]) -> str:
    """Do the work in a process to which this happens at its step of that number; what became of it."""
    child = os.fork()
    if child == 0:
        seen = 0

        def look(event: str, arguments: Any) -> None:
            nonlocal seen
            opened = event == "open" and arguments[2] & _WRITING
            if opened or (event.startswith(_STEPS) and event not in _LOOKS):
                seen += 1
                if seen == step:
                    happens()

        try:
            sys.addaudithook(look)
            work()
            os._exit(0 if seen < step else 2)
        except OSError:
            os._exit(3)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return {-signal.SIGKILL: _DIED, 0: _ENDED, 2: _FAILED, 3: _FAILED}[os.waitstatus_to_exitcode(status)]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("happens", "outcome"), [(_die, _DIED), (_fail, _FAILED)], ids=["killed", "full"])
@pytest.mark.parametrize("work", [_make, _make_within, _make_anew_and_drop])
def test_a_maker_that_ends_at_any_step_leaves_a_whole_layer_or_none(
    tmp_path: Path, work: Callable[[Farm, Layers, Path], None], happens: Callable[[], None], outcome: str
) -> None:
    """And no debris that the next daemon does not remove, nor a lock that holds it up."""
    whole = 0
    for step in range(1, 1000):
        farm = Farm(tmp_path / str(step))
        farm.directory.mkdir()
        tree, layers = farm.tree(), farm.daemon()
        how = _until(step, happens, lambda: work(farm, layers, tree))  # noqa: B023
        next_daemon = farm.daemon()
        layer = done(next_daemon.find(KEY))
        if layer is not None:
            assert [path.name for path in sorted(layer.tree.rglob("*"))] == ["etc", "file", "link"]
            assert (layer.tree / "etc" / "file").read_text() in ("x", "older")
            layer.release()
            whole += 1
        done(next_daemon.tidy())
        assert len(farm.names()) == (layer is not None), (step, farm.names())
        assert farm.locks() == [], step
        if how is _ENDED:
            break
        assert how is outcome, step
    assert 12 < step < 200
    assert whole > 3


def test_the_turn_of_a_maker_that_dies_is_over_at_once(tmp_path: Path) -> None:
    """The kernel takes its lock back; and a child that it has started does not have it."""
    farm = Farm(tmp_path)
    begun, beginning = os.pipe()
    maker = os.fork()
    if maker == 0:

        async def make() -> None:
            async with farm.daemon().turn(KEY):
                subprocess.Popen(["sleep", "60"], close_fds=False)  # noqa: ASYNC220
                os.write(beginning, b"x")
                time.sleep(60)  # noqa: ASYNC251

        done(make())
    os.read(begun, 1)
    turns = []

    async def wait() -> None:
        async with farm.daemon().turn(KEY):
            turns.append("mine")

    Deferred.fromCoroutine(wait())
    farm.clock.pump([0.1] * 5)
    assert turns == []
    (child,) = Path(f"/proc/{maker}/task/{maker}/children").read_text().split()
    os.kill(maker, signal.SIGKILL)
    os.waitpid(maker, 0)
    try:
        farm.clock.pump([0.1] * 2)
        assert turns == ["mine"]
    finally:
        os.kill(int(child), signal.SIGKILL)
        os.close(begun)
        os.close(beginning)
