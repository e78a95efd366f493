"""Child processes that do not outlive this program, and a register of them for when it is killed nevertheless."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.account import Account
from tools.groups import OwnGroups
from tools.places import beside

STOP_GRACE_S = 15.0  # A daemon may take 10 s to abort its build.
PLAIN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass
class Child:
    """A process that was started, in a session of its own so that the terminal's Ctrl+C does not reach it."""

    name: str
    process: "subprocess.Popen[bytes]" = field(repr=False)
    log: Path

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self, grace_s: float = STOP_GRACE_S) -> int:
        """End it, gently and then not, and return its exit status. Harmless when it ended before."""
        if self.is_running:
            self.process.terminate()
        try:
            return self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def kill(self) -> None:
        """End it and what else is in its session, as kill -9 does."""
        if self.is_running:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log_tail(self, lines: int = 20) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def start(
    name: str,
    argv: Sequence[str | Path],
    account: Account,
    log: Path,
    environment: Mapping[str, str],
    *,
    groups: OwnGroups = OwnGroups(),  # noqa: B008  It is frozen.
) -> Child:
    """Start a process as an account; its output goes to the end of a log file. Call this from the main thread.

    :param groups: the control groups that it is to run in.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            groups.command(account.command(argv)),
            env={**PLAIN_ENVIRONMENT, **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, log)


@dataclass(frozen=True)
class Register:
    """Which processes run, in a file: a process id together with when that process was started.

    The pair names one process only, also after ids have come round.
    """

    path: Path

    def add(self, child: Child) -> None:
        started = _started(child.process.pid)
        if started:
            self._write([*self._read(), (child.name, child.process.pid, started)])

    def forget_all(self) -> None:
        self.path.unlink(missing_ok=True)

    def end_leftovers(self, grace_s: float = STOP_GRACE_S) -> list[str]:
        """End what is registered and still runs; return the names of what had to be ended."""
        left = [(name, pid, started) for name, pid, started in self._read() if _started(pid) == started]
        for _, pid, _ in left:
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for _, pid, started in left:
            while _started(pid) == started and time.monotonic() < deadline:
                time.sleep(0.05)
            if _started(pid) == started:
                _signal(-pid, signal.SIGKILL)  # Its whole session.
        self.forget_all()
        return [name for name, _, _ in left]

    def _read(self) -> list[tuple[str, int, int]]:
        try:
            rows = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):  # Cut short by whatever ended the program that wrote it.
            return []
        return [(str(name), int(pid), int(started)) for name, pid, started in rows]

    def _write(self, rows: list[tuple[str, int, int]]) -> None:
        written = beside(self.path)
        written.write_text(json.dumps(rows))
        written.replace(self.path)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _started(pid: int) -> int:
    """When a process was started, in ticks since boot (proc(5), field 22 of stat); 0 when it is not, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    state, *rest = stat.rpartition(")")[2].split()
    return 0 if state == "Z" else int(rest[18])
