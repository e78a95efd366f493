"""Why builds failed. Each file of failures/ is what dpkg-buildpackage really wrote, for a package made to fail so."""

import time
from pathlib import Path

import pytest

from buildd.causes import BY_LIMIT, BY_STATUS, SIGNS, Verdict, verdict
from buildd.limits import Limit
from buildd.protocol import ERROR_MAX, BuildStatus, Cause

FAILURES = Path(__file__).with_name("failures")
DOCS = Path(__file__).parents[2] / "docs"


def of_package(log: str | bytes, known: Cause | None = None) -> Verdict:
    """The verdict on a log that ended as a failure of the package."""
    data = log.encode() if isinstance(log, str) else log
    return verdict(BuildStatus.PACKAGEFAIL, known, data.split(b"\n"))


# Cause, log, and how the first error begins.
REAL = [
    (Cause.COMPILE, "autoreconf", "configure.ac:4: error: possibly undefined macro: AC_NO_SUCH_MACRO"),
    (Cause.COMPILE, "dh-addon", "dh: error: unable to load addon nowhere: "),
    (Cause.PACKAGING, "gensymbols", "dpkg-gensymbols: error: some symbols or patterns disappeared in the symbols file"),
    (Cause.COMPILE, "cargo", "error[E0425]: cannot find function `unknown_function` in this scope"),
    (Cause.COMPILE, "clang", "a.c:1:25: error: use of undeclared identifier 'nothing_of_the_kind'"),
    (Cause.COMPILE, "cmake", "CMake Error at CMakeLists.txt:3 (find_package):"),
    (Cause.COMPILE, "cmake-compile", "/build/tiny-1.0/x.c:1:25: error:"),
    (Cause.COMPILE, "configure", "configure: error: Package requirements (nowhere >= 2) were not met"),
    (Cause.COMPILE, "configure-lib", "configure: error: libnowhere is needed"),
    (Cause.COMPILE, "false", "echo no such luck"),
    (Cause.COMPILE, "g++", "x.cc:3:45: error: no matching function for call to"),
    (Cause.COMPILE, "gcc", "a.c:5:5: error: expected"),
    (Cause.COMPILE, "gcc-header", "a.c:1:10: fatal error: nowhere/to_be_found.h: No such file or directory"),
    (Cause.COMPILE, "gcc-parallel", "b.c:1:22: error:"),
    (Cause.COMPILE, "gfortran", "x.f90:2:3:"),
    (Cause.COMPILE, "ghc", "Main.hs:4:20: error:"),
    (Cause.COMPILE, "go", "obj-x86_64-linux-gnu/src/main.go:4:2: undefined: undefinedFunction"),
    (Cause.COMPILE, "javac", "Main.java:4: error: ';' expected"),
    (Cause.COMPILE, "ld", "/build/tiny-1.0/a.c:2: undefined reference to `far_away'"),
    (Cause.COMPILE, "ld-library", "/usr/bin/ld: cannot find -lfaraway: No such file or directory"),
    (Cause.COMPILE, "make-command", "make[1]: no-such-program: No such file or directory"),
    (Cause.COMPILE, "make-target", "make[1]: *** No rule to make target 'missing.o', needed by 'all'.  Stop."),
    (Cause.COMPILE, "meson", '../meson.build:2:0: ERROR: Dependency "nowhere" not found, tried pkgconfig and cmake'),
    (Cause.COMPILE, "meson-compile", "../x.c:1:25: error:"),
    (Cause.COMPILE, "node", "Error: Cannot find module 'nowhere'"),
    (Cause.COMPILE, "ocaml", 'File "x.ml", line 1, characters 22-29:'),
    (Cause.COMPILE, "perl", "Can't locate Nowhere/ToBeFound.pm in @INC (you may need to install the Nowhere::ToBe"),
    (Cause.COMPILE, "pybuild-setup", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    (Cause.COMPILE, "python", "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
    (Cause.COMPILE, "python-syntax", "SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?"),
    (Cause.COMPILE, "ruby", "<internal:/usr/lib/ruby/vendor_ruby/rubygems/core_ext/kernel_require.rb>:85:in `requ"),
    (Cause.COMPILE, "rustc", "error[E0308]: mismatched types"),
    (Cause.COMPILE, "sh-missing", "/bin/sh: 1: no-such-tool: not found"),
    (Cause.COMPILE, "valac", "x.vala:1.16-1.22: error: The name `nothing' does not exist in the context of `main'"),
    (Cause.COMPILE, "ld-twice", "/usr/bin/ld: /tmp/ccxSsIdK.o:(.data+0x0): multiple definition of `x'"),
    (Cause.TESTS, "automake", "FAIL: adding.sh"),
    (Cause.TESTS, "cargo-test", "---- tests::adds stdout ----"),
    (Cause.TESTS, "ctest", "2/2 Test #2: adding ...........................***Failed    0.00 sec"),
    (Cause.TESTS, "go-test", "--- FAIL: TestAdding (0.00s)"),
    (Cause.TESTS, "make-check", "        make -j2 check"),
    (Cause.TESTS, "meson-test", "2/2 adding FAIL            0.01s   exit status 1"),
    (Cause.TESTS, "noisy-tests", "FAIL: adding"),
    (Cause.TESTS, "npm", "AssertionError [ERR_ASSERTION]: Expected values to be strictly equal:"),
    (Cause.TESTS, "prove", "#   Failed test 'adding'"),
    (Cause.TESTS, "pytest", "FAILED test_x.py::test_adding - assert 2 == 3"),
    (Cause.TESTS, "pytest-collect", "E   ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    (Cause.TESTS, "unittest", "FAIL: test_adding (test_x.Sums.test_adding)"),
    (Cause.PACKAGING, "dh-doc", 'dh_installdocs: error: Cannot find (any matches for) "NOWHERE.txt" (tried in ., debi'),
    (
        Cause.PACKAGING,
        "dh-install",
        'dh_install: warning: Cannot find (any matches for) "usr/bin/nowhere" (tried in ., de',
    ),
    (
        Cause.PACKAGING,
        "dh-missing",
        "dh_missing: warning: usr/share/extra/file exists in debian/tmp but is not installed ",
    ),
    (
        Cause.PACKAGING,
        "gencontrol",
        "dpkg-deb: error: parsing file 'debian/tiny/DEBIAN/control' near line 3 package 'tiny",
    ),
    (Cause.PACKAGING, "make-install", "install: cannot stat 'nowhere': No such file or directory"),
    (
        Cause.PACKAGING,
        "shlibdeps",
        "dpkg-shlibdeps: error: cannot find library libown.so.1 needed by debian/tiny/usr/bin",
    ),
    (
        Cause.NETWORK_WANTED,
        "cargo-network",
        "warning: spurious network error (2 tries remaining): failed to resolve",
    ),
    (Cause.NETWORK_WANTED, "go-network", "main.go:2:8: module lookup disabled by GOPROXY=off"),
    (Cause.NETWORK_WANTED, "network-address", "OSError: [Errno 101] Network is unreachable"),
    (Cause.NETWORK_WANTED, "network-curl", "curl: (6) Could not resolve host: example.invalid"),
    (
        Cause.NETWORK_WANTED,
        "network-git",
        "fatal: unable to access 'https://code.example.invalid/nobody/nothing/': Could not",
    ),
    (Cause.NETWORK_WANTED, "network-java", 'Exception in thread "main" java.net.UnknownHostException: deb.debian.org'),
    (
        Cause.NETWORK_WANTED,
        "network-npm",
        "npm ERR! request to https://registry.example.invalid/left-pad failed, reason: getaddrinfo ",
    ),
    (
        Cause.NETWORK_WANTED,
        "network-pip",
        "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=Non",
    ),
    (Cause.NETWORK_WANTED, "network-python", "socket.gaierror: [Errno -3] Temporary failure in name resolution"),
    (Cause.NETWORK_WANTED, "network-wget", "wget: unable to resolve host address"),
    (Cause.NETWORK_WANTED, "network-apt", "  Temporary failure resolving 'deb.debian.org'"),
    (Cause.NETWORK_WANTED, "network-go", "main.go:2:8: code.example.invalid/nobody/nothing@v1.0.0: Get "),
    (Cause.MEMORY, "memory-c++", "terminate called after throwing an instance of 'std::bad_alloc'"),
    (Cause.MEMORY, "rustc-memory", "memory allocation of 35184372088832 bytes failed"),
    (Cause.PROCESSES, "threads-java", 'Exception in thread "main" java.lang.OutOfMemoryError: unable to create native'),
    (Cause.SIGNAL, "segfault-cargo", "  process didn't exit successfully: `/build/tiny-1.0/wrap.sh rustc"),
    (Cause.SIGNAL, "segfault-clang", "clang: error: clang frontend command failed with exit code 132"),
    (Cause.SIGNAL, "segfault-ld", "collect2: fatal error: ld terminated with signal 11 [Segmentation fault]"),
    (Cause.MEMORY, "memory-gcc", "virtual memory exhausted: Cannot allocate memory"),
    (Cause.MEMORY, "memory-go", "fatal error: failed to reserve page summary memory"),
    (Cause.MEMORY, "memory-java", 'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space'),
    (Cause.MEMORY, "memory-perl", "Out of memory!"),
    (Cause.MEMORY, "memory-python", "MemoryError"),
    (
        Cause.MEMORY,
        "memory-rust",
        "rustc: error while loading shared libraries: libLLVM-14.so.1: failed to map segment ",
    ),
    (Cause.PROCESSES, "processes", "bash: fork: retry: Resource temporarily unavailable"),
    (Cause.PROCESSES, "processes-make", "/bin/sh: 1: Cannot fork"),
    (Cause.PROCESSES, "processes-python", "BlockingIOError: [Errno 11] Resource temporarily unavailable"),
    (Cause.PROCESSES, "threads", "RuntimeError: can't start new thread"),
    (Cause.OPEN_FILES, "files", "OSError: [Errno 24] Too many open files: '/dev/null'"),
    (Cause.DISK, "disk", "seq: write error: No space left on device"),
    (Cause.DISK, "disk-python", "OSError: [Errno 28] No space left on device"),
    (Cause.SIGNAL, "killed", "bash -c 'kill -KILL $$'"),
    (Cause.SIGNAL, "killed-gcc", "g++: fatal error: Killed signal terminated program sh"),
    (
        Cause.SIGNAL,
        "python-signal",
        "subprocess.CalledProcessError: Command '['sh', '-c', 'kill -SEGV $$']' died with <Si",
    ),
    (Cause.SIGNAL, "segfault-gcc", "g++: internal compiler error: Segmentation fault signal terminated program sh"),
    (Cause.SIGNAL, "segfault-make", "bash -c 'kill -SEGV $$'"),
]


@pytest.mark.parametrize(("cause", "name", "first"), REAL, ids=[name for _, name, _ in REAL])
def test_a_real_failure(cause: Cause, name: str, first: str) -> None:
    """Its cause, and the lines that say so first."""
    found = of_package((FAILURES / f"{name}.log").read_bytes())
    assert found.cause is cause
    assert found.error.startswith(first)


# As programs write them.
LINES = [
    (BuildStatus.PACKAGEFAIL, Cause.SIGNAL, "Segmentation fault"),
    (BuildStatus.PACKAGEFAIL, Cause.SIGNAL, "Bus error (core dumped)"),
    (BuildStatus.PACKAGEFAIL, Cause.SIGNAL, "/bin/sh: 1: Illegal instruction"),
    (BuildStatus.PACKAGEFAIL, Cause.SIGNAL, "bash: line 1: 19377 Killed                  sleep 5"),
    (BuildStatus.PACKAGEFAIL, Cause.COMPILE, "Killed three birds with one stone"),
    (BuildStatus.PACKAGEFAIL, Cause.NETWORK_WANTED, "IO::Socket::INET: Bad hostname 'deb.debian.org:80' at -e line 1."),
    (BuildStatus.PACKAGEFAIL, Cause.NETWORK_WANTED, "socket.gaierror: [Errno -2] Name or service not known"),
    (
        BuildStatus.PACKAGEFAIL,
        Cause.NETWORK_WANTED,
        "network refused: GET http://192.0.2.1/: it is not on the list of hosts for this build",
    ),
    (BuildStatus.PACKAGEFAIL, Cause.TESTS, "1/1 endless TIMEOUT        1.02s   killed by signal 15 SIGTERM"),
    (BuildStatus.PACKAGEFAIL, Cause.TESTS, "not ok 2 - adding"),
    (BuildStatus.PACKAGEFAIL, Cause.PACKAGING, "dh_strip: error: Aborting due to earlier error"),
    (BuildStatus.PACKAGEFAIL, Cause.COMPILE, "dh_autoreconf: error: autoreconf -f -i returned exit code 1"),
    (BuildStatus.PACKAGEFAIL, Cause.COMPILE, "test_malloc (test_x.T) ... Cannot allocate memory ... ok"),
    (BuildStatus.PACKAGEFAIL, Cause.COMPILE, "17: out of memory: Cannot allocate memory [ OK ]"),
    (BuildStatus.PACKAGEFAIL, Cause.COMPILE, "t/full.t: No space left on device PASSED"),
    (BuildStatus.PACKAGEFAIL, Cause.COMPILE, "not ok 2 - adding # TODO mend it"),
    (BuildStatus.PACKAGEFAIL, Cause.DISK, "dd: error writing 'x': Disk quota exceeded"),
    (BuildStatus.PACKAGEFAIL, Cause.SOURCE, "dpkg-source: error: unpacking tarball x.tar.xz failed"),
    (BuildStatus.PACKAGEFAIL, Cause.SOURCE, "dsc: amd64 not in arch list or does not match any arch wildcards: i386"),
    (BuildStatus.DEPFAIL, Cause.DEPENDENCY, " builddeps:/x.dsc : Depends: libnone-dev but it is not installable"),
    *(
        (status, cause, line)
        for status, cause in BY_STATUS.items()
        if cause is not Cause.BUILDER
        for line in (
            "E: Unable to correct problems",
            "Err:1 http://h x",
            "dpkg: error processing x",
            "tar: x: Cannot open",
        )
    ),
]


@pytest.mark.parametrize(("status", "cause", "line"), LINES)
def test_a_line(status: BuildStatus, cause: Cause, line: str) -> None:
    """One line that tells; what comes after it does not matter."""
    found = verdict(status, None, [b"before", line.encode(), b"after"])
    assert found.cause is cause
    assert cause is Cause.COMPILE or found.error.startswith(line)


def test_every_sign_has_been_seen() -> None:
    """Nothing is in the table that no program writes."""
    lines = [line for path in FAILURES.iterdir() for line in path.read_text().splitlines()]
    lines += [line for _, _, line in LINES]
    assert [sign for sign in SIGNS if not any(map(sign.is_in, lines))] == []


def test_every_log_is_tested() -> None:
    """No failure was provoked in vain."""
    assert sorted(path.stem for path in FAILURES.iterdir()) == sorted(name for _, name, _ in REAL)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "python",
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)\n"
            '  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode\n'
            '    raise JSONDecodeError("Expecting value", s, err.value) from None',
        ),
        ("automake", "FAIL: adding.sh\n\n1 and 1 is 2, not 3\nFAIL adding.sh (exit status: 1)"),
        (
            "unittest",
            "FAIL: test_adding (test_x.Sums.test_adding)\n"
            "Traceback (most recent call last):\n"
            '  File "/build/tiny-1.0/test_x.py", line 5, in test_adding\n'
            "    self.assertEqual(1 + 1, 3)\n"
            "AssertionError: 2 != 3",
        ),
        ("javac", "Main.java:4: error: ';' expected\n        System.out.println(y)\n                             ^"),
        ("make-command", "make[1]: no-such-program: No such file or directory\nno-such-program --version"),
        ("false", "echo no such luck\nno such luck\nfalse\nmake: *** [debian/rules:4: build-arch] Error 1"),
        (
            "make-check",
            "        make -j2 check\nrunning\nadding: 1 and 1 is not 3\nmake[1]: *** [Makefile:3: check] Error 1",
        ),
    ],
)
def test_the_lines_that_belong_to_an_error(name: str, error: str) -> None:
    """What goes on with the first line is kept; what only passes the failure on is not."""
    assert of_package((FAILURES / f"{name}.log").read_bytes()).error == error


