"""Mount the root of a build and run a command in it, or beside it: `python3 enter.py SETTING ... -- COMMAND ...`.

A program of its own, run as root of fresh mount, pid, ipc, uts and network namespaces; and of a user namespace, unless
the daemon is root itself. What it mounts nobody else sees, and it goes with the namespace. A SETTING is NAME=VALUE, see
`Setup`. Its exit status is the command's. It inherits a socket, CONTROL, by which it tells the daemon (handover.py)
that the command begins, or why it cannot; and FILTER, a program for seccomp(2) that says which system calls are refused
from then on (seccomp.py).

It stays as the first process of the pid namespace, to reap what loses its parent: tests wait for daemons that they
ended to be gone. When it exits, the kernel ends everything else in the namespace.

Python, and not a shell: between pivot_root(2) and taking the old root away nothing of the chroot's may run. Each build
runs it a dozen times, and is to begin in a blink: it starts no program but the command, and imports nothing that takes
milliseconds (json, pathlib, signal, socket, subprocess and typing would take longer than all that is done here).
"""

import _socket
import ctypes
import fcntl
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# mount(2), umount2(2)
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC = 1, 2, 4, 8, 32, 4096, 16384
_NOATIME, _NODIRATIME, _RELATIME = 1024, 2048, 1 << 21
_ST_RELATIME = 4096  # statvfs(3), where all others have the same numbers.
_MNT_DETACH = 2
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # netdevice(7)
_SCM_RIGHTS = 1  # unix(7)
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 24, 38  # prctl(2)
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522  # capget(2)
# capabilities(7): what a system without hardware of its own needs to install packages; numbers 0 to 63 are taken away
# but for CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT,
# SYS_PTRACE, MKNOD, AUDIT_WRITE, SETFCAP. Without SYS_ADMIN nothing is mounted, without SYS_RESOURCE no limit raised.
_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 19, 27, 29, 31)
_OF_NAMESPACES_ONLY = (19, 27, 29)  # Not where root is root of the machine, whose disks a device would be.
_QUIET = _NOSUID | _NODEV | _NOEXEC
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "fd/0"),
    ("stdout", "fd/1"),
    ("stderr", "fd/2"),
)
# What container runtimes hide, as it tells of the whole machine, or is a way to it; names that are not there are fine.
_MASKED_PROC = ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list")
_READ_ONLY_PROC = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_MASKED_SYS = ("firmware", "devices/virtual/powercap")
_HOST = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")  # Programs and libraries.
# What they are configured by; nothing that has passwords or keys in it, for root of the machine could read it.
_HOST_ETC = (
    *("alternatives", "debian_version", "devscripts.conf", "dpkg", "environment", "group", "host.conf", "hosts"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "login.defs", "nsswitch.conf"),
    *("os-release", "passwd", "perl", "python3", "sbuild", "schroot", "services", "shells", "timezone"),
)
_PODMANS_OWN = ("run/.containerenv", "run/podman-init", "etc/mtab", "etc/hostname")  # It leaves them in a root.
# When processors are short, the daemon's answers come before the build; and so does the build's end: this process has
# to run to see that it was killed, before the thousand others that die with it.
_NICENESS = 5
_SIGNALS = [*range(1, 32), *range(34, 65)]  # 32 and 33 are the C library's own (signal(7)).
_HOST_NAME = b"localhost"  # The same for every build, and one that resolves.

CONTROL, FILTER = 3, 4  # The files that are inherited. What is said by the first:
LISTENING = b"listening"  # ... comes with a socket that listens at PROXY; ...
SERVED, REFUSED = b"served", b"refused"  # ... the daemon's answers to that.
ENTERED = b"entered"  # Anything else is the reason why it could not be.
CONTAINER_BEGAN = "/run/container.pid"  # Podman makes it.
PROXY = ("127.0.0.1", 3128)  # Where commands find the proxy.
_PROXY_BACKLOG = 128

_libc = ctypes.CDLL(None, use_errno=True)


