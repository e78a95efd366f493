"""`debfarm-buildd doctor`: whether builds can run on this machine, and what to install or set where they cannot."""

import argparse
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from buildd import cgroups
from buildd.cgroups import Groups, Hierarchy
from buildd.config import BuilddConfig, IsolationName
from buildd.disk_use import Disk
from buildd.enforcement import facts
from buildd.isolation.choose import KINDS
from buildd.isolation.namespaces import ENVIRONMENT
from buildd.limits import configured_limits, size
from buildd.service import EARLIEST

IDS_WANTED = 65536
_TRIAL_S = 30.0
_SPACE_WANTED = 10 << 30  # A chroot, its layers, and a package of ordinary size.
_ADVICE_INDENT = 10
# Program to the Debian package that has it.
_PROGRAMS = {
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
    "tar": "tar",
    "zstd": "zstd",
    "xz": "xz-utils",
    "bzip2": "bzip2",
    "sbuild": "sbuild",
    "dpkg-buildpackage": "dpkg-dev",
    **{name: name for name in ("podman", "conmon", "catatonit", "crun")},
}
_ONLY_FOR = {
    **dict.fromkeys(("newuidmap", "newgidmap"), IsolationName.UNSHARE),
    **dict.fromkeys(("podman", "conmon", "catatonit", "crun"), IsolationName.PODMAN),
}
_OVERLAY = "mkdir l u w m && mount -t overlay overlay -o {}lowerdir=l,upperdir=u,workdir=w m && touch m/x && umount m"


class Verdict(StrEnum):
    """What a finding means."""

    OK = "ok"  # As it should be.
    NOTE = "note"  # Neither good nor bad; good to know.
    WARNING = "warning"  # Builds run, but not as well as they could.
    FAULT = "fault"  # No build can run.


@dataclass(frozen=True)
class Finding:
    """Something found out about this machine."""

    verdict: Verdict
    what: str
    advice: str = ""  # What to install or set.


@dataclass(frozen=True)
class Machine:
    """What is asked for all that is to be found out."""

    root: Path = Path("/")
    which: Callable[[str], str | None] = lambda name: shutil.which(name, path=ENVIRONMENT["PATH"])

    def read(self, path: str) -> str:
        """A file without the white space at its ends; nothing, when it is not there."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def complaint(self, argv: Sequence[str], directory: Path | None = None) -> str | None:
        """Run a command; None when it ends well, else the end of what it said."""
        environment = {**ENVIRONMENT, "LC_ALL": "C.UTF-8"}
        try:
            ended = subprocess.run(
                list(argv),
                env=environment,
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=_TRIAL_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return str(exc)
        said = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        return said[-1] if ended.returncode else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may stand after `doctor`."""
    parser.add_argument("--quiet", "-q", action="store_const", const=True, help="show warnings and faults only")


def run(arguments: argparse.Namespace, config: BuilddConfig) -> int:
    """Look, and print what was found; the exit status: 1 when builds cannot run."""
    findings = list(examine(config, Machine()))
    for finding in findings:
        if not arguments.quiet or finding.verdict in (Verdict.WARNING, Verdict.FAULT):
            sys.stdout.write(shown(finding))
    faults = sum(finding.verdict is Verdict.FAULT for finding in findings)
    print(f"\nBuilds cannot run here: {faults} to mend." if faults else "\nBuilds can run here.")
    return 1 if faults else 0


def shown(finding: Finding) -> str:
    """A finding as people read it, a line or two."""
    text = f"{finding.verdict:<{_ADVICE_INDENT}}{finding.what}\n"
    return f"{text}{'':{_ADVICE_INDENT}}=> {finding.advice}\n" if finding.advice else text


def examine(config: BuilddConfig, machine: Machine) -> Iterable[Finding]:
    """All that there is to say, in the order in which it is best mended."""
    who = list(user(config))
    yield from who
    if any(finding.verdict is Verdict.FAULT for finding in who):
        return  # What is true for root says nothing.
    yield from programs(config.isolation, machine)
    if config.isolation is IsolationName.UNSHARE:
        yield from subordinate_ids(machine)
        yield from user_namespaces(machine)
    else:
        yield from namespaces_of_root(config.isolation, machine)
    yield from overlay(config, machine)
    yield from seccomp(machine)
    yield from backends(config.isolation, machine)
    yield from control_groups(config)
    yield from limits_in_force(config, machine)
    yield from disk(config)
    yield from clock(datetime.now(UTC))
    yield from address(config)


