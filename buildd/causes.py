"""Why a build failed: the rules, and the answer. Pure.

They are asked in this order, and the first that knows decides:

1. what a stage knew when it ended the build, above all which limit was reached (BY_LIMIT);
2. the status, when it is not the package's own failure (BY_STATUS);
3. the log: the first of SIGNS that is in what the failed step wrote;
4. the step that failed (BY_STEP).

A package can write what it likes, and so can have itself called what it likes: none of this decides whose fault it is.
But for one thing, where no control group tells what the kernel killed of the build: a process of it that is killed
while the kernel counts an out-of-memory kill is the builder's trouble; every limit of ours would have been named (1).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildd.buildlog import without_passwords
from buildd.firsterror import FirstError, Sign, first_error
from buildd.limits import Limit
from buildd.protocol import ERROR_MAX, BuildStatus, Cause

BY_LIMIT = {
    Limit.WALL_TIME: Cause.TIME,
    Limit.SILENCE: Cause.SILENCE,
    Limit.LOG_SIZE: Cause.LOG_SIZE,
    Limit.LOG_ERROR: Cause.BUILDER,
    Limit.MEMORY: Cause.MEMORY,
    Limit.PROCESSES: Cause.PROCESSES,
    Limit.OPEN_FILES: Cause.OPEN_FILES,
    Limit.DISK: Cause.DISK,
    Limit.DISK_FULL: Cause.DISK,
    Limit.MACHINE_MEMORY: Cause.MEMORY,
}

BY_STATUS = {
    BuildStatus.DEPFAIL: Cause.DEPENDENCY,
    BuildStatus.CHROOTFAIL: Cause.CHROOT,
    BuildStatus.GIVENBACK: Cause.ARCHIVE,
    BuildStatus.BUILDERFAIL: Cause.BUILDER,
}
_STATUS_CAUSES = frozenset(BY_STATUS.values())

_ANY_STEP = None  # The step tells.
_NOT_PACKAGING = "auto_|autoreconf:|elpa_test:"  # What of debhelper's runs the package's own commands.
_CRASHES = ("Segmentation fault", "Bus error", "Illegal instruction", "Killed")
_CRASH = f"(?:{'|'.join(_CRASHES)})"
_BY_SHELL = r"(?:\S{1,80}: (?:line )?(?:\d+: )?(?: *\d+ )?)?%s(?: \(core dumped\))?(?: {2,}\S|\s*$)"

# What a log says, the first that is there counts. What the surroundings lack comes before what fails for want of it.
SIGNS = (
    # The source package
    Sign(Cause.SOURCE, "dpkg-source: error: ", "dpkg-source", more=2),
    Sign(Cause.SOURCE, " not in arch list or does not match any arch wildcards: "),
    # What there is too little of
    Sign(Cause.DISK, "No space left on device", can_pass=True),
    Sign(Cause.DISK, "Disk quota exceeded", can_pass=True),
    Sign(Cause.PROCESSES, "unable to create native thread", can_pass=True),  # java, as an OutOfMemoryError.
    Sign(Cause.MEMORY, "Cannot allocate memory", can_pass=True),
    Sign(Cause.MEMORY, "emory exhausted", can_pass=True),  # ld; older GCC: virtual memory exhausted.
    Sign(Cause.MEMORY, "MemoryError", r"(?:E +)?MemoryError\b", can_pass=True),
    Sign(Cause.MEMORY, "java.lang.OutOfMemoryError", can_pass=True),
    Sign(Cause.MEMORY, "std::bad_alloc", can_pass=True),
    Sign(Cause.MEMORY, "ut of memory", r"(?:.{0,200}: )?[Oo]ut of memory", can_pass=True),  # perl, cc1plus, LLVM, go.
    Sign(Cause.MEMORY, "memory allocation of ", r"memory allocation of \d+ bytes failed", can_pass=True),  # rustc.
    Sign(Cause.MEMORY, "failed to map segment from shared object", can_pass=True),  # ld.so.
    Sign(Cause.MEMORY, "failed to reserve page summary memory", can_pass=True),  # go.
    Sign(Cause.PROCESSES, "Cannot fork", r".{0,80}: Cannot fork$", can_pass=True),  # dash.
    Sign(Cause.PROCESSES, "ork: ", r".{0,80}[Ff]ork: (?:retry: )?Resource temporarily unavailable", can_pass=True),
    Sign(Cause.PROCESSES, ": Resource temporarily unavailable", r"make(?:\[\d+\])?: ", can_pass=True),
    Sign(Cause.PROCESSES, "[Errno 11] Resource temporarily", r"BlockingIOError: ", can_pass=True),
    Sign(Cause.PROCESSES, "can't start new thread", can_pass=True),
    Sign(Cause.OPEN_FILES, "oo many open files", can_pass=True),
    # What a build may not reach
    Sign(Cause.NETWORK_WANTED, "network refused: ", "network refused", can_pass=True),  # The daemon's own proxy.
    Sign(Cause.NETWORK_WANTED, "Could not resolve host", can_pass=True),  # curl, git.
    Sign(Cause.NETWORK_WANTED, "unable to resolve host address", can_pass=True),  # wget.
    Sign(Cause.NETWORK_WANTED, "Temporary failure in name resolution", can_pass=True),
    Sign(Cause.NETWORK_WANTED, "Temporary failure resolving", can_pass=True),  # apt.
    Sign(Cause.NETWORK_WANTED, "Name or service not known", can_pass=True),
    Sign(Cause.NETWORK_WANTED, "Network is unreachable", can_pass=True),
    Sign(Cause.NETWORK_WANTED, "getaddrinfo E", can_pass=True),  # node: ENOTFOUND, EAI_AGAIN.
    Sign(Cause.NETWORK_WANTED, ": Bad hostname '", can_pass=True),  # perl.
    Sign(Cause.NETWORK_WANTED, "java.net.UnknownHostException", can_pass=True),
    Sign(Cause.NETWORK_WANTED, "dial tcp: lookup ", can_pass=True),  # go.
    Sign(Cause.NETWORK_WANTED, "disabled by GOPROXY=off", can_pass=True),
    # Tests
    Sign(Cause.TESTS, "FAIL: ", r"(?:FAIL|ERROR): \S"),  # automake, unittest.
    Sign(Cause.TESTS, "FAILED ", r"FAILED \S+\.py(?:::| )"),  # pytest's summary.
    Sign(Cause.TESTS, "E  ", r"E   \s*\S", more=3),
    Sign(Cause.TESTS, "ERROR ", r"ERROR \S+\.py(?:::| |$)"),
    Sign(Cause.TESTS, "***", r" *\d+/\d+ +Test +#\d+: ", more=3, anything=True),  # ctest.
    Sign(Cause.TESTS, " FAIL ", r" *\d+/\d+ .{1,200} FAIL +[\d.]+s ", more=3, anything=True),  # meson.
    Sign(Cause.TESTS, " TIMEOUT ", r" *\d+/\d+ .{1,200} TIMEOUT +[\d.]+s", more=3, anything=True),
    Sign(Cause.TESTS, "Failed test", r"# +Failed test", more=4, anything=True),  # perl.
    Sign(Cause.TESTS, "not ok ", r"not ok \d+(?!.{0,300}# (?:TODO|SKIP|todo|skip))", more=4),  # TAP.
    Sign(Cause.TESTS, "--- FAIL: ", r"\s*--- FAIL: "),  # go.
    Sign(Cause.TESTS, " stdout ----", r"---- \S+ stdout ----$", more=4, anything=True),  # cargo.
    Sign(Cause.TESTS, "test result: FAILED.", "test result"),
    Sign(Cause.TESTS, "[ERR_ASSERTION]", r"AssertionError ", more=3),  # node.
    # Tools that crash
    Sign(Cause.SIGNAL, " signal terminated program ", r".{0,200}: (?:fatal error|internal compiler error): "),  # gcc.
    Sign(Cause.SIGNAL, " terminated with signal ", r"collect2: fatal error: "),
    Sign(Cause.SIGNAL, "internal compiler error: ", rf".{{0,300}}internal compiler error: {_CRASH}"),
    Sign(
        Cause.SIGNAL,
        "clang frontend command failed ",
        r"\S{1,200}: error: clang frontend command failed (?:with exit code 1[23]|due to signal)",
    ),
    Sign(Cause.SIGNAL, "died with <Signals.", r"subprocess\.CalledProcessError: "),
    Sign(Cause.SIGNAL, "(signal: "),  # cargo.
    *(Sign(Cause.SIGNAL, crash, _BY_SHELL % crash) for crash in _CRASHES),
    Sign(Cause.SIGNAL, "] ", rf"make(?:\[\d+\])?: \*\*\* \[.{{0,300}}\] {_CRASH}", before=2),
    # What makes the packages, once all is compiled
    Sign(Cause.PACKAGING, "dpkg-", r"dpkg-(?!buildpackage|source)[a-z]+: error: ", more=2),
    Sign(Cause.PACKAGING, "dh_missing: ", r"dh_missing: (?:warning|error): "),
    Sign(Cause.PACKAGING, "dh_", rf"dh_(?!{_NOT_PACKAGING})[a-z0-9_]+: (?:error: |warning: Cannot find )"),
    # Compilers and linkers
    Sign(Cause.COMPILE, "error[E", r"error\[E\d+\]: "),  # rustc.
    Sign(Cause.COMPILE, "rror: ", r"[^\s:]{1,200}:\d+[:.][\d:.-]{0,30} (?:fatal )?error: "),  # gcc, clang, vala.
    Sign(Cause.COMPILE, "rror: ", r"[^\s:]{1,200}:\d+: error: ", more=2),  # javac.
    Sign(Cause.COMPILE, ": error:", r"[^\s:]{1,200}:\d+:\d+: error:(?:\s|$)", more=6),  # ghc.
    Sign(Cause.COMPILE, "undefined reference to "),
    Sign(Cause.COMPILE, ": cannot find -l"),
    Sign(Cause.COMPILE, "multiple definition of "),
    Sign(Cause.COMPILE, ".go:", r"(?:vet: )?[^\s:]{1,200}\.go:\d+:\d+: \S"),
    Sign(Cause.COMPILE, ", line ", r'File "[^"]{1,200}", lines? \d+(?:-\d+)?, characters \d+-\d+:'),  # ocaml.
    Sign(Cause.COMPILE, ".f", r"[^\s:]{1,200}\.f\w{0,3}:\d+:\d+:$", more=5),  # gfortran.
    Sign(Cause.COMPILE, "CMake Error", "CMake"),
    Sign(Cause.COMPILE, ": ERROR: ", r"\S{0,200}meson\.build:\d+:\d+: ERROR: "),
    Sign(Cause.COMPILE, "configure: error: ", "configure"),
    # Before a package is built: apt, dpkg, tar, the daemon's programs
    Sign(Cause.DEPENDENCY, "epends: ", r" \S{1,200} : (?:Pre-)?Depends: ", more=4),
    *(
        Sign(cause, text, text)
        for cause in (Cause.DEPENDENCY, Cause.ARCHIVE, Cause.CHROOT)
        for text in ("Err:", "E: ", "dpkg: error", "tar: ")
    ),
    # What any tool says of itself
    Sign(_ANY_STEP, "Traceback (most recent call last):", "Traceback", said_last=True),
    Sign(_ANY_STEP, "SyntaxError: ", r"\w{0,20}SyntaxError: "),
    Sign(_ANY_STEP, "Exception in thread ", "Exception", more=3),
    Sign(_ANY_STEP, "Error: ", r"(?:[A-Z]\w{0,40})?Error: ", more=3),  # node.
    Sign(_ANY_STEP, "Can't locate ", "Can't", more=1),  # perl.
    Sign(_ANY_STEP, ":in `", r"\S{1,200}:\d+:in `[^']{1,200}': ", more=2),  # ruby.
    Sign(_ANY_STEP, "E: ", r"E: pybuild "),
    Sign(_ANY_STEP, "rror: ", rf"(?!dh_(?:{_NOT_PACKAGING}))[\w./+-]{{1,80}}: (?:fatal )?[Ee]rror: "),
    Sign(_ANY_STEP, "fatal: ", "fatal: "),
    Sign(_ANY_STEP, "ERROR: ", "ERROR: "),
    Sign(_ANY_STEP, "error: ", "error: "),
    Sign(
        _ANY_STEP,
        "not found",
        r"\S{1,80}: (?:\d+: |line \d+: )?\S{1,200}: (?:command )?not found$",
        before=1,
        told_after=True,
    ),
    Sign(_ANY_STEP, ": No such file or directory", r"\S{1,80}: ", before=1, told_after=True),
    # make and ninja say which target failed: what is above it is why.
    Sign(
        Cause.TESTS,
        "*** [",
        r"make(?:\[\d+\])?: \*\*\* \[[^\]]{0,300}\b(?:check|tests?)\] ",
        before=3,
    ),
    Sign(_ANY_STEP, "FAILED: ", "FAILED: ", more=3, anything=True),
    Sign(_ANY_STEP, "*** No rule to make target", "make"),
    Sign(_ANY_STEP, "*** ", r"make(?:\[\d+\])?: \*\*\* ", before=3),
)

# What failed when nothing in the log tells; steps of debhelper that are not here make packages.
BY_STEP = {
    "dh_auto_test": Cause.TESTS,
    "dh_elpa_test": Cause.TESTS,
    "dh_auto_configure": Cause.COMPILE,
    "dh_auto_build": Cause.COMPILE,
    "dh_autoreconf": Cause.COMPILE,
    "dh_auto_clean": Cause.COMPILE,
    "dh_clean": Cause.COMPILE,
    "dpkg-source": Cause.SOURCE,
}


@dataclass(frozen=True)
class Verdict:
    """Why a build failed."""

    cause: Cause | None  # None: it did not.
    error: str = ""  # The first error's lines.
    killed: bool = False  # The log says that a process of the build was ended by SIGKILL.


def verdict(status: BuildStatus, known: Cause | None, log: Iterable[bytes]) -> Verdict:
    """Find out why a build failed.

    :param known: what a stage knew.
    :param log: the lines of the stage that failed; many and long ones cost time.
    """
    cause = known or BY_STATUS.get(status)
    if cause is None and status is not BuildStatus.PACKAGEFAIL:
        return Verdict(None)
    if cause is None:
        signs = [sign for sign in SIGNS if sign.cause not in _STATUS_CAUSES]
    else:
        signs = [sign for sign in SIGNS if sign.cause is cause]
    found = first_error(log, signs)
    killed = found.sign is not None and found.sign.cause is Cause.SIGNAL and _says_killed(found.lines)
    return Verdict(cause or _by_log(found), _shown(found.lines), killed)


def limit_cause(limit: Limit) -> Cause:
    """The cause of a build that reached one of its limits."""
    return BY_LIMIT[limit]


def _by_log(found: FirstError) -> Cause:
    if found.sign is not None and found.sign.cause is not None:
        return found.sign.cause
    packaging = found.step.startswith(("dh_", "dpkg-"))
    return BY_STEP.get(found.step, Cause.PACKAGING if packaging else Cause.COMPILE)


def _says_killed(lines: Sequence[str]) -> bool:
    return any(word in line for line in lines for word in ("Killed", "SIGKILL"))


def _shown(lines: Sequence[str]) -> str:
    """The lines as text of at most ERROR_MAX bytes, without what drives terminals."""
    shown = ("".join(c if c.isprintable() else " " for c in line.expandtabs()).rstrip() for line in lines)
    text = without_passwords("\n".join(shown).strip("\n").encode())
    return text[:ERROR_MAX].decode(errors="ignore").rstrip()
