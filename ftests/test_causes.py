"""Real builds that fail in every way there is, on a real daemon: each names its cause, and what went wrong first."""

import contextlib
import hashlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buildd.processes import below
from buildd.protocol import Cause
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, base_chroot

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Way:
    """A way to fail."""

    cause: Cause
    error: str  # How its first line begins.
    build: str = "true"  # The command that does it.
    needs: str = ""  # Build-dependencies.
    arguments: dict[str, Any] = field(default_factory=dict)  # Of the build.
    status: str = "PACKAGEFAIL"


def limited(**limits: int) -> dict[str, Any]:
    return {"limits": limits}


TEST = 'use Test::More tests => 1; is(1 + 1, 3, "adding");'
FETCH = 'use IO::Socket::INET; IO::Socket::INET->new("192.0.2.1:80") or die "cannot fetch: $$@"'
# $$ is make's for a $.
WAYS = {
    "compiler": Way(Cause.COMPILE, "x.c:1:14: error: ", "echo 'int main() { retrun 1; }' >x.c; cc -c x.c"),
    "linker": Way(Cause.COMPILE, "/usr/bin/ld:", "echo 'int main() { far(); }' >x.c; cc -flto -w -o x x.c -lnowhere"),
    "command": Way(Cause.COMPILE, "echo no luck; false", "echo no luck; false"),
    "tests": Way(Cause.TESTS, "#   Failed test 'adding'", f"echo '{TEST}' >x.t; prove -v x.t"),
    "packaging": Way(Cause.PACKAGING, "dpkg-gencontrol: error: ", "dpkg-gencontrol -pnowhere"),
    "network": Way(
        Cause.NETWORK_WANTED, "cannot fetch: IO::Socket::INET: connect: Network is unreachable", f"perl -e '{FETCH}'"
    ),
    "crash": Way(
        Cause.SIGNAL,
        "cc: internal compiler error: Segmentation fault",
        "touch x.c; cc -wrapper sh,-c,'kill -SEGV $$$$' -c x.c",
    ),
    "full device": Way(Cause.DISK, "seq: write error: No space left on device", "seq 99999 >/dev/full"),
    "memory limit": Way(
        Cause.MEMORY,
        "echo begun; perl",
        "echo begun; perl -e '$$x = \"x\" x 900_000_000; sleep 60'",
        arguments=limited(memory=300 << 20),
    ),
    "disk limit": Way(
        Cause.DISK,
        "dd if=/dev/zero of=x",
        "dd if=/dev/zero of=x bs=1M count=900; sleep 60",
        arguments=limited(disk=500 << 20),
    ),
    "processes limit": Way(
        Cause.PROCESSES,
        "/bin/sh: 0: Cannot fork",
        "i=0; while [ $$i -lt 200 ]; do sleep 60 & i=$$((i+1)); done",
        arguments=limited(processes=120),
    ),
    "open files": Way(
        Cause.OPEN_FILES,
        "Too many open files at -e line 1.",
        'perl -e \'for (1..99) { open($$f[$$_], "<", "/dev/null") or die "$$!" }\'',
        arguments=limited(open_files=60),
    ),
    "time": Way(
        Cause.TIME, "still at it\n", "while :; do echo still at it; sleep 0.2; done", arguments=limited(timeout=4)
    ),
    "silence": Way(
        Cause.SILENCE, "echo begun; sleep 600\nbegun", "echo begun; sleep 600", arguments=limited(silence=2)
    ),
    "log size": Way(Cause.LOG_SIZE, "and on it goes\n", "yes and on it goes", arguments=limited(log_size=1 << 20)),
    "missing dependency": Way(
        Cause.DEPENDENCY,
        " builddeps:/build-dependencies.dsc : Depends: libnone-dev (>= 2) but it is not",
        needs="libnone-dev (>= 2)",
        status="DEPFAIL",
    ),
    "impossible dependencies": Way(
        Cause.DEPENDENCY,
        " builddeps:/build-dependencies.dsc : Depends: postfix but it is not",
        needs="exim4-daemon-light, postfix",
    ),
    "silent archive": Way(
        Cause.ARCHIVE,
        "Err:1 http://127.0.0.1:9/debian bookworm InRelease",
        arguments={"archives": ["deb [trusted=yes] http://127.0.0.1:9/debian bookworm main"]},
        status="GIVENBACK",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_failure_names_its_cause(client: StockClient, tmp_path: Path, name: str) -> None:
    """In the status and at the end of the log, with the lines that say so first."""
    way = WAYS[name]
    source = tiny_source(tmp_path, build=way.build, needs=way.needs)
    # By sbuild at first; then without it, which takes a second less each time.
    builder = "sbuild" if name == "compiler" else "direct"
    status, log = client.build("c-1", source, base_chroot(), package_builder=builder, **way.arguments)
    assert (status["build_status"], status["cause"]) == (f"BuildStatus.{way.status}", way.cause.value), log[-3000:]
    assert status["error"].startswith(way.error)
    assert_told(status, log)


def assert_told(status: dict[str, Any], log: str) -> None:
    """The log says as much as the status; one that is full says nothing any more."""
    if status["cause"] != Cause.LOG_SIZE:
        end = log.rpartition("\nCause: ")[2].splitlines()
        assert end[0] == status["cause"]
        assert end[2:] == [f"  {line}".rstrip() for line in status["error"].splitlines()]


def test_a_source_that_cannot_be_unpacked(client: StockClient, tmp_path: Path) -> None:
    """Its digests are right, and it is no archive."""
    dsc = tiny_source(tmp_path)
    (tarball,) = tmp_path.glob("*.tar.xz")
    before, after = tarball.read_bytes(), b"no archive\n"
    tarball.write_bytes(after)
    text = dsc.read_text()
    for algorithm in ("md5", "sha1", "sha256"):
        old, new = (f"{hashlib.new(algorithm, data).hexdigest()} {len(data)}" for data in (before, after))
        text = text.replace(old, new)
    dsc.write_text(text)
    status, log = client.build("c-2", dsc, base_chroot())
    assert (status["build_status"], status["cause"]) == ("BuildStatus.PACKAGEFAIL", "source"), log[-3000:]
    assert "dpkg-source: error: " in status["error"]
    assert_told(status, log)


def test_a_chroot_that_is_none(client: StockClient, tmp_path: Path) -> None:
    """A file that is no archive at all."""
    status, log = client.build("c-3", tiny_source(tmp_path), b"no archive\n")
    assert (status["build_status"], status["cause"]) == ("BuildStatus.CHROOTFAIL", "chroot")
    assert_told(status, log)


def test_a_builder_that_fails(setup: BuilddTestSetup, client: StockClient, tmp_path: Path) -> None:
    """Somebody kills sbuild: that is no fault of the package, and the build is given back."""
    source = tiny_source(tmp_path, build="echo begun; sleep 60")
    client.begin("c-4", source, base_chroot(), package_builder="sbuild")
    while "\nbegun" not in client.fetch("buildlog").decode(errors="replace"):
        time.sleep(0.1)
    for each in below(setup.process.process.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended meanwhile.
            if Path(f"/proc/{each.pid}/comm").read_text() == "sbuild\n":
                os.kill(each.pid, signal.SIGKILL)
    status = client.wait(30)
    assert (status["build_status"], status["cause"]) == ("BuildStatus.BUILDERFAIL", "builder fault")
    assert_told(status, client.fetch("buildlog").decode(errors="replace"))


def test_a_build_that_ends_well_has_no_cause(client: StockClient, tmp_path: Path) -> None:
    """Nor does its log speak of one."""
    status, log = client.build("c-5", tiny_source(tmp_path, build="echo 'x.c:1:1: error: none'"), base_chroot())
    assert status["build_status"] == "BuildStatus.OK"
    assert status.keys() & {"cause", "error"} == set()
    assert "\nCause: " not in log
