"""Mount the root of a build and run a command in it, or beside it: `python3 enter.py SETUP COMMAND [ARGUMENT ...]`.

A program of its own, run as root of fresh user, mount, pid, ipc and uts namespaces. What it mounts nobody else sees,
and it goes with the namespace. SETUP is a JSON object, see `Setup`. When it cannot do its part, it says why in the file
`failure`; its exit status is the command's.

It stays as the first process of the pid namespace, to reap what loses its parent: tests wait for daemons that they
ended to be gone. When it exits, the kernel ends everything else in the namespace.

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
from typing import NoReturn, TypedDict

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
_HOST = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt")  # Programs, libraries, configuration.


class Setup(TypedDict):
    """What to enter; all paths are absolute, and the host's."""

    root: str  # Where to mount the overlay.
    lower: list[str]  # What it is made of, the topmost first ...
    upper: str
    work: str
    own_network: bool  # The network namespace is fresh as well.
    view: str | None  # None: the command is run in the root. Else an empty directory, to show it the host at ...
    visible: list[str]  # ... and the directories that it sees of the host besides _HOST and the root.
    cwd: str  # Where the command begins, as it sees it.
    failure: str  # A file to write to when this cannot be done.


def main() -> NoReturn:
    """Enter the root that the command line describes, and exit as the command does."""
    setup: Setup = json.loads(sys.argv[1])
    with open(setup["failure"], "w", encoding="utf-8") as failure:  # noqa: PTH123  Closed by the exec of the command.
        try:
            mount_root(setup)
            change_root(setup["root"] if setup["view"] is None else show_host(setup, Path(setup["view"])))
        except (OSError, subprocess.CalledProcessError) as exc:
            failure.write(str(exc))
            sys.exit(1)
        os._exit(run(sys.argv[2:], setup["cwd"]))


def mount_root(setup: Setup) -> None:
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
        _bind(Path("/dev", name), root / "dev" / name)
    for name in ("pts", "shm"):
        (root / "dev" / name).mkdir()
    _mount("devpts", "devpts", root / "dev/pts", "newinstance,ptmxmode=0666,mode=620,gid=5")
    _mount("tmpfs", "shm", root / "dev/shm", "nosuid,nodev,mode=1777")
    for name, target in _LINKS:
        (root / "dev" / name).symlink_to(target)


def show_host(setup: Setup, view: Path) -> str:
    """Make a view of the host that has its programs and the root, but nobody's files and nothing of other builds.

    sbuild and schroot only chroot, which root of the namespace can leave: there must be nothing to find outside.
    """
    _mount("tmpfs", "view", view, "nosuid,nodev,mode=755")
    for name in _HOST:
        path = Path("/", name)
        if path.is_symlink():
            (view / name).symlink_to(path.readlink())
        elif path.is_dir():
            (view / name).mkdir()
            _bind(path, view / name)
    for name in ("proc", "dev", "tmp", "run", "var/tmp", "var/lib/schroot"):
        (view / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (view / name).chmod(0o1777)
    _mount("proc", "proc", view / "proc", "nosuid,nodev,noexec")
    for path in (Path(setup["root"]), *map(Path, setup["visible"])):
        shown = view / path.relative_to("/")
        shown.mkdir(parents=True)
        _bind(path, shown)
    _bind(Path(setup["root"], "dev"), view / "dev")
    return str(view)


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


def run(command: list[str], cwd: str) -> int:
    """Run the command, and reap whatever ends, until it ends; its exit status, as a shell gives it."""
    child = os.fork()
    if child == 0:
        for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored_by_python, signal.SIG_DFL)
        try:
            os.chdir(cwd)
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


def _bind(source: Path, target: Path) -> None:
    """Show a file or directory at another place, with what is mounted below it."""
    subprocess.run(["mount", "--rbind", source, target], check=True)


def _make_real_directory(path: Path) -> None:
    """A symbolic link of the chroot's would be followed on the host's side."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir(mode=0o755)


if __name__ == "__main__":
    main()