class Setup:
    """What to enter; all paths are absolute, and the host's."""

    def __init__(self, settings: list[str]) -> None:
        given: dict[str, list[str]] = {}
        for setting in settings:
            name, _, value = setting.partition("=")
            given.setdefault(name, []).append(value)
        self.root = given["root"][0]  # Where to mount the overlay.
        self.lower = given["lower"]  # What it is made of, the topmost first ...
        self.upper = given["upper"][0]
        self.work = given["work"][0]
        self.proxied = "proxied" in given  # The daemon is to serve a proxy.
        self.view = given.get("view", [""])[0]  # "": the command is run in the root. Else an empty directory, to ...
        # ... show it the host at, where it sees _HOST and the root, and at each of these paths what is at another.
        self.binds = [bind.partition("=")[::2] for bind in given.get("bind", [])]
        self.privileged = "privileged" in given  # Root here is root of the machine.
        self.container = "container" in given  # The command makes a container of the root, by itself.
        self.cwd = given["cwd"][0]  # Where the command begins, as it sees it.


def main() -> "NoReturn":
    """Enter the root that the command line describes, and exit as the command does."""
    dashes = sys.argv.index("--")
    setup = Setup(sys.argv[1:dashes])
    control = _socket.socket(fileno=CONTROL)
    try:
        enter(setup, control)
    except OSError as exc:
        control.send(str(exc).encode()[:4096])
        sys.exit(1)
    if setup.container:
        os._exit(run_container(setup, sys.argv[dashes + 1 :], control))
    control.send(ENTERED)
    os.closerange(CONTROL, os.sysconf("SC_OPEN_MAX"))
    os._exit(run(sys.argv[dashes + 1 :], setup.cwd))


def enter(setup: Setup, control: _socket.socket) -> None:
    """Make the root, or the view beside it, and make it this program's own."""
    os.setsid()  # A signal to all of one's process group heeds no namespace, and root here has the daemon's user id.
    _libc.sethostname(_HOST_NAME, len(_HOST_NAME))
    bring_up_loopback()
    if setup.proxied:
        hand_over_listener(control)
    mount_overlay(setup)
    if setup.container:
        clear_host_for_podman()
    else:
        mount_root(setup)
        change_root(show_host(setup) if setup.view else setup.root)
    if setup.proxied and control.recv(100) != SERVED:
        raise OSError("the daemon serves no proxy")
    if not setup.container:
        taken = _OF_NAMESPACES_ONLY if setup.privileged else ()
        drop_capabilities([number for number in _CAPABILITIES if number not in taken])
        load_filter(os.pread(FILTER, 1 << 20, 0))


def mount_overlay(setup: Setup) -> None:
    """Mount the root, and nothing on it; and so that nothing is written to the disk before its time.

    Without "volatile" (Linux 5.10) the end of each command would wait until all is on the disk that anybody has written
    to this file system; nothing in a build needs to outlive a power cut. The kernel keeps a mark, as after one the
    layer must not be used: who uses it has to see to that (layers.py knows the boot that a layer is of).
    """
    layers = f"lowerdir={':'.join(setup.lower)},upperdir={setup.upper},workdir={setup.work}"
    options = layers if setup.privileged else f"userxattr,{layers}"
    mark = f"{setup.work}/work/incompat/volatile"
    if os.path.isdir(mark):  # The command before this one has ended, and left it.
        for name in os.listdir(mark):
            os.unlink(f"{mark}/{name}")
        os.rmdir(mark)
    try:
        _mount("overlay", setup.root, "overlay", 0, f"{options},volatile")
    except OSError:
        _mount("overlay", setup.root, "overlay", 0, options)


