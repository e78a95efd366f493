"""Debian's diffoscope, run on two files that builders made: what differs between them, in text."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

# Each of its processes: two GB of memory, files of one.
_LIMITED = ("prlimit", f"--as={2 << 30}", f"--fsize={1 << 30}", "--core=0", "--")
_REPORT_BYTES = 1 << 20
_DIFFER = 1  # diffoscope's exit status when they do.


class CannotCompare(Exception):
    """diffoscope cannot tell; the message says why."""


def differences(was: Path, now: Path, limit_s: float) -> str:
    """What differs between two files, as diffoscope tells it; "": nothing that it sees. Blocks.

    It unpacks what strangers have packed: so it runs without network where user namespaces can be had, with limits to
    memory, files and time, in a directory that is removed.

    :raises CannotCompare: it is not installed, does not end in time, or ends badly.
    """
    program = shutil.which("diffoscope")
    if program is None:
        raise CannotCompare("diffoscope is not installed here: Debian has it in diffoscope-minimal")
    with tempfile.TemporaryDirectory(prefix="diffoscope-") as room:
        command = [*_alone(), *_LIMITED, program, f"--max-text-report-size={_REPORT_BYTES}", "--no-progress"]
        # TMPDIR: what it unpacks goes with the directory, whatever becomes of it.
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "TMPDIR": room,
            "HOME": room,
            "LC_ALL": "C.UTF-8",
        }
        child = subprocess.Popen(
            [*command, "--text", "-", "--", str(was.resolve()), str(now.resolve())],
            cwd=room,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            printed, complaint = child.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise CannotCompare(f"diffoscope had not ended after {limit_s:g} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode not in (0, _DIFFER):
        said = complaint.decode(errors="replace").strip()[-1000:]
        raise CannotCompare(f"diffoscope ended with {child.returncode}: {said}")
    return printed.decode(errors="replace")


def _alone() -> list[str]:
    """How to run a command where there is no network, and nothing of it is left when it ends; none where that fails."""
    command = ["unshare", "--user", "--map-current-user", "--net", "--pid", "--fork", "--kill-child", "--"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if tried.returncode else command
