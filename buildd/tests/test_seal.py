"""The seal of a tree tells any two trees apart that a build could; and builds make any tree."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildd.isolation import seal


def look_over(tree: Path, *options: str) -> Any:
    argv = [sys.executable, "-I", "-S", seal.__file__, *options, str(tree)]
    return json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)


def plant(tree: Path) -> Path:
    """A small tree."""
    for name in ("a", "a/b", "c"):
        (tree / name).mkdir(parents=True)
    for name in ("a/file", "a/b/file", "c/file"):
        (tree / name).write_text(name)
    (tree / "link").symlink_to("a/file")
    (tree / "c/second").hardlink_to(tree / "c/file")
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (1, 1), follow_symlinks=False)
    return tree


def replace_file(tree: Path, make: Callable[[Path], object]) -> None:
    (tree / "a/b/file").unlink()
    make(tree / "a/b/file")


def enter_new(name: str) -> None:
    Path(name).mkdir()
    os.chdir(name)


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda tree: None,
    "moved up": lambda tree: (tree / "a/b").rename(tree / "b"),
    "renamed": lambda tree: (tree / "c").rename(tree / "d"),
    "a link": lambda tree: replace_file(tree, lambda path: path.symlink_to("a/file")),
    "another link": lambda tree: replace_file(tree, lambda path: path.symlink_to("a/filf")),
    "mode": lambda tree: (tree / "a/file").chmod(0o755),
    "a directory's mode": lambda tree: (tree / "a").chmod(0o700),
    "a second name": lambda tree: (tree / "second").hardlink_to(tree / "a/file"),
    "size": lambda tree: os.truncate(tree / "a/file", 3),
    "a directory for a file": lambda tree: replace_file(tree, Path.mkdir),
    "a fifo for a file": lambda tree: replace_file(tree, os.mkfifo),
    "a line break": lambda tree: (tree / "a/file").rename(tree / "a/fi\nle"),
    "no text": lambda tree: (tree / "a/file").rename(tree / "a/\udcff"),
}


def test_no_two_trees_look_alike(tmp_path: Path) -> None:
    """Whichever way they differ, with all times the same."""
    digests = {}
    for number, (what, change) in enumerate(CHANGES.items()):
        tree = plant(tmp_path / str(number))
        change(tree)
        for path in (*tree.rglob("*"), tree):
            os.utime(path, (1, 1), follow_symlinks=False)
        digests[what] = look_over(tree)["digest"]
    assert len(set(digests.values())) == len(CHANGES), digests
    assert look_over(plant(tmp_path / "again"))["digest"] == digests["nothing"]


def test_times_count_to_the_nanosecond(tmp_path: Path) -> None:
    """Whoever changes a file leaves a trace."""
    tree = plant(tmp_path / "tree")
    before = look_over(tree)["digest"]
    os.utime(tree / "a/file", ns=(1_000_000_000, 1_000_000_001))
    assert look_over(tree)["digest"] != before


def test_what_a_tree_takes_of_the_disk(tmp_path: Path) -> None:
    """A file of two names counts once, a hole not at all."""
    tree = plant(tmp_path / "tree")
    before = look_over(tree)
    assert before["inodes"] == 8
    with (tree / "large").open("wb") as file:
        file.write(b"x" * 1_000_000)
        file.truncate(1 << 40)
    (tree / "large too").hardlink_to(tree / "large")
    after = look_over(tree)
    assert 1_000_000 <= after["bytes"] - before["bytes"] < 1_200_000
    assert after["inodes"] == 9


def test_content_that_changes_behind_the_metadata(tmp_path: Path) -> None:
    """A flipped bit on the disk, say, shows when all is read."""
    tree = plant(tmp_path / "tree")
    before = look_over(tree), look_over(tree, "--content")
    (tree / "a/file").write_text("a/filf")
    os.utime(tree / "a/file", (1, 1))
    assert look_over(tree) == before[0]
    assert look_over(tree, "--content") != before[1]


def test_a_tree_deeper_than_any_path_may_be_long(tmp_path: Path) -> None:
    """It is looked over to its ground, and removed as layers are."""
    (tmp_path / "tree").mkdir()
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path / "tree")
        for _ in range(20):
            enter_new("d" * 255)
        for _ in range(200):
            enter_new("x")
        before = look_over(tmp_path / "tree")
        assert before["inodes"] == 221
        Path("deep").touch()
        assert look_over(tmp_path / "tree")["digest"] != before["digest"]
    finally:
        os.fchdir(here)
        os.close(here)
    subprocess.run(["rm", "-rf", "--one-file-system", "--", tmp_path / "tree"], check=True)
    assert not (tmp_path / "tree").exists()


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    """That is said, as is an error of the disk: it is not the same as a program that cannot run."""
    assert "No such file" in look_over(tmp_path / "nowhere")["unreadable"]


@pytest.mark.skipif(shutil.which("setfattr") is None and not hasattr(os, "setxattr"), reason="no extended attributes")
def test_extended_attributes_count(tmp_path: Path) -> None:
    """overlayfs keeps in them what a layer hides."""
    tree = plant(tmp_path / "tree")
    before = look_over(tree)["digest"]
    try:
        os.setxattr(tree / "a", "user.overlay.opaque", b"y")
    except OSError as exc:
        pytest.skip(f"no extended attributes here: {exc}")
    assert look_over(tree)["digest"] != before
