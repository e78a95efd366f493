"""How real builds end on a real daemon, driven as a stock Launchpad master drives it."""

import hashlib
import io
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from buildd.protocol import parse_sha1
from ftests.leftovers import Leftovers
from ftests.private_archive import PrivateArchive
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, FileServer
from tools.machines_apt import find_mirror

pytestmark = pytest.mark.real


def test_a_stock_master_drives_a_build_from_start_to_end(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """Files sent, build begun, polled, results fetched by their SHA-1, cleaned: as protocol 1.0 has it."""
    client.begin("PACKAGEBUILD-1", tiny_source(tmp_path), chroot)
    status = client.proxy.status()
    assert status["build_id"] == "PACKAGEBUILD-1"
    status = client.wait()
    assert (status["build_status"], status["dependencies"]) == ("BuildStatus.OK", "")
    names = sorted(status["filemap"])
    assert names == [f"tiny_1.0_{client.architecture}.{ending}" for ending in ("buildinfo", "changes", "deb")]
    for sha1 in status["filemap"].values():
        assert hashlib.sha1(client.fetch(parse_sha1(sha1))).hexdigest() == sha1
    log = client.fetch("buildlog").decode()
    assert log.startswith("http://localhost/builds/1\n")
    assert "Status: successful" in log
    assert client.proxy.clean() == "BuilderStatus.IDLE"
    assert client.proxy.status()["builder_status"] == "BuilderStatus.IDLE"


def test_a_package_that_does_not_compile(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """PACKAGEFAIL, with an empty filemap and the compiler's words in the log."""
    source = tiny_source(tmp_path, build="echo 'int main(' > x.c && cc -c x.c")
    status, log = client.build("b-2", source, chroot)
    assert (status["build_status"], status["filemap"], status["dependencies"]) == ("BuildStatus.PACKAGEFAIL", {}, "")
    assert "error: expected" in log


def test_a_build_dependency_that_nothing_satisfies(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """DEPFAIL names it, versions kept, architecture and profile qualifiers stripped; what is there is not named."""
    needs = "make, libnone-dev:any (>= 2.1) [linux-any] <!nocheck>, gcc (>= 1:999) | hello, never [hurd-any]"
    status, _ = client.build("b-3", tiny_source(tmp_path, needs=needs), chroot)
    assert status["build_status"] == "BuildStatus.DEPFAIL"
    assert status["dependencies"] == "libnone-dev (>= 2.1)" or status["dependencies"].startswith(
        "libnone-dev (>= 2.1), "
    )
    assert "never" not in status["dependencies"]


def test_build_dependencies_that_exclude_each_other(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """All are there, yet not together: no publication would help, so the package has failed."""
    status, _ = client.build("b-4", tiny_source(tmp_path, needs="exim4-daemon-light, postfix"), chroot)
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
    assert "cannot be installed together" in status["reason"]


def test_build_dependencies_with_qualifiers_and_restrictions(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """`:any`, `:native`, architecture wildcards and profiles mean to apt what they mean to sbuild."""
    needs = "python3:any, gcc:native (>= 4:10), bc [linux-any], dc [!hurd-any] <!nocheck>, never [kfreebsd-any]"
    source = tiny_source(
        tmp_path, needs=needs, build="python3 -c 'print(1)' && gcc --version && echo 6*7 | bc && dc -V"
    )
    status, log = client.build("b-4a", source, chroot)
    assert status["build_status"] == "BuildStatus.OK", log[-3000:]
    assert "\n42\n" in log


def test_an_archive_with_a_password(setup: BuilddTestSetup, client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """apt has it while it fetches; the log, the build and what stays on the disk do not, nor does the next build."""
    archive = PrivateArchive("private-tool", "ann", "s3cr3t+pw")
    debian = f"deb {find_mirror('bookworm').url} bookworm main"
    try:
        look = "cat /usr/share/private-tool/here /etc/apt/sources.list && ! grep -rs 's3c[r]3t' /etc /dev/shm /tmp"
        source = tiny_source(tmp_path, needs="private-tool", build=look)
        lines = [debian, archive.line("ann", "s3cr3t%2Bpw")]
        status, log = client.build("b-4b", source, chroot, archives=lines, archive_private=True)
        assert status["build_status"] == "BuildStatus.OK", log[-3000:]
        assert "[trusted=yes] http://127.0.0.1:" in log
        found = subprocess.run(["grep", "-rlsF", "s3cr3t", setup.directory], check=False, stdout=subprocess.PIPE)
        assert (found.returncode, found.stdout) == (1, b"")
        client.proxy.clean()
        lines = [debian, archive.line("ann", "wrong")]
        status, log = client.build("b-4c", source, chroot, archives=lines, archive_private=True)
        assert status["build_status"] == "BuildStatus.CHROOTFAIL"
        assert "401  Unauthorized" in log
    finally:
        archive.close()


def test_an_archive_that_does_not_answer(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """GIVENBACK: nobody's fault, and worth another try."""
    lines = ["deb [trusted=yes] http://127.0.0.1:9/debian bookworm main"]
    status, log = client.build("b-5", tiny_source(tmp_path), chroot, archives=lines)
    assert status["build_status"] == "BuildStatus.GIVENBACK"
    assert "filemap" not in status
    assert "Could not connect" in log


def _tarball(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("chroot_content", "reason"),
    [
        (_tarball(("/etc/passwd", b"x")), "absolute path"),
        (_tarball(("a/../../x", b"x")), "leads out"),
        (b"no tar at all", "no tar archive"),
        (_tarball(("etc/passwd", b"x"))[:700], "ends early|unexpected end"),
        (_tarball(("bin/sh", b"#!no such interpreter\n")), "damaged"),
    ],
    ids=["absolute", "dotdot", "rubbish", "cut-short", "no-system"],
)
def test_a_damaged_chroot(client: StockClient, tmp_path: Path, chroot_content: bytes, reason: str) -> None:
    """CHROOTFAIL, with the reason in words; the daemon goes on."""
    status, log = client.build("b-6", tiny_source(tmp_path), chroot_content)
    assert status["build_status"] == "BuildStatus.CHROOTFAIL", log
    assert any(part in status["reason"] for part in reason.split("|")), status["reason"]


def test_a_chroot_cut_short(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """A real chroot of which the end is missing."""
    cut = tmp_path / "cut.tar"
    with chroot.open("rb") as whole:
        cut.write_bytes(whole.read(50_000_000))
    status, _ = client.build("b-7", tiny_source(tmp_path), cut)
    assert status["build_status"] == "BuildStatus.CHROOTFAIL"


def test_a_daemon_that_a_package_forgets(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """A process that a build leaves running, its output held open, neither delays the build nor outlives it."""
    build = "setsid sh -c 'trap : TERM HUP; exec sleep 7654' &"
    before = time.monotonic()
    status, _ = client.build("b-8", tiny_source(tmp_path, build=build), chroot)
    assert status["build_status"] == "BuildStatus.OK"
    assert time.monotonic() - before < 120
    assert not Leftovers.processes("sleep 7654")


def test_binary_bytes_and_a_long_line_in_the_log(client: StockClient, chroot: Path, tmp_path: Path) -> None:
    """A line of 100 MB and every byte there is: the log has them, and the daemon answers meanwhile."""
    build = "head -c 1000 /dev/urandom; head -c 100000000 /dev/zero | tr '\\\\0' x; echo"
    client.begin("b-9", tiny_source(tmp_path, build=build), chroot)
    slowest = 0.0
    while client.proxy.status()["builder_status"] == "BuilderStatus.BUILDING":
        began = time.monotonic()
        client.proxy.echo("x")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.02)
    assert client.wait()["build_status"] == "BuildStatus.OK"
    assert slowest < 1
    assert len(client.fetch("buildlog")) > 100_000_000


def test_a_log_that_grows_without_end(chroot: Path, tmp_path: Path) -> None:
    """At its limit the build is ended, as a failure of the package, and what there is of the log is kept."""
    setup, files = BuilddTestSetup(settings={"log_size": "20M"}), FileServer()
    setup.setUp()
    try:
        client = StockClient(setup.url, files)
        status, log = client.build(
            "b-10", tiny_source(tmp_path, build="yes $$(head -c 4000 /dev/zero | tr '\\0' x)"), chroot
        )
        assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
        assert "size limit" in status["reason"]
        assert len(log) == 20 << 20
    finally:
        setup.tearDown()
        files.close()


def test_silence_and_time_are_limited(chroot: Path, tmp_path: Path) -> None:
    """A build that says nothing for too long is ended, by name."""
    setup, files = BuilddTestSetup(settings={"silence": "20s"}), FileServer()
    setup.setUp()
    try:
        client = StockClient(setup.url, files)
        status, _ = client.build("b-11", tiny_source(tmp_path, build="sleep 600"), chroot)
        assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
        assert "wrote nothing" in status["reason"]
    finally:
        setup.tearDown()
        files.close()


@pytest.mark.parametrize("how", ["abort", "kill", "terminate"])
def test_nothing_is_left_of_a_build_that_is_stopped(chroot: Path, tmp_path: Path, how: str) -> None:
    """After abort, kill -9 of the daemon and SIGTERM alike: no process, mount or file of the build, and IDLE again."""
    setup, files = BuilddTestSetup(), FileServer()
    setup.setUp()
    try:
        before = Leftovers.of(setup.directory)
        client = StockClient(setup.url, files)
        build = (
            "(trap : TERM INT HUP; setsid sleep 8765 & setsid sh -c 'trap : TERM; sleep 8765; :' & echo begun; wait)"
        )
        client.begin("b-12", tiny_source(tmp_path, build=build), chroot)
        while "\nbegun" not in client.fetch("buildlog").decode(errors="replace"):
            assert client.proxy.status()["builder_status"] == "BuilderStatus.BUILDING"
            time.sleep(0.1)
        assert Leftovers.processes("sleep 8765")
        began = time.monotonic()
        if how == "abort":
            assert client.proxy.abort() == "BuilderStatus.ABORTING"
            assert client.wait(20)["build_status"] == "BuildStatus.ABORTED"
            assert client.proxy.clean() == "BuilderStatus.IDLE"
        elif how == "kill":
            setup.crash()
            time.sleep(2)
            assert not Leftovers.processes("sleep 8765")
            setup.restart()
        else:
            setup.process.process.terminate()
            assert setup.process.process.wait(10) == 0
            setup.restart()
        assert time.monotonic() - began < 20
        assert not Leftovers.processes("sleep 8765")
        assert client.proxy.status()["builder_status"] == "BuilderStatus.IDLE"
        Leftovers.of(setup.directory).assert_none_since(before)
        status, _ = client.build("b-13", tiny_source(tmp_path / "again"), chroot)
        assert status["build_status"] == "BuildStatus.OK"
    finally:
        setup.tearDown()
        files.close()