def user(config: BuilddConfig) -> Iterable[Finding]:
    """Who runs this; most of what follows is true for this user alone."""
    entry = pwd.getpwuid(os.geteuid())
    who = f"user: {entry.pw_name}, uid {entry.pw_uid}"
    if entry.pw_uid != 0 and config.isolation is not IsolationName.UNSHARE:
        yield Finding(
            Verdict.FAULT, f"{who}: isolation `{config.isolation}` needs root", "[builder] isolation = unshare"
        )
    elif entry.pw_uid != 0:
        yield Finding(Verdict.OK, who)
    elif config.allow_root:
        yield Finding(Verdict.NOTE, f"{who}, as [builder] allow_root has it")
    else:
        again = shlex.join(["runuser", "-u", _owner(config.directory), "--", *sys.argv])
        advice = f"look as the user that the daemon runs as: {again}"
        yield Finding(Verdict.FAULT, f"{who}: the daemon does not run as root", advice)


def programs(isolation: IsolationName, machine: Machine) -> Iterable[Finding]:
    """What the daemon calls."""
    wanted = [name for name in _PROGRAMS if _ONLY_FOR.get(name, isolation) is isolation]
    missing = [name for name in wanted if machine.which(name) is None]
    if missing:
        packages = sorted({_PROGRAMS[name] for name in missing})
        yield Finding(Verdict.FAULT, f"programs: no {', '.join(missing)}", f"apt install {' '.join(packages)}")
    else:
        yield Finding(Verdict.OK, f"programs: {', '.join(wanted)}")


def subordinate_ids(machine: Machine) -> Iterable[Finding]:
    """subuid(5) and subgid(5)."""
    entry = pwd.getpwuid(os.geteuid())
    for option, file in (("--add-subuids", "etc/subuid"), ("--add-subgids", "etc/subgid")):
        names = (entry.pw_name, str(entry.pw_uid))
        count = max((count for owner, count in _ranges(machine.read(file)) if owner in names), default=0)
        if count >= IDS_WANTED:
            yield Finding(Verdict.OK, f"/{file}: {count} ids for {entry.pw_name}")
        else:
            advice = f"as root: usermod {option} FIRST-LAST {entry.pw_name}, a range of {IDS_WANTED} that nobody has"
            yield Finding(Verdict.FAULT, f"/{file}: {count or 'no'} ids for {entry.pw_name}", advice)


