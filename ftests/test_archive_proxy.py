"""The daemon's proxy as builds use it: Debian's own archive, and large packages."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildd.tests.small_archive import OwnApt, SmallArchive
from tools.machines_apt import carried_over, find_mirror

pytestmark = pytest.mark.real

_LARGE_BYTES = 300_000_000


@contextmanager
def proxy(*urls: str) -> Iterator["subprocess.Popen[str]"]:
    """A proxy in a process of its own; its first line has been printed and is not read yet."""
    argv = [sys.executable, "-m", "ftests.proxying", *urls]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: "subprocess.Popen[str]") -> str:
    """Where it serves."""
    assert process.stdout is not None
    return f"http://127.0.0.1:{int(process.stdout.readline())}"


def test_the_archive_of_this_machine() -> None:
    """apt gets Debian's lists and a package from the mirror of this machine; what goes that way is whole."""
    if any("Proxy" in line for line in carried_over()):
        pytest.skip("this machine reaches its mirror by a proxy")
    mirror = find_mirror("bookworm")
    with proxy(mirror.url) as process:
        apt = OwnApt(mirror.line("deb", "bookworm"), proxy=url_of(process))
        try:
            assert apt.update()
            ended = apt.run("apt-get", "download", "hello")
            assert ended.returncode == 0, ended.stderr
            assert list(apt.root.glob("hello_*.deb"))
        finally:
            apt.close()


def test_a_large_package_comes_fast() -> None:
    """Through the proxy, 300 MB come at half the speed at least of what apt has without it."""
    archive = SmallArchive()
    try:
        archive.add("large", size=_LARGE_BYTES)
        archive.publish()
        with proxy(archive.url) as process:
            by_proxy = OwnApt(archive.line, proxy=url_of(process))
            direct = OwnApt(archive.line)
            # Interleaved, as machines have moods.
            took = [[_download_s(apt) for apt in (direct, by_proxy)] for _ in range(2)]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            processor_s = float(process.stdout.readline()) / len(took)
        by_proxy.close()
        direct.close()
    finally:
        archive.close()
    fastest = [min(each) for each in zip(*took, strict=True)]
    ratio = fastest[0] / fastest[1]
    print(f"direct {fastest[0]:.2f} s, by proxy {fastest[1]:.2f} s, ratio {ratio:.2f}, processor {processor_s:.2f} s")
    assert ratio >= 0.5


def _download_s(apt: OwnApt) -> float:
    """How long apt takes to get the package."""
    apt.run("apt-get", "update")
    file = apt.root / "large_1.0_all.deb"
    file.unlink(missing_ok=True)
    begun = time.monotonic()
    ended = apt.run("apt-get", "download", "large")
    assert ended.returncode == 0, ended.stderr
    assert file.stat().st_size > _LARGE_BYTES
    return time.monotonic() - begun