def test_a_step_that_ended_well_explains_nothing() -> None:
    """Errors of a step are forgotten once the next one begins."""
    step = "   dh_auto_build\nx.c:1:2: error: but make goes on\n"
    found = of_package(f"{step}   dh_auto_test\nodd: 3\nmake: *** [debian/rules:3: binary] Error 2\n")
    assert found.cause is Cause.TESTS
    assert found.error == "odd: 3\nmake: *** [debian/rules:3: binary] Error 2"


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        ("   dh_auto_test -a", Cause.TESTS),
        ("   debian/rules override_dh_auto_test-arch", Cause.TESTS),
        ("   debian/rules execute_after_dh_auto_build", Cause.COMPILE),
        ("dh_auto_install --destdir=debian/tmp", Cause.PACKAGING),
        (" dpkg-genchanges --build=binary", Cause.PACKAGING),
        (" fakeroot debian/rules clean", Cause.COMPILE),
        (" dpkg-source --before-build .", Cause.SOURCE),
        ("dh_auto_test: but this is no step", Cause.COMPILE),
    ],
)
def test_an_error_that_nobody_knows_is_its_steps(step: str, cause: Cause) -> None:
    """The step that failed tells, when the words do not."""
    found = of_package(f" debian/rules binary\n{step}\nit is all wrong\n")
    assert (found.cause, found.error.splitlines()[-1]) == (cause, "it is all wrong")


