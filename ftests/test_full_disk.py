"""A disk that is really full, under a real daemon."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from buildd.disk_use import FREE_BYTES_MIN, Disk
from buildd.isolation.layers import layer_note
from buildd.isolation.stored import boot_id
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, FileServer, base_chroot
from tools.account import build_account
from tools.places import Places, default_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")

DISK_BYTES = 160 << 20


UNUSED_BYTES = 400 << 20
BUILD_DISK_BYTES = 1700 << 20  # For a chroot, packed and unpacked, and a small build.
LEFT = "$$(stat -f --format '%a * %S' .)"  # Bytes, as an expression of the shell's.


@contextmanager
def disk(size: int) -> Iterator[Path]:
    """A file system of so many bytes, the build account's."""
    account = build_account()
    place = account.make_directory(Places(default_root()).make().tests / f"disk-{os.getpid()}")
    owner = f"size={size},uid={account.uid},gid={account.gid},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", owner, "small", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with disk(DISK_BYTES) as place:
        yield place


@pytest.mark.real
def test_a_build_that_fills_the_disk_of_its_builder(tmp_path: Path) -> None:
    """It is ended before nothing works any more; the builder is named, and has its space again."""
    with disk(BUILD_DISK_BYTES) as place:
        setup, files = BuilddTestSetup(directory=place / "buildd", settings={"free_space": "1K"}), FileServer()
        setup.setUp()
        try:
            client = StockClient(setup.url, files)
            # At once, but for the last of it, of which a daemon that has to wait for a processor sees the beginning.
            at_once = f"n=$$(( {LEFT} - {FREE_BYTES_MIN + (16 << 20)} )); head -c $$n /dev/zero"
            fill = f"sleep 2; ({at_once}; while head -c 512K /dev/zero; do sleep 0.05; done) >big; sleep 60"
            status, log = client.build("b-1", tiny_source(tmp_path, build=fill), base_chroot())
            assert status["build_status"] == "BuildStatus.BUILDERFAIL", log[-2000:]
            assert status["reason"] == "the builder's disk is full"
            assert "No space left on device" not in log
            assert client.proxy.clean() == "BuilderStatus.IDLE"
            while Disk.of(place).free_bytes < 2 * FREE_BYTES_MIN:  # What it wrote is being removed.
                time.sleep(0.1)
        finally:
            setup.tearDown()
            files.close()


@pytest.mark.real
def test_a_build_for_which_a_layer_goes(tmp_path: Path) -> None:
    """What an earlier build left for later ones is removed while this one fills the disk, and it goes on."""
    with disk(BUILD_DISK_BYTES) as place:
        setup, files = BuilddTestSetup(directory=place / "buildd", settings={"free_space": "1K"}), FileServer()
        setup.setUp()
        try:
            unused = place / "buildd" / "layers" / f"{'0' * 64}-1"
            plant_layer(unused, UNUSED_BYTES)
            client = StockClient(setup.url, files)
            fill = "(while [ $$n -gt 0 ]; do head -c 4M /dev/zero; sleep 0.02; n=$$((n - (4 << 20))); done) >big"
            more = f"n=$$(( {LEFT} - {FREE_BYTES_MIN} + {UNUSED_BYTES // 2} ))"
            status, log = client.build("b-1", tiny_source(tmp_path, build=f"{more}; {fill}"), base_chroot())
            assert status["build_status"] == "BuildStatus.OK", log[-2000:]
            assert not unused.exists()
        finally:
            setup.tearDown()
            files.close()


def plant_layer(place: Path, size: int) -> None:
    """A layer as an earlier build would have left it, never used since."""
    (place / "tree").mkdir(parents=True)
    with (place / "tree" / "big").open("wb") as big:
        os.posix_fallocate(big.fileno(), 0, size)
    about = {"note": layer_note("test", "", "nobody's"), "boot": boot_id(), "made": 0}
    (place / "about").write_text(json.dumps(about))
    account = build_account()
    for path in (place, *place.rglob("*")):
        os.chown(path, account.uid, account.gid)
    os.utime(place / "about", (0, 0))


def test_a_file_that_does_not_fit_is_one_clear_answer(small_disk: Path) -> None:
    """ensurepresent says that the disk is full and leaves nothing; what fits is fetched afterwards."""
    setup, files = BuilddTestSetup(directory=small_disk / "buildd", settings={"free_space": "1K"}), FileServer()
    setup.setUp()
    try:
        sha1, url = files.put(os.urandom(1 << 20) * (2 * DISK_BYTES >> 20))
        answer: Any = setup.proxy.ensurepresent(sha1, url, "", "")
        assert answer[0] is False
        assert answer[1].startswith("Error accessing Librarian: the builder's disk is full")
        assert list((small_disk / "buildd" / "filecache").iterdir()) == []
        sha1, url = files.put(b"small")
        assert setup.proxy.ensurepresent(sha1, url, "", "") == [True, "Download"]
    finally:
        setup.tearDown()
        files.close()
