"""A disk that is really full, under a real daemon."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import BuilddTestSetup, FileServer
from tools.account import build_account
from tools.places import Places, default_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")

DISK_BYTES = 160 << 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of DISK_BYTES, the build account's."""
    account = build_account()
    place = account.make_directory(Places(default_root()).make().tests / f"disk-{os.getpid()}")
    owner = f"size={DISK_BYTES},uid={account.uid},gid={account.gid},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", owner, "small", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


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