def test_words_far_from_the_end_are_in_passing() -> None:
    """A configure script that looks for the network is not why a build fails an hour later."""
    near = "checking: Network is unreachable\n" + "all is well\n" * 100 + "make: *** [a] Error 1\n"
    far = "checking: Network is unreachable\n" + "all is well\n" * 300 + "make: *** [a] Error 1\n"
    assert of_package(near).cause is Cause.NETWORK_WANTED
    assert of_package(far).cause is Cause.COMPILE
    assert of_package("checking: Network is unreachable\n" + far).cause is Cause.COMPILE
    assert of_package("no network: Network is unreachable, skipped\nx.c:1:1: error: y\n").cause is Cause.COMPILE


def test_what_follows_the_failure_is_no_explanation() -> None:
    """Our own summary, and sbuild's, come after dpkg-buildpackage has ended."""
    failed = "no luck\ndpkg-buildpackage: error: debian/rules build subprocess\n"
    found = of_package(f"{failed}No space left on device\nBuildStatus.PACKAGEFAIL: x\n")
    assert (found.cause, found.error.splitlines()[0]) == (Cause.COMPILE, "no luck")


@pytest.mark.parametrize("status", BuildStatus)
def test_every_failure_has_a_cause(status: BuildStatus) -> None:
    """Also one whose log says nothing; what did not fail has none."""
    found = verdict(status, None, [])
    assert (found.cause is None) == (status in (BuildStatus.OK, BuildStatus.ABORTED))
    assert found.error == ""


