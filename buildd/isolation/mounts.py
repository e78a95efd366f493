"""What enter.py mounts for a command of a build: its root, what every system expects in it, or a view of the host.

Nothing is imported that takes milliseconds, and no program is started, see there.
"""

import ctypes
import fcntl
import os
import struct

# mount(2), umount2(2)
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC = 1, 2, 4, 8, 32, 4096, 16384
_NOATIME, _NODIRATIME, _RELATIME = 1024, 2048, 1 << 21
_ST_RELATIME = 4096  # statvfs(3), where all others have the same numbers.
_MNT_DETACH = 2
_QUIET = _NOSUID | _NODEV | _NOEXEC
# ioctl_iflags(2), on most machines; where the numbers are others, or the file system has no such flag, it is refused.
_LONG = struct.calcsize("l")
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80006601 | _LONG << 16, 0x40006602 | _LONG << 16
_FS_TOPDIR_FL = 0x20000
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
    *("os-release", "passwd", "perl", "python3", "sbuild", "services", "shells", "timezone"),
)

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
        self.visible = given.get("visible", [])  # ... show it the host at: _HOST, the root, and these directories.
        self.privileged = "privileged" in given  # Root here is root of the machine.
        self.container = "container" in given  # The command makes a container of the root, by itself.
        self.cwd = given["cwd"][0]  # Where the command begins, as it sees it.


def mount_overlay(setup: Setup) -> None:
    """Mount the root, and nothing on it; and so that nothing is written to the disk before its time.

    Without "volatile" (Linux 5.10) the end of each command would wait until all is on the disk that anybody has written
    to this file system; nothing in a build needs to outlive a power cut. The kernel keeps a mark, as after one the
    layer must not be used: who uses it has to see to that (layers.py knows the boot that a layer is of).
    """
    # By number, as a build can read the options of its mounts: where things are on the host is nothing to it.
    directories = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (*setup.lower, setup.upper, setup.work)]
    *lower, upper, work = (f"/proc/self/fd/{directory}" for directory in directories)
    layers = f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work}"
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
    for directory in directories:
        os.close(directory)
    spread(f"{setup.work}/work")


def mount_root(setup: Setup) -> None:
    """Mount on the root what every system expects: /proc, /sys, /dev."""
    root = setup.root
    for name in ("dev", "proc", "sys"):
        _make_real_directory(f"{root}/{name}")
    mount_proc(f"{root}/proc")
    _mount("sysfs", f"{root}/sys", "sysfs", _QUIET | _RDONLY)
    for name in _MASKED_SYS:
        _mask(f"{root}/sys/{name}")
    _mount("dev", f"{root}/dev", "tmpfs", _NOSUID, "mode=755,size=1m")  # What is in there is memory, and not counted.
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

    sbuild only chroots, which root of the namespace can leave: there must be nothing to find outside.
    """
    view = setup.view
    _mount("view", view, "tmpfs", _NOSUID | _NODEV, "mode=755,size=256m")  # Memory as well.
    for name in ("etc", "proc", "dev", "tmp", "run", "var/tmp"):
        os.makedirs(f"{view}/{name}")
    for path in (*(f"/{name}" for name in _HOST), *(f"/etc/{name}" for name in _HOST_ETC)):
        _show(path, setup)
    for name in ("tmp", "var/tmp"):
        os.chmod(f"{view}/{name}", 0o1777)
    mount_proc(f"{view}/proc")
    for path in (setup.root, *setup.visible):
        os.makedirs(view + path, exist_ok=True)
        _bind(path, view + path)
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


def change_root(root: str) -> None:
    """Make `root` the root, and take the old one away.

    pivot_root, not chroot: there must be no way back, and nested user namespaces must work (a chrooted process may not
    make one). The old root is stacked on the new one and taken away from there: pivot_root(2), "." and ".".
    """
    os.chdir(root)
    check(_libc.pivot_root(b".", b"."), "pivot_root")
    check(_libc.umount2(b".", _MNT_DETACH), "the old root")
    os.chdir("/")


def spread(directory: str) -> None:
    """Have the file system keep apart what comes to be in a directory: where overlayfs makes directories of a layer.

    ext4 without a journal looks at each inode of a block group that was freed in the last minutes before it takes
    another, and dpkg frees some with each package: to install fifty took a third longer where all was in one group.
    """
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        (flags,) = struct.unpack_from("I", fcntl.ioctl(place, _FS_IOC_GETFLAGS, bytes(_LONG)))
        fcntl.ioctl(place, _FS_IOC_SETFLAGS, struct.pack("I", flags | _FS_TOPDIR_FL))
    except OSError:
        pass  # Another file system has other ways.
    finally:
        os.close(place)


def check(answer: int, what: str) -> None:
    """:raises OSError: a call of the C library failed."""
    if answer != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount by mount(2): the newer calls take no option of over 256 bytes, and an overlay has all its layers in one.

    :raises OSError: also for options that the kernel would cut off without a word.
    """
    if len(options.encode()) >= os.sysconf("SC_PAGE_SIZE"):
        raise OSError(f"{kind} at {target}: its options are too long")
    words = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    check(_libc.mount(*words), f"{kind} at {target}")


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


def _show(path: str, setup: Setup) -> None:
    """Show in the view what is of the host, and not to be changed, whoever owns it. Not there is fine."""
    target = setup.view + path
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if not os.path.exists(path):
        return
    if os.path.isdir(path):
        os.mkdir(target)
    else:
        _touch(target)
    if setup.privileged:
        _bind_read_only(path, target)
    else:  # Where something is mounted below it, it cannot be shown without that.
        _bind(path, target)
        _make_read_only(target)


def _make_real_directory(path: str) -> None:
    """A symbolic link of the chroot's would be followed on the host's side."""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            os.unlink(path)
        os.mkdir(path, 0o755)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
