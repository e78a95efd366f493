"""Processes that die just before something that they would change, on the disk or by a commit: before each, in turn."""

import os
import sys
from collections.abc import Callable
from typing import Any

_DIED = 9
# What Python tells before it asks the system to change something. (A file that is opened is not yet written: what was
# to come into it is lost, or a part of it.)
_CHANGES = ("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "os.chmod")
Point = Callable[[str], None]


def die_at(nth: int, act: Callable[[], object], arm: Callable[[Point], object] = lambda _: None) -> str:
    """Let a process of its own do something and die at its nth change. Returns before which; "" when there are not so
    many.

    :param arm: is given, in that process, what is to be called at points that Python does not tell of.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _live(nth, act, arm, writing)
    os.close(writing)
    with os.fdopen(reading) as stream:
        where = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (_DIED if where else 0)
    return where


def _live(nth: int, act: Callable[[], object], arm: Callable[[Point], object], writing: int) -> None:
    left, alive = nth, False

    def point(where: str) -> None:
        nonlocal left
        left -= alive
        if alive and left == 0:
            os.write(writing, where.encode())
            os._exit(_DIED)

    def tick(event: str, arguments: tuple[Any, ...]) -> None:
        written = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if written or event in _CHANGES:
            point(f"{event} {arguments[0]}")

    try:
        sync = os.fsync

        def syncing(fd: Any) -> None:
            point("fsync")
            sync(fd)

        os.fsync = syncing
        arm(point)
        sys.addaudithook(tick)
        alive = True
        act()
        os._exit(0)
    finally:
        os._exit(1)
