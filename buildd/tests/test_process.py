"""Children of the daemon: their output, their limits and their end."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from buildd.buildlog import BuildLog
from buildd.limits import Limit
from buildd.process import Children, Exit

ENVIRONMENT = {"PATH": os.environ["PATH"]}
# Not in a chroot, such as most packages are built in.
MAY_MAKE_NAMESPACES = subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not MAY_MAKE_NAMESPACES, reason="no user namespaces can be made here")
class ChildrenTest(TestCase):
    """Real children, in pid namespaces of their own."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.log = BuildLog(self.directory / "log", 100_000)
        self.addCleanup(self.log.close)

    def run_shell(self, script: str, timeout_s: float = 30, silence_s: float = 30, **more: Any) -> "Deferred[Exit]":
        children = Children(reactor, self.log, timeout_s, silence_s)  # type: ignore[arg-type]
        argv = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "sh", "-c", script]
        running: Coroutine[Any, Any, Exit] = children.run(argv, env=ENVIRONMENT, cwd=self.directory, **more)
        return Deferred.fromCoroutine(running)

    async def _logged(self) -> None:
        kept = bytearray()
        ended = await self.run_shell("cat && echo bad >&2 && exit 3", stdin=b"in", output=kept.extend)
        assert (ended.code, ended.signal, ended.limit, ended.ok) == (3, None, None, False)
        assert (bytes(kept), self.log.tail()) == (b"in", b"bad\n")

    def test_output_is_kept_or_logged(self) -> "Deferred[None]":
        """Standard output goes where asked, standard error to the log, the exit status is told."""
        return Deferred.fromCoroutine(self._logged())

    async def _inherited(self) -> None:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        kept = bytearray()
        try:
            await self.run_shell("ls /proc/self/fd; echo in >&7", output=kept.extend, fds={7: write})
        finally:
            os.close(write)
        assert (os.read(read, 9), kept.decode().split()) == (b"in\n", ["0", "1", "2", "3", "7"])  # 3 is ls's own.

    def test_a_child_inherits_what_it_is_given(self) -> "Deferred[None]":
        """And no other of the daemon's files."""
        return Deferred.fromCoroutine(self._inherited())

    async def _limited(self) -> None:
        for script, limits, expected in (
            ("sleep 60", {"timeout_s": 0.2}, Limit.WALL_TIME),
            ("while :; do echo x; sleep 0.05; done", {"timeout_s": 0.5, "silence_s": 0.4}, Limit.WALL_TIME),
            ("echo x; sleep 60", {"silence_s": 0.2}, Limit.SILENCE),
            ("yes", {}, Limit.LOG_SIZE),
        ):
            began = time.monotonic()
            ended = await self.run_shell(script, **limits)
            assert ended.limit is expected, (script, ended)
            assert not ended.ok
            assert time.monotonic() - began < 5

    def test_each_limit_ends_a_child_by_name(self) -> "Deferred[None]":
        """Wall time, silence and the size of the log."""
        return Deferred.fromCoroutine(self._limited())

    async def _cancelled(self) -> None:
        pids = self.directory / "pids"
        running = self.run_shell("trap : TERM; setsid sleep 77 & printf '1\\n2\\n' >pids; sleep 78")
        while not pids.exists() or pids.read_text().count("\n") < 2:
            await _pause(0.02)
        marked = self._marked()
        assert len(marked) >= 2
        running.cancel()
        try:
            await running
        except CancelledError:
            assert self._marked() == []
        else:
            raise AssertionError("it was not cancelled")

    async def _helper_hangs(self) -> None:
        """Of a shell that waits for a child which we may not signal, as unshare waits for newuidmap."""
        kill, refused, guard = os.kill, set(), CountingGuard()

        def kill_but_children(pid: int, number: int) -> None:
            if pid != shell[0]:
                refused.add(pid)
                raise PermissionError
            kill(pid, number)

        children = Children(reactor, self.log, 30, 30, guard)  # type: ignore[arg-type]
        script = "sleep 60 >/dev/null 2>&1 & echo $$; wait"
        shell: list[int] = []
        running = Deferred.fromCoroutine(
            children.run(
                ["sh", "-c", script], env=ENVIRONMENT, cwd=self.directory, output=lambda out: shell.append(int(out))
            )
        )
        while not shell:
            await _pause(0.02)
        with mock.patch("os.kill", kill_but_children):
            running.cancel()
            with pytest.raises(CancelledError):
                await running
        for pid in refused:
            kill(pid, signal.SIGKILL)
        assert len(refused) == 1
        assert guard.kills > 0

    def test_a_child_that_waits_for_what_cannot_be_killed(self) -> "Deferred[None]":
        """It is killed itself, after a second, and so is all else that there is of the build."""
        return Deferred.fromCoroutine(self._helper_hangs())

    def _marked(self) -> list[str]:
        """The processes whose working directory is the test's."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink() == self.directory:
                    found.append(process.name)
        return found

    def test_cancelling_kills_and_waits(self) -> "Deferred[None]":
        """When CancelledError comes out, the child is gone, though it ignored SIGTERM."""
        return Deferred.fromCoroutine(self._cancelled())


class CountingGuard:
    """A guard that limits nothing."""

    def __init__(self) -> None:
        self.kills = 0

    def command(self, argv: Sequence[str]) -> list[str]:
        return list(argv)

    def watch(self, pid: int, end: Callable[[Limit], None]) -> Callable[[], None]:
        return lambda: None

    def verdict(self, ended: Exit, said: bytes) -> Limit | None:
        return None

    def allowed(self, limit: Limit) -> str:
        return ""

    def kill(self) -> None:
        self.kills += 1


def _pause(seconds: float) -> "Deferred[None]":
    paused: Deferred[None] = Deferred()
    reactor.callLater(seconds, paused.callback, None)
    return paused
