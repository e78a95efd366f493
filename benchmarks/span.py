"""When a program ran that some other process started, however deep below: to the hundredth of a second."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_LOOK_EVERY_S = 0.05
_NAME_BYTES = 15  # The kernel keeps no more of a name.


def now() -> float:
    """Seconds since boot: the clock by which the kernel notes when a process began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Watch:
    """Waits for the first process of a name among the descendants of another, and notes its beginning and its end."""

    def __init__(self, root: int, name: str) -> None:
        """Begin to look.

        :param root: the process id of the other.
        """
        self._root = root
        self._name = name[:_NAME_BYTES]
        self._span: tuple[float, float] | None = None
        self.above: list[str] = []  # The names of its ancestors, the other's included, once it was found.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def span(self) -> tuple[float, float]:
        """Its beginning and its end, now that it has ended.

        :raises LookupError: there was none.
        """
        self._stop.set()
        self._thread.join()
        if self._span is None:
            raise LookupError(f"no process {self._name} was seen")
        return self._span

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            for pid in _descendants(self._root):
                # It may end at any moment. What ends so soon is not what is looked for.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if Path(f"/proc/{pid}/comm").read_text().strip() == self._name:
                        self._wait_for(pid)
                        return

    def _wait_for(self, pid: int) -> None:
        handle = os.pidfd_open(pid)
        try:
            began = _began(pid)
            self.above = list(_names_above(pid, self._root))
            select.select([handle], [], [])
            self._span = (began, now())
        finally:
            os.close(handle)


def _descendants(pid: int) -> Iterator[int]:
    """The processes below a process."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in task.read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _names_above(pid: int, top: int) -> Iterator[str]:
    """The names of a process's ancestors, up to that one."""
    while pid not in (top, 0):
        pid = int(_stat(pid)[1])
        yield Path(f"/proc/{pid}/comm").read_text().strip()


def _began(pid: int) -> float:
    """When a process began."""
    return int(_stat(pid)[19]) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, from the third field on (proc(5), stat)."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
