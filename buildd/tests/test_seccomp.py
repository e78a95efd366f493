"""The filter of system calls: tried by processes of their own, as a filter stays."""

import ast
import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("seccomp", reason="python3-seccomp is not installed")

from buildd.isolation import seccomp as ours

# In a build of our own, say.
pytestmark = pytest.mark.skipif(
    "\nSeccomp:\t0\n" not in Path("/proc/self/status").read_text(encoding="ascii"),
    reason="a filter of system calls is in force here already",
)

# Loads the filter that it has on standard input, if there is one; code that tries something comes after it.
PROGRAM = """
import ctypes, errno, mmap, os, sys
sys.path.insert(0, sys.argv[1])
import enter
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
given = sys.stdin.buffer.read()
def call(number, *arguments):
    answer = libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    return errno.errorcode[ctypes.get_errno()] if answer < 0 else "done"
def call_32(number, first=0):
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push rbx; mov eax, number; mov ebx, first; xor ecx, ecx; xor edx, edx; int 0x80; pop rbx; ret
    code.write(b"\\x53\\xb8" + number.to_bytes(4, "little") + b"\\xbb" + first.to_bytes(4, "little")
        + b"\\x31\\xc9\\x31\\xd2\\xcd\\x80\\x5b\\xc3")
    answer = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    return errno.errorcode[-answer] if answer < 0 else "done"
if given:
    enter.load_filter(given)
"""
NEW_USER_IS_REFUSED = subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode != 0


def tried(code: str, *, filtered: bool) -> str:
    """What a process prints that has the filter, or none."""
    given = b""
    if filtered:
        file = ours.program()
        given = os.pread(file, 1 << 20, 0)
        os.close(file)
    argv = [sys.executable, "-c", PROGRAM + code, str(Path(ours.__file__).parent)]
    ended = subprocess.run(argv, input=given, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode().strip()


def test_every_call_in_the_table_is_refused_as_it_says() -> None:
    """But for those that this machine's kernel never had."""
    refused = {call: denial.error for denial in ours.DENIALS if not denial.only for call in denial.calls}
    numbers = {call: number for call in refused if (number := ours.number(call)) >= 0}
    code = f"print({{name: call(number, *[2**64 - 1] * 6) for name, number in {numbers}.items()}})"
    assert ast.literal_eval(tried(code, filtered=True)) == {call: errno.errorcode[refused[call]] for call in numbers}
    assert {"bpf", "keyctl", "io_uring_setup", "mount"} < numbers.keys()


CLONE = "r = libc.syscall({clone}, ctypes.c_ulong({flags}), 0, 0, 0, 0)\nif r == 0: os._exit(0)\n"
CLONE += "print('done' if r > 0 else errno.errorcode[ctypes.get_errno()])"
NEW_USER = 0x10000000
IOCTL = "print(call({ioctl}, os.open('/dev/null', os.O_RDWR), {request}))"


@pytest.mark.parametrize(
    ("what", "outside", "inside"),
    [
        ("print(call({keyctl}, 0, 2**64 - 1, 1))", "done", "ENOSYS"),  # Make a keyring.
        (f"print(call({{unshare}}, {NEW_USER}))", "done", "EPERM"),
        ("print(call({unshare}, 0x200))", "done", "done"),  # CLONE_FS: harmless.
        (CLONE.replace("{flags}", str(NEW_USER | 17)), "done", "EPERM"),
        (CLONE.replace("{flags}", "17"), "done", "done"),  # SIGCHLD: fork.
        ("print(call({socket}, 1, 1, 0))", "done", "done"),
        (IOCTL.replace("{request}", "0x5412"), "ENOTTY", "EPERM"),
        (IOCTL.replace("{request}", "0x5412 | 1 << 40"), "ENOTTY", "EPERM"),  # Which the kernel overlooks.
        (IOCTL.replace("{request}", "0x5401"), "ENOTTY", "ENOTTY"),
        ("import threading; t = threading.Thread(target=print, args=['done']); t.start()", "done", "done"),
        ("import subprocess; subprocess.run(['echo', 'done'])", "done", "done"),
    ],
)
def test_what_works_without_a_filter(what: str, outside: str, inside: str) -> None:
    """Does not work with one, if it is in the table, and does, if it is not."""
    if NEW_USER_IS_REFUSED and str(NEW_USER) in what:
        pytest.skip("no user namespaces can be made here")
    for name in ("keyctl", "unshare", "clone", "socket", "ioctl"):
        what = what.replace(f"{{{name}}}", str(ours.number(name)))
    assert tried(what, filtered=False) == outside
    assert tried(what, filtered=True) == inside


def test_a_virtual_machines_host_is_not_to_be_talked_to() -> None:
    """Nor is there a hint that it could be."""
    assert tried(f"print(call({ours.number('socket')}, 40, 1, 0))", filtered=True) == "EAFNOSUPPORT"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="this machine has no second set of system calls")
def test_calls_of_32_bit_programs_are_refused_as_well() -> None:
    """keyctl and mount have other numbers there."""
    without = tried("print(call_32(288, 0), call_32(21))", filtered=False)
    if without == "ENOSYS ENOSYS":
        pytest.skip("this kernel runs no 32-bit programs")
    assert "ENOSYS" not in without.split()[0]
    assert without.split()[1] in ("EFAULT", "EPERM")
    assert tried("print(call_32(288, 0), call_32(21))", filtered=True) == "ENOSYS EPERM"


def test_nothing_is_gained_by_starting_a_program() -> None:
    """no_new_privs (prctl(2), 39) is set with the filter."""
    assert tried("print(libc.prctl(39, 0, 0, 0, 0))", filtered=False) == "0"
    assert tried("print(libc.prctl(39, 0, 0, 0, 0))", filtered=True) == "1"