def test_what_a_stage_knew_counts_first() -> None:
    """A limit that was reached needs no words in the log; those of its kind are the error, else the last lines."""
    found = of_package("x.c:1:1: error: y\nso far\nso good\n", Cause.TIME)
    assert found == Verdict(Cause.TIME, "x.c:1:1: error: y\nso far\nso good")
    found = of_package("cc1: out of memory allocating 4 bytes\nx.c:1:1: error: y\n", Cause.MEMORY)
    assert found == Verdict(Cause.MEMORY, "cc1: out of memory allocating 4 bytes")


@pytest.mark.parametrize("limit", Limit)
def test_every_limit_has_a_cause(limit: Limit) -> None:
    """One that is the builder's fault is not called the package's."""
    assert BY_LIMIT[limit] in Cause


def test_every_cause_is_reached_and_documented() -> None:
    """No word that nobody says, and none that nobody can look up."""
    said = {sign.cause for sign in SIGNS} | set(BY_LIMIT.values()) | set(BY_STATUS.values())
    assert said - {None} == set(Cause)
    documented = (DOCS / "protocol.md").read_text()
    assert [cause for cause in Cause if f"`{cause}`" not in documented] == []


def test_an_error_can_be_sent_and_shown() -> None:
    """No colours, nothing that drives a terminal, no password, and not too much of it."""
    log = b"\x1b[01;31mx.c:1:1: error: \x1b[0m\xc2\x9b\x00 http://ann:s3cr3t@h/ \xff\n"
    assert of_package(log).error == "x.c:1:1: error:    http://h/ \ufffd"
    log = b"x.c:1:1: error: " + b"\xe2\x82\xac" * 900 + b"\n" + b" more of it\xe2\x82\xac" * 900 + b"\n"
    error = of_package(log * 20).error
    assert 200 < len(error.encode()) <= ERROR_MAX
    assert "\ufffd" not in error