def mount_root(setup: Setup) -> None:
    """Mount on the root what every system expects: /proc, /sys, /dev."""
    root = setup.root
    for name in ("dev", "proc", "sys"):
        _make_real_directory(f"{root}/{name}")
    mount_proc(f"{root}/proc")
    _mount("sysfs", f"{root}/sys", "sysfs", _QUIET | _RDONLY)
    for name in _MASKED_SYS:
        _mask(f"{root}/sys/{name}")
    _mount("dev", f"{root}/dev", "tmpfs", _NOSUID, "mode=755")
    for name in _DEVICES:
        make_device(f"/dev/{name}", f"{root}/dev/{name}", own=setup.privileged)
    for name in ("pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    _mount("devpts", f"{root}/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    _mount("shm", f"{root}/dev/shm", "tmpfs", _NOSUID | _NODEV, "mode=1777")
    for name, target in _LINKS:
        os.symlink(target, f"{root}/dev/{name}")


def make_device(device: str, target: str, *, own: bool) -> None:
    """Have a device there.

    :param own: not the host's file, whose mode root of the machine could change; only such a root can make one.
    """
    if own:
        os.mknod(target, 0o20666, os.stat(device).st_rdev)
        os.chmod(target, 0o666)
    else:
        _touch(target)
        _bind(device, target)


def mount_proc(proc: str) -> None:
    """Mount /proc with what builds need of it."""
    _mount("proc", proc, "proc", _QUIET)
    for name in _MASKED_PROC:
        _mask(f"{proc}/{name}")
    for name in _READ_ONLY_PROC:
        path = f"{proc}/{name}"
        if os.path.exists(path):
            _bind(path, path)
            _make_read_only(path)


def show_host(setup: Setup) -> str:
    """Make a view of the host that has its programs and the root, but nobody's files and nothing of other builds.

    sbuild and schroot only chroot, which root of the namespace can leave: there must be nothing to find outside.
    """
    view = setup.view
    _mount("view", view, "tmpfs", _NOSUID | _NODEV, "mode=755")
    for name in _HOST:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{view}/{name}")
        elif os.path.isdir(f"/{name}"):
            os.mkdir(f"{view}/{name}")
            _show(f"/{name}", f"{view}/{name}", setup)
    for name in ("etc", "proc", "dev", "tmp", "run", "var/tmp", "var/lib/schroot"):
        os.makedirs(f"{view}/{name}")
    for name in _HOST_ETC:
        if os.path.islink(f"/etc/{name}"):
            os.symlink(os.readlink(f"/etc/{name}"), f"{view}/etc/{name}")
        elif os.path.exists(f"/etc/{name}"):
            _make_room(f"{view}/etc/{name}", os.path.isdir(f"/etc/{name}"))
            _show(f"/etc/{name}", f"{view}/etc/{name}", setup)
    for name in ("tmp", "var/tmp"):
        os.chmod(f"{view}/{name}", 0o1777)
    mount_proc(f"{view}/proc")
    for path, source in ((setup.root, setup.root), *setup.binds):
        _make_room(view + path, os.path.isdir(source))
        _bind(source, view + path)
    _bind(f"{setup.root}/dev", f"{view}/dev")
    return view


def clear_host_for_podman() -> None:
    """Have podman find a host that has this network, none of its own files of an earlier start, and no control groups.

    It keeps its records in /run, its locks in /dev/shm: both go with this namespace, so that nothing of a container is
    ever left. In which control groups it is, this process has been told; version 1 beside 2, podman's crun refuses.
    """
    _mount("proc", "/proc", "proc", _QUIET)
    _mount("sysfs", "/sys", "sysfs", _QUIET | _RDONLY)
    groups = "/sys/fs/cgroup"
    _mount("cgroup", groups, "tmpfs", _QUIET | _RDONLY, "mode=755")
    for place in ("/run", "/dev/shm"):
        _mount("podman", place, "tmpfs", _NOSUID | _NODEV, "mode=755")


def run_container(setup: Setup, command: list[str], control: _socket.socket) -> int:
    """Run the command, which is podman, and tell the daemon whether there was a container; its exit status."""
    os.set_inheritable(CONTROL, False)
    os.set_inheritable(FILTER, False)
    missing = [name for name in _PODMANS_OWN if not os.path.lexists(f"{setup.root}/{name}")]
    status = run(command, setup.cwd)
    if os.path.exists(CONTAINER_BEGAN):
        control.send(ENTERED)
    for name in missing:  # The container has ended: nobody makes links of these directories meanwhile.
        _remove_below(setup.root, name)
    return status


def bring_up_loopback() -> None:
    """Builds may talk to themselves."""
    request = struct.pack("16sH14x", b"lo", _IFF_UP)  # struct ifreq, netdevice(7)
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    fcntl.ioctl(any_socket.fileno(), _SIOCSIFFLAGS, request)
    any_socket.close()


def hand_over_listener(control: _socket.socket) -> None:
    """Listen for who wants to reach the network; the daemon, which is outside, answers."""
    listening = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listening.bind(PROXY)
    listening.listen(_PROXY_BACKLOG)
    control.sendmsg([LISTENING], [(_socket.SOL_SOCKET, _SCM_RIGHTS, struct.pack("i", listening.fileno()))])
    listening.close()


def change_root(root: str) -> None:
    """Make `root` the root, and take the old one away.

    pivot_root, not chroot: there must be no way back, and nested user namespaces must work (a chrooted process may not
    make one). The old root is stacked on the new one and taken away from there: pivot_root(2), "." and ".".
    """
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "the old root")
    os.chdir("/")


