"""The program that enters a root: what of it needs no namespace."""

import subprocess
from pathlib import Path

import pytest

from buildd.isolation import mounts


def test_settings_are_read_from_the_command_line() -> None:
    """Several layers keep their order; what is not given is none."""
    words = ["root=/r", "lower=/a=b", "lower=/c", "upper=/u", "work=/w", "cwd=/", "visible=/a=b"]
    setup = mounts.Setup(words)
    assert (setup.root, setup.lower, setup.view, setup.visible) == ("/r", ["/a=b", "/c"], "", ["/a=b"])


def test_options_that_the_kernel_would_cut_off_are_refused() -> None:
    """Or else the layers at the end would be missing, and nobody told."""
    with pytest.raises(OSError, match="overlay at /r: its options are too long"):
        mounts._mount("overlay", "/r", "overlay", 0, f"lowerdir={'/l' * 2100}")


def test_a_mount_that_fails_says_what_and_why() -> None:
    """As the daemon's log shows it to whoever has to repair it."""
    with pytest.raises(OSError, match=r"proc at /nowhere: (No such file or directory|Operation not permitted)"):
        mounts._mount("proc", "/nowhere", "proc", 0)


def test_directories_of_a_layer_are_kept_apart_where_that_can_be(tmp_path: Path) -> None:
    """On ext4, by a flag of the directory in which they are made; a file system without it goes on as it is."""
    mounts.spread(str(tmp_path))
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], check=True, capture_output=True, text=True).stdout
    if kind.strip() == "ext2/ext3":
        flags = subprocess.run(["lsattr", "-d", tmp_path], check=True, capture_output=True, text=True).stdout
        assert "T" in flags.split()[0]
    mounts.spread("/proc")
