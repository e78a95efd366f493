"""Mount the root of a build and run a command in it, or beside it: `python3 enter.py SETUP COMMAND [ARGUMENT ...]`.

A program of its own, run as root of fresh user, mount, pid, ipc and uts namespaces. What it mounts nobody else sees,
and it goes with the namespace. SETUP is a JSON object: `root`, where to mount; `lower` (a list, the topmost first),
`upper` and `work`, what the overlay is made of; `inside`, whether the command sees the root as its own; `own_network`,
whether the network namespace is fresh as well.

It stays as the first process of the pid namespace, to reap what loses its parent: tests wait for daemons that they
ended to be gone. When it exits, the kernel ends everything else in the namespace. Exit status 125: it could not do its
part; any other is the command's.

Python, and not a shell: between pivot_root(2) and taking the old root away nothing of the chroot's may run, and a shell
would have to call the chroot's umount. For the same reason every import is at the top.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import warnings  # noqa: F401  os.execvp imports it.
from pathlib import Path
from typing import Any, NoReturn

NOT_ENTERED = 125
_MNT_DETACH = 2  # umount2(2)
_LIBC = ctypes.CDLL(None, use_errno=True)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "fd/0"),
    ("stdout", "fd/1"),
    ("stderr", "fd/2"),
)


def main() -> NoReturn:
    """Enter the root that the command line describes, and exit as the command does."""
    setup: dict[str, Any] = json.loads(sys.argv[1])
    try:
        mount_root(setup)
        if setup["inside"]:
            change_root(setup["root"])
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"the root of the build could not be set up: {exc}", file=sys.stderr)
        sys.exit(NOT_ENTERED)
    sys.stderr.flush()
    os._exit(run(sys.argv[2:]))


def mount_root(setup: dict[str, Any]) -> None:
    """Mount the overlay, and on it what every system expects: /proc, /sys, /dev."""
    root = Path(setup["root"])
    layers = f"lowerdir={':'.join(setup['lower'])},upperdir={setup['upper']},workdir={setup['work']}"
    _mount("overlay", "overlay", root, f"userxattr,{layers}")
    for name in ("dev", "proc", "sys"):
        _make_real_directory(root / name)
    _mount("proc", "proc", root / "proc", "nosuid,nodev,noexec")
    if setup["own_network"]:  # A fresh sysfs needs a network namespace of one's own.
        _mount("sysfs", "sysfs", root / "sys", "ro,nosuid,nodev,noexec")
        # Builds may talk to themselves.
        subprocess.run(["ip", "link", "set", "dev", "lo", "up"], check=True)
    _mount("tmpfs", "dev", root / "dev", "nosuid,mode=755")
    for name in _DEVICES:
        (root / "dev" / name).touch()
        subprocess.run(["mount", "--bind", f"/dev/{name}", root / "dev" / name], check=True)
    for name in ("pts", "shm"):
        (root / "dev" / name).mkdir()
    _mount("devpts", "devpts", root / "dev/pts", "newinstance,ptmxmode=0666,mode=620,gid=5")
    _mount("tmpfs", "shm", root / "dev/shm", "nosuid,nodev,mode=1777")
    for name, target in _LINKS:
        (root / "dev" / name).symlink_to(target)


def change_root(root: str) -> None:
    """Make `root` the root, and take the old one away.

    pivot_root, not chroot: there must be no way back, and nested user namespaces must work (a chrooted process may not
    make one). The old root is stacked on the new one and taken away from there: pivot_root(2), "." and ".".
    """
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "."], check=True)
    if _LIBC.umount2(b".", _MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), "the old root could not be taken away")
    os.chdir("/")


def run(command: list[str]) -> int:
    """Run the command, and reap whatever ends, until it ends; its exit status, as a shell gives it."""
    child = os.fork()
    if child == 0:
        for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored_by_python, signal.SIG_DFL)
        try:
            os.execvp(command[0], command)
        except OSError as exc:
            os.write(2, f"{command[0]}: {exc.strerror}\n".encode())
            os._exit(127 if isinstance(exc, FileNotFoundError) else 126)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _mount(kind: str, source: str, target: Path, options: str) -> None:
    # By mount(2): the newer calls that mount(8) prefers since 2.39 take no option of more than 256 bytes, and an
    # overlay has all its layers in one.
    environment = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}
    subprocess.run(["mount", "-t", kind, "-o", options, source, target], env=environment, check=True)


def _make_real_directory(path: Path) -> None:
    """A symbolic link of the chroot's would be followed on the host's side."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir(mode=0o755)


if __name__ == "__main__":
    main()