def test_a_progress_bar_shows_its_end() -> None:
    """A carriage return takes what was written before it away."""
    assert of_package(b"10%\r20%\r30% x\r\n").error == "30% x"


HOSTILE = {
    "one long line": b"x" * (5 << 20),
    "one long line of words": b"error: " * (700 << 10),
    "colons": b":" * (5 << 20),
    "colons and digits": b":1" * (2 << 20),
    "spaces": b" " * (5 << 20),
    "lines of spaces": (b" " * 1999 + b"\n") * 2500,
    "make's words": (b"make[1]: *** [" + b"a:" * 900 + b"\n") * 2500,
    "file names": (b"a/" * 900 + b".c:1:1: error" + b"\n") * 2500,
    "almost errors": (b"x:1:1: error :" * 60 + b" FAIL: *** [ E: not found Killed signal\n") * 4000,
    "empty lines": b"\n" * 40_000,
    "short lines": b"E:\n" * 40_000,
    "escapes": (b"\x1b[" + b"1;" * 900 + b"\n") * 2500,
    "binary": bytes(range(256)) * 20_000,
    "headings": b"FAIL: x\n====\n" * 20_000,
    "tracebacks": b"Traceback (most recent call last):\n  x\n" * 20_000,
}


@pytest.mark.parametrize("log", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_log_costs_little(log: bytes) -> None:
    """Whatever is in as much of a log as is looked at: it takes a second or so, and not for ever."""
    began = time.process_time()
    found = of_package(log)
    assert time.process_time() - began < 3
    assert len(found.error.encode()) <= ERROR_MAX