def user_namespaces(machine: Machine) -> Iterable[Finding]:
    """By making some, with a network of their own."""
    way = KINDS[IsolationName.UNSHARE].way
    complaint = machine.complaint(way.trial) or machine.complaint([*way.namespace, "--net", "true"])
    if complaint is None:
        yield Finding(Verdict.OK, "user, mount, pid, ipc, uts and network namespaces can be made")
    else:
        yield Finding(Verdict.FAULT, f"namespaces cannot be made: {complaint}", "; ".join(_namespace_advice(machine)))
    if machine.read("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        verdict = Verdict.FAULT if complaint else Verdict.NOTE
        yield Finding(
            verdict,
            "AppArmor restricts user namespaces to programs with a profile that allows them",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile with `userns,` for /usr/bin/unshare",
        )


def namespaces_of_root(isolation: IsolationName, machine: Machine) -> Iterable[Finding]:
    """The same without a user namespace."""
    complaint = machine.complaint([*KINDS[isolation].way.namespace, "--net", "true"])
    if complaint is None:
        yield Finding(Verdict.OK, "mount, pid, ipc, uts and network namespaces can be made")
    else:
        advice = "in a container, have CAP_SYS_ADMIN, and a seccomp profile that allows unshare(2) and mount(2)"
        yield Finding(Verdict.FAULT, f"namespaces cannot be made: {complaint}", advice)


def _namespace_advice(machine: Machine) -> Iterable[str]:
    if machine.read("proc/sys/kernel/unprivileged_userns_clone") == "0":
        yield "sysctl kernel.unprivileged_userns_clone=1"
    if machine.read("proc/sys/user/max_user_namespaces") == "0":
        yield "sysctl user.max_user_namespaces=10000"
    if not (machine.root / "proc/self/ns/user").exists():
        yield "boot a kernel with CONFIG_USER_NS"
    yield "in a container, its seccomp profile and capabilities may forbid them"


def overlay(config: BuilddConfig, machine: Machine) -> Iterable[Finding]:
    """By mounting one where builds would be."""
    unprivileged = config.isolation is IsolationName.UNSHARE
    way, where = KINDS[config.isolation].way, f"the file system of {config.directory}"
    if machine.complaint(way.trial) is not None:
        return  # There is nothing to try it in, which is said already.
    namespace = way.namespace
    with tempfile.TemporaryDirectory(dir=_existing(config.directory, os.W_OK), prefix="doctor-") as scratch:
        mounting = _OVERLAY.format("userxattr," if unprivileged else "")
        complaint = machine.complaint([*namespace, "sh", "-ec", mounting], Path(scratch))
        machine.complaint([*namespace, "rm", "-rf", "w"], Path(scratch))  # The kernel's own, and of mode 0.
    if complaint is None:
        yield Finding(Verdict.OK, f"overlays can be mounted{' in user namespaces' if unprivileged else ''}, on {where}")
    else:
        newer = "Linux 5.11 or newer, and " if unprivileged else ""
        advice = f"{newer}a DIRECTORY on ext4, xfs or btrfs: not on an overlay, NFS or the like"
        yield Finding(Verdict.FAULT, f"no overlay can be mounted on {where}: {complaint}", advice)


def seccomp(machine: Machine) -> Iterable[Finding]:
    """The kernel's filters, and the library that writes them."""
    if not machine.read("proc/sys/kernel/seccomp/actions_avail"):
        yield Finding(Verdict.FAULT, "seccomp: this kernel has no filters", "boot a kernel with CONFIG_SECCOMP_FILTER")
        return
    complaint = machine.complaint([sys.executable, "-c", "import seccomp"])
    if complaint is None:
        yield Finding(Verdict.OK, "seccomp: system calls of builds can be filtered")
    else:
        yield Finding(
            Verdict.FAULT, f"seccomp: no Python module of that name: {complaint}", "apt install python3-seccomp"
        )


def backends(chosen: IsolationName, machine: Machine) -> Iterable[Finding]:
    """What else builds could be shut in with."""
    yield Finding(Verdict.NOTE, f"isolation: `{chosen}`, which needs what is above")
    for name in IsolationName:
        lacking = [program for program in KINDS[name].way.programs if machine.which(program) is None]
        if os.geteuid() != 0 and name is not IsolationName.UNSHARE:
            lacking.insert(0, "a daemon that is root")
        if name is not chosen:
            state = f"would need {', '.join(lacking)}" if lacking else "could be tried as well"
            yield Finding(Verdict.NOTE, f"isolation `{name}`: {state}")


def control_groups(config: BuilddConfig) -> Iterable[Finding]:
    """Of the daemon that runs, if one does: systemd gives it others than this command has."""
    pid = _daemon(config.directory)
    found = cgroups.find(config.cgroup, Path("/proc", pid or "self"))
    usable = [hierarchy for hierarchy in found if _is_ours(hierarchy)]
    whose = f"of the daemon, process {pid}" if pid else "of this command; the service may have others"
    for hierarchy in (each for each in found if each.controllers):
        verdict, state = (Verdict.OK, "delegated") if hierarchy in usable else (Verdict.NOTE, "not ours")
        yield Finding(verdict, f"{hierarchy}: {state} ({whose})")
    missing = {"memory", "pids"} - Groups(tuple(usable), ()).controllers
    if missing:
        advice = (
            "run the daemon by its systemd unit, which has Delegate=; where the controllers are of version 1, make"
            " a group in each hierarchy, chown it to this user, and name it in buildd.conf: [limits] cgroup"
        )
        yield Finding(Verdict.WARNING, f"control groups cannot limit: {', '.join(sorted(missing))}", advice)
    limits = configured_limits(config)
    for line in facts(limits, {"memory", "pids"} - missing):
        yield Finding(Verdict.NOTE, line)


def limits_in_force(config: BuilddConfig, machine: Machine) -> Iterable[Finding]:
    """Whether the machine has what a build may use."""
    memory, swap = (_meminfo_bytes(machine, name) for name in ("MemTotal", "SwapTotal"))
    said = f"memory: {size(memory)} in this machine, {size(swap)} of swap; {size(config.memory_bytes)} for a build"
    if config.memory_bytes > memory + swap:
        advice = f"[limits] memory = {memory + swap >> 20}M at most; empty is nine tenths of it, and all swap"
        yield Finding(Verdict.WARNING, f"{said}: the kernel would end what it likes before that is reached", advice)
    else:
        yield Finding(Verdict.OK if memory >= 1 << 30 else Verdict.WARNING, said)


def disk(config: BuilddConfig) -> Iterable[Finding]:
    """Space and inodes, where builds are."""
    found = Disk.of(_existing(config.directory))
    said = f"disk of {config.directory}: {size(found.free_bytes)} free"
    if found.bytes_per_file:
        said += f", {found.free_files} inodes free"
    if found.is_full:
        yield Finding(Verdict.FAULT, said, "make room, or name another [builder] directory")
    elif found.free_bytes < min(_SPACE_WANTED, config.disk_bytes):
        yield Finding(Verdict.WARNING, f"{said}: builds may fail for want of space")
    else:
        yield Finding(Verdict.OK, said)


def clock(now: datetime) -> Iterable[Finding]:
    """Signatures and certificates are of no use with a wrong one."""
    if now < EARLIEST:
        yield Finding(Verdict.FAULT, f"clock: it says {now:%Y-%m-%d %H:%M}", "set it; apt install systemd-timesyncd")
    else:
        yield Finding(Verdict.OK, f"clock: {now:%Y-%m-%d %H:%M} UTC")


def address(config: BuilddConfig) -> Iterable[Finding]:
    """Where the daemon would listen."""
    where = f"listens on {config.host or 'all addresses'}, port {config.port}"
    if config.host in ("127.0.0.1", "::1", "localhost"):
        yield Finding(Verdict.OK, f"buildd.conf: {where}")
    else:
        yield Finding(Verdict.NOTE, f"buildd.conf: {where}: whoever connects can give orders, so let only the master")


def _meminfo_bytes(machine: Machine, name: str) -> int:
    """What proc_meminfo(5) has by this name."""
    found = re.search(rf"^{name}: +(\d+) kB", machine.read("proc/meminfo"), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def _ranges(text: str) -> list[tuple[str, int]]:
    """Owner and number of ids of each line of subuid(5)."""
    fields = [line.split(":") for line in text.splitlines()]
    return [(each[0], int(each[2])) for each in fields if len(each) == 3 and each[2].isdigit()]


def _existing(path: Path, mode: int = os.F_OK) -> Path:
    """The path, or what is next above it and there; below /tmp, when that may not be used."""
    while not path.exists():
        path = path.parent
    return path if os.access(path, mode) else Path(tempfile.gettempdir())


def _owner(directory: Path) -> str:
    """The user that the directory is of, when it is one for the daemon; else the one that the package makes."""
    try:
        owner = directory.owner()
    except (OSError, KeyError):
        owner = "root"
    return owner if owner != "root" else "debfarm-buildd"


def _daemon(directory: Path) -> str:
    """The process that has this directory, if there is one."""
    try:
        pid = (directory / "lock").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return pid if pid.isdigit() and Path("/proc", pid, "cgroup").exists() else ""


def _is_ours(hierarchy: Hierarchy) -> bool:
    """Whether this user may make groups there."""
    return os.access(hierarchy.place, os.W_OK | os.X_OK) and os.access(hierarchy.place / "cgroup.procs", os.W_OK)
