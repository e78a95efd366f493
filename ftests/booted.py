"""A Debian system of its own, booted: packages are installed in it as on a machine, its systemd runs their units."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

BOOT = Path(__file__).with_name("boot.sh")
BOOT_S = 60.0
SHUTDOWN_S = 30.0
COMMAND_S = 600.0
LOOK_EVERY_S = 0.2
POWEROFF = signal.SIGRTMIN + 4  # systemd(1)
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class CommandFailed(Exception):
    """A command in the system failed; the message has all that it printed."""


class BootedSystem:
    """Made from a chroot's tar archive. Root is needed. Its network is this machine's."""

    def __init__(self, chroot: Path, folder: Path) -> None:
        """Unpack it and boot it.

        :param chroot: with everything below chroot-autobuild/, as tools.base_chroot makes it.
        :param folder: where it is kept; must not exist yet, and is removed by close().
        """
        self.root = folder
        self._cgroup = _cgroup2() / f"debfarm-test-{uuid.uuid4().hex[:8]}"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._cgroup.mkdir()
            folder.mkdir(mode=0o755)
            unpack = ["tar", "--extract", "--numeric-owner", "--preserve-permissions", "--strip-components=1"]
            subprocess.run([*unpack, "--file", chroot, "--directory", folder], check=True)
            shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
            self._apt_settings()
            self._install_systemd()
            self._boot()
        except BaseException:
            self.close()
            raise

    def run(self, argv: Sequence[str], user: str = "root", *, check: bool = True) -> str:
        """Run a command in the system; return what it printed, errors too.

        :raises CommandFailed: its exit status is not 0, and `check`.
        :raises subprocess.TimeoutExpired: it does not end.
        """
        assert self._process is not None
        namespaces = ["--mount", "--pid", "--cgroup", "--ipc", "--uts"]
        enter = ["nsenter", f"--target={self._init()}", *namespaces, "--root", "--wd"]
        as_user = [] if user == "root" else ["runuser", "-u", user, "--"]
        return _output([*enter, *as_user, *argv], check)

    def install(self, *packages: str) -> None:
        """Install packages as an administrator would: by name, or by path in the system."""
        self.run(["apt-get", "update", "--error-on=any"])
        self.run(["apt-get", "install", "--yes", "--no-install-recommends", *packages])

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as systemd has them."""
        shown = self.run(["systemctl", "show", f"--property={','.join(properties)}", name])
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def close(self) -> None:
        """Shut the system down and remove it. Harmless when done."""
        if self._process is not None:
            try:
                os.kill(self._init(), POWEROFF)
                self._process.wait(SHUTDOWN_S)
            except (subprocess.TimeoutExpired, OSError, ValueError):
                self._process.kill()
                self._process.wait()
            self._process = None
        _remove_cgroup(self._cgroup)
        if self.root.exists():
            subprocess.run(["rm", "-rf", "--one-file-system", "--", self.root], check=True)

    def _apt_settings(self) -> None:
        """No waiting for the disk: the system is thrown away."""
        (self.root / "etc/dpkg/dpkg.cfg.d/debfarm-test").write_text("force-unsafe-io\n")

    def _install_systemd(self) -> None:
        command = "apt-get update -q --error-on=any && apt-get install -q -y --no-install-recommends systemd-sysv"
        _output([*self._first_process(), "sh", "-c", command], check=True)

    def _first_process(self) -> list[str]:
        """Before a command: it becomes the first process in the system.

        It ends with this process, however that ends; and with it, by unshare's --kill-child, all that it started.
        """
        return ["setpriv", "--pdeathsig=KILL", "sh", str(BOOT), str(self.root), str(self._cgroup)]

    def _boot(self) -> None:
        log = self.root.with_name(f"{self.root.name}.boot")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._first_process(), "/sbin/init"],
                env={"container": "debfarm", "PATH": ENVIRONMENT["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + BOOT_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CommandFailed(f"systemd did not boot in {self.root}: {log.read_text(errors='replace')}")
            time.sleep(LOOK_EVERY_S)
        log.unlink()

    def _is_up(self) -> bool:
        try:
            state = self.run(["systemctl", "is-system-running"], check=False).strip()
        except ValueError:  # It has not got that far.
            return False
        return state in ("running", "degraded")

    def _init(self) -> int:
        """Its first process, as this machine counts them.

        :raises ValueError: there is none.
        """
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if self._process.poll() is None else []
        if not children or Path(f"/proc/{children[0]}/comm").read_text() != "systemd\n":
            raise ValueError("systemd does not run yet")
        return int(children[0])


def _output(argv: Sequence[str], check: bool) -> str:
    result = subprocess.run(
        argv,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=COMMAND_S,
        check=False,
    )
    if check and result.returncode:
        raise CommandFailed(f"{' '.join(argv)}\nended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def _cgroup2() -> Path:
    """Where this machine has its cgroup2 file system."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")
        if filesystem.startswith("cgroup2 "):
            return Path(mount.split()[4])
    raise CommandFailed("no cgroup2 file system is mounted here: systemd cannot be booted")


def _remove_cgroup(cgroup: Path) -> None:
    """Remove a group and those below it; what was killed a moment ago may still be leaving."""
    deadline = time.monotonic() + SHUTDOWN_S
    while cgroup.exists():
        try:
            for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
                folder.rmdir()
            cgroup.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_S)
