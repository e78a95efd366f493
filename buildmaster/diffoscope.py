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


def differences(was: Path, now: Path, limit_s: float, hidden: Path) -> str:
    """What differs between two files, as diffoscope tells it; "": nothing that it sees. Blocks.

    It unpacks what strangers have packed: so it runs without network where can_shut_in() says so, with limits to
    memory, files and time, in a directory that is removed.

    :param hidden: a directory that is empty for it then; the files are not in it.
    :raises CannotCompare: it is not installed, does not end in time, or ends badly.
    """
    program = shutil.which("diffoscope")
    if program is None:
        raise CannotCompare("diffoscope is not installed here: Debian has it in diffoscope-minimal")
    with tempfile.TemporaryDirectory(prefix="diffoscope-") as room:
        command = [*_alone(hidden), *_LIMITED, program, f"--max-text-report-size={_REPORT_BYTES}", "--no-progress"]
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


def can_shut_in(hidden: Path) -> bool:
    """Whether diffoscope can be run without network, and without seeing a directory: not everywhere are user namespaces
    to be had."""
    return bool(_alone(hidden))


def _alone(hidden: Path) -> list[str]:
    """How to run a command where there is no network and nothing in a directory, and nothing of it is left when it
    ends; none where that fails. It is its own user in a namespace of its own, so that it cannot undo the mount."""
    ours = f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"
    outer = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--")
    hide = ("sh", "-c", 'mount -t tmpfs none "$1" && shift && exec "$@"', "sh", str(hidden.resolve()))
    command = [*outer, *hide, "unshare", "--user", *ours, "--"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if tried.returncode else command
