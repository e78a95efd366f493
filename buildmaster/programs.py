"""Programs of ours that are run beside the master, from threads: what takes long, or reads what strangers wrote."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import IO

_SAID_MAX = 1000  # Characters of its complaint.


class ProgramFailed(Exception):
    """A program did not end well, or not in time; the message is what it said."""


class Children:
    """Programs that are run from threads, and end when they are told to at the latest."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def run(self, module: str, *arguments: str, limit_s: float, source: IO[bytes] | None = None) -> bytes:
        """What a program of ours prints. Blocks.

        :param source: what it reads on its standard input, before it prints anything.
        :raises ProgramFailed: it does not end well, or not in time.
        """
        with self._lock:
            if self._closed:
                raise ProgramFailed("the master ends")
            child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._running.add(child)
        late = threading.Timer(limit_s, _kill, [child])
        late.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # It says why.
                if source is not None and child.stdin is not None:
                    shutil.copyfileobj(source, child.stdin, 1 << 20)
            printed, complaint = child.communicate()
        finally:
            late.cancel()
            _kill(child)
            self._running.discard(child)
        if child.returncode:
            said = complaint.decode(errors="replace").strip()[-_SAID_MAX:]
            raise ProgramFailed(said or f"{module} ended with {child.returncode}, or after more than {limit_s:g} s")
        return printed

    def close(self) -> None:
        """End all, and begin no more."""
        with self._lock:
            self._closed = True
            for child in list(self._running):
                _kill(child)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """With all that it has started."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
