"""The program that enters a root: what of it needs no namespace."""

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
