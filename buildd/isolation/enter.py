"""Mount the root of a build and run a command in it, or beside it: `python3 enter.py SETTING ... -- COMMAND ...`.

A program of its own, run as root of fresh mount, pid, ipc, uts and network namespaces; and of a user namespace, unless
the daemon is root itself. What it mounts nobody else sees, and it goes with the namespace. A SETTING is NAME=VALUE, see
`mounts.Setup`. Its exit status is the command's. It inherits a socket, CONTROL, by which it tells the daemon
(handover.py) that the command begins, or why it cannot; and FILTER, a program for seccomp(2) that says which system
calls are refused from then on (seccomp.py).

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

if __name__ == "__main__":
    # Isolated Python does not look beside its program; and the package has imports that take long.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import mounts  # type: ignore[import-not-found]
else:
    from buildd.isolation import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

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
_PODMANS_OWN = ("run/.containerenv", "run/podman-init", "etc/mtab", "etc/hostname")  # It leaves them in a root.

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> "NoReturn":
    """Enter the root that the command line describes, and exit as the command does."""
    dashes = sys.argv.index("--")
    setup = mounts.Setup(sys.argv[1:dashes])
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


def enter(setup: mounts.Setup, control: _socket.socket) -> None:
    """Make the root, or the view beside it, and make it this program's own."""
    os.setsid()  # A signal to all of one's process group heeds no namespace, and root here has the daemon's user id.
    _libc.sethostname(_HOST_NAME, len(_HOST_NAME))
    bring_up_loopback()
    if setup.proxied:
        hand_over_listener(control)
    mounts.mount_overlay(setup)
    if setup.container:
        mounts.clear_host_for_podman()
    else:
        mounts.mount_root(setup)
        mounts.change_root(mounts.show_host(setup) if setup.view else setup.root)
    if setup.proxied and control.recv(100) != SERVED:
        raise OSError("the daemon serves no proxy")
    if not setup.container:
        taken = _OF_NAMESPACES_ONLY if setup.privileged else ()
        drop_capabilities([number for number in _CAPABILITIES if number not in taken])
        load_filter(os.pread(FILTER, 1 << 20, 0))


def run_container(setup: mounts.Setup, command: list[str], control: _socket.socket) -> int:
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


def drop_capabilities(kept_numbers: list[int]) -> None:
    """Have no others than these, nor have what this process starts."""
    for number in range(64):
        if number not in kept_numbers:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # Fails for those that there are not.
    kept = sum(1 << number for number in kept_numbers)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    mounts.check(_libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)), "capset")


def load_filter(seccomp_filter: bytes) -> None:
    """Make no system calls but those allowed, and gain nothing by starting a program; nor does what is started."""
    mounts.check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    kept_here = ctypes.create_string_buffer(seccomp_filter, len(seccomp_filter))
    program = struct.pack("HP", len(seccomp_filter) // 8, ctypes.addressof(kept_here))  # struct sock_fprog
    mounts.check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0), "seccomp")


def run(command: list[str], cwd: str) -> int:
    """Run the command, and reap whatever ends, until it ends; its exit status, as a shell gives it."""
    os.umask(0o022)
    try:
        os.chdir(cwd)
        # With no signal ignored or blocked, whatever this program was given.
        child = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], setsigdef=_SIGNALS)
    except OSError as exc:
        os.write(2, f"{command[0]}: {exc.strerror}\n".encode())
        return 127 if isinstance(exc, FileNotFoundError) else 126
    try:  # noqa: SIM105  Importing contextlib would take milliseconds.
        os.setpriority(os.PRIO_PROCESS, child, _NICENESS)
    except PermissionError:
        pass  # It has become another user, and is as it is.
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


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


if __name__ == "__main__":
    main()