def drop_capabilities(kept_numbers: list[int]) -> None:
    """Have no others than these, nor have what this process starts."""
    for number in range(64):
        if number not in kept_numbers:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # Fails for those that there are not.
    kept = sum(1 << number for number in kept_numbers)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)), "capset")


def load_filter(seccomp_filter: bytes) -> None:
    """Make no system calls but those allowed, and gain nothing by starting a program; nor does what is started."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    kept_here = ctypes.create_string_buffer(seccomp_filter, len(seccomp_filter))
    program = struct.pack("HP", len(seccomp_filter) // 8, ctypes.addressof(kept_here))  # struct sock_fprog
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0), "seccomp")


def run(command: list[str], cwd: str) -> int:
    """Run the command, and reap whatever ends, until it ends; its exit status, as a shell gives it."""
    os.umask(0o022)
    try:
        os.chdir(cwd)
        # With no signal ignored or blocked, whatever this program was given.
        child = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], setsigdef=_SIGNALS)
        os.setpriority(os.PRIO_PROCESS, child, _NICENESS)
    except OSError as exc:
        os.write(2, f"{command[0]}: {exc.strerror}\n".encode())
        return 127 if isinstance(exc, FileNotFoundError) else 126
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount by mount(2): the newer calls take no option of over 256 bytes, and an overlay has all its layers in one.

    :raises OSError: also for options that the kernel would cut off without a word.
    """
    if len(options.encode()) >= os.sysconf("SC_PAGE_SIZE"):
        raise OSError(f"{kind} at {target}: its options are too long")
    words = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(_libc.mount(*words), f"{kind} at {target}")


def _bind(source: str, target: str) -> None:
    """Show a file or directory at another place, with what is mounted below it."""
    _mount(source, target, "", _BIND | _REC)


def _make_read_only(path: str) -> None:
    """Make a mount read-only, whoever owns the files there."""
    flags = os.statvfs(path).f_flag  # In a user namespace, what the host has set may not be left out.
    relatime = _RELATIME if flags & _ST_RELATIME else 0
    _mount("", path, "", _REMOUNT | _BIND | _RDONLY | relatime | flags & (_QUIET | _NOATIME | _NODIRATIME))


def _mask(path: str) -> None:
    """Show nothing there."""
    if os.path.isdir(path):
        _mount("none", path, "tmpfs", _QUIET | _RDONLY, "nr_inodes=1,mode=555")
    elif os.path.exists(path):
        _bind("/dev/null", path)
        _mount("", path, "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NOEXEC)  # Nor may it be changed from there.


def _bind_read_only(source: str, target: str) -> None:
    """The same, but for what is mounted below; there may be kernels that cannot make all that read-only at once."""
    _mount(source, target, "", _BIND)
    _mount("", target, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)


def _show(source: str, target: str, setup: Setup) -> None:
    """Show what is of the host, and not to be changed, whoever owns it."""
    if setup.privileged:
        _bind_read_only(source, target)
    else:  # Where something is mounted below it, it cannot be shown without that.
        _bind(source, target)
        _make_read_only(target)


def _check(answer: int, what: str) -> None:
    """:raises OSError: a call of the C library failed."""
    if answer != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _make_real_directory(path: str) -> None:
    """A symbolic link of the chroot's would be followed on the host's side."""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            os.unlink(path)
        os.mkdir(path, 0o755)


def _make_room(path: str, for_directory: bool) -> None:
    """Make something to mount on, where there is nothing."""
    if os.path.islink(path):  # It would lead to another file of the host, of which this is no view.
        raise OSError(f"{path} is a symbolic link: nothing can be shown in its place")
    if os.path.exists(path):
        return
    os.makedirs(path if for_directory else os.path.dirname(path), exist_ok=True)
    if not for_directory:
        _touch(path)


def _remove_below(root: str, name: str) -> None:
    """Remove a file, of which the directory is no link to elsewhere."""
    directory, _, file = name.rpartition("/")
    try:
        within = os.open(f"{root}/{directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.unlink(file, dir_fd=within)
        finally:
            os.close(within)
    except OSError:
        return  # It is not there, or the build's own by now.


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


if __name__ == "__main__":
    main()
