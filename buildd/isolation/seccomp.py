"""The system calls that builds cannot make, as a program for the kernel (seccomp(2)), which enter.py loads.

Namespaces keep a build from what is others'; the filter keeps it from those parts of the kernel that no build needs and
that have been the way out of namespaces before, and from those that know no namespaces. One for all commands, as a
maintainer script is a stranger's as well.

What is refused is refused in the way that makes programs go on without it: ENOSYS as of a kernel that does not have it,
where a library has another way then; EPERM else. Nothing is logged and nobody killed: tests of many packages try what
they may do.

libseccomp knows the numbers of the calls, and what each architecture has instead of them.
"""

import errno
import os
import platform
from dataclasses import dataclass
from typing import Any

import seccomp

_32_BITS = 0xFFFFFFFF  # The kernel looks at no more of these arguments, whatever is in the other half of a register.


@dataclass(frozen=True)
class Only:
    """A call is refused when these bits of one of its arguments have this value."""

    argument: int  # The first is 0.
    mask: int
    value: int


@dataclass(frozen=True)
class Denial:
    """Calls that are refused, and why."""

    why: str
    calls: tuple[str, ...]
    error: int = errno.EPERM
    only: tuple[Only, ...] = ()  # Refused for each of these; empty: always.


def _any_bit(argument: int, *bits: int) -> tuple[Only, ...]:
    return tuple(Only(argument, bit, bit) for bit in bits)


# clone(2): a namespace each, of mounts, cgroups, host names, ipc, users, processes, network.
_NEW = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_NEW_TIME = 0x80  # For unshare(2); a part of the signal's number for clone(2).
_TIOCSTI, _TIOCLINUX, _AF_VSOCK = 0x5412, 0x541C, 40
_KEYS = ("add_key", "request_key", "keyctl")
_MODULES = ("init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms")
_OTHER_KERNEL = ("kexec_load", "kexec_file_load", "reboot")
_MOUNT = ("mount", "umount", "umount2", "pivot_root")
_NEW_MOUNT = ("fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr")
_URING = ("io_uring_setup", "io_uring_enter", "io_uring_register")

DENIALS = (
    Denial("another kernel, or none", _OTHER_KERNEL),
    Denial("code in the kernel", _MODULES),
    Denial("programs in the kernel: what builds need of them is the filter of a socket", ("bpf",)),
    Denial("the whole machine's counters and samples", ("perf_event_open", "lookup_dcookie")),
    Denial("stops the kernel amid a copy, which makes its races easy to win", ("userfaultfd",), errno.ENOSYS),
    Denial("files and sockets past this filter; the richest source of holes for years", _URING, errno.ENOSYS),
    Denial("keys belong to users, in no namespace of a build's", _KEYS, errno.ENOSYS),
    Denial("opens any file of a disk by its number", ("open_by_handle_at",)),
    Denial("the machine's memory and disks", ("swapon", "swapoff", "quotactl", "quotactl_fd", "acct")),
    Denial("the machine's clock", ("settimeofday", "stime", "clock_settime", "clock_settime64")),
    Denial("the machine's ports", ("ioperm", "iopl")),
    Denial("the kernel's log", ("syslog",)),
    Denial("old, and unused", ("nfsservctl", "uselib", "ustat", "vm86", "vm86old", "_sysctl")),
    Denial("types into a terminal as if its user did", ("ioctl",), only=(Only(1, _32_BITS, _TIOCSTI),)),
    Denial("reads and writes a console", ("ioctl",), only=(Only(1, _32_BITS, _TIOCLINUX),)),
    Denial("namespaces of its own: root of one reaches much more of the kernel", ("clone",), only=_any_bit(0, *_NEW)),
    Denial("the same", ("unshare",), only=_any_bit(0, *_NEW, _NEW_TIME)),
    Denial("namespaces that are there", ("setns",)),
    Denial("its flags are in memory, where no filter sees them; libraries take clone then", ("clone3",), errno.ENOSYS),
    # 32-bit x86 programs get one by socketcall(2), too, whose arguments no filter sees.
    Denial(
        "talks to the host of a virtual machine, past the network namespace",
        ("socket",),
        errno.EAFNOSUPPORT,
        (Only(0, _32_BITS, _AF_VSOCK),),
    ),
    # It would be refused for want of CAP_SYS_ADMIN as well, which enter.py takes away.
    Denial("mounts: of a namespace of its own, and of the build's", _MOUNT),
    Denial("mounts, newer; mount(8) takes the older then, and hears EPERM", _NEW_MOUNT, errno.ENOSYS),
)

# A kernel runs programs of these as well; a call that is not looked at there would be a way round.
_OTHERS = {
    "x86_64": (seccomp.Arch.X86, seccomp.Arch.X32),
    "aarch64": (seccomp.Arch.ARM,),
    "ppc64": (seccomp.Arch.PPC,),
    "s390x": (seccomp.Arch.S390,),
}
_FLAGS_SECOND = ("s390", "s390x")  # There, clone(2) has its flags as second argument.


def program() -> int:
    """A file, open for reading, that holds the filter which refuses DENIALS and lets pass everything else.

    :raises OSError: there is no such filter here.
    """
    machine = platform.machine()
    made = seccomp.SyscallFilter(seccomp.ALLOW)
    for other in _OTHERS.get(machine, ()):
        made.add_arch(other)
    for denial in DENIALS:
        for call in denial.calls:
            for only in denial.only or (None,):
                made.add_rule(seccomp.ERRNO(denial.error), call, *_condition(call, only, machine))
    file = os.memfd_create("filter")
    with os.fdopen(os.dup(file), "wb") as stream:
        made.export_bpf(stream)
    return file


def number(call: str) -> int:
    """The number of a call on this machine; negative when it has none."""
    return int(seccomp.resolve_syscall(seccomp.Arch(), call))


def _condition(call: str, only: Only | None, machine: str) -> list[Any]:
    if only is None:
        return []
    argument = 1 - only.argument if call == "clone" and machine in _FLAGS_SECOND else only.argument
    return [seccomp.Arg(argument, seccomp.MASKED_EQ, only.mask, only.value)]
