"""What is said of packages that are not the same to the byte."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftests.comparing import Comparison, candidates

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("diffoscope") is None, reason="diffoscope-minimal is not installed"),
]


def package(folder: Path, **files: str) -> dict[str, bytes]:
    """A .deb with these files, as a builder would have made it."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: A <a@h>\nDescription: x\n"
    )
    for name, content in files.items():
        (tree / name).write_text(content)
    made = folder / "x_1_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={"SOURCE_DATE_EPOCH": "0", "PATH": "/usr/bin"})
    return {made.name: made.read_bytes()}


def test_what_differs_each_time_may_differ(tmp_path: Path) -> None:
    """A file that sbuild alone makes in another way each time is forgiven, and no other."""
    unused: Any = None
    comparison = Comparison(unused, tmp_path, tmp_path, tmp_path)
    alone = package(tmp_path / "1", date="1", code="same")
    again = package(tmp_path / "2", date="2", code="same")
    verdict = comparison._judge(alone, again, package(tmp_path / "3", date="3", code="same"))
    assert verdict.startswith("same but for what is another each time: ")
    assert "/date" in verdict
    verdict = comparison._judge(alone, again, package(tmp_path / "4", date="3", code="other"))
    assert verdict.startswith("different: ")
    assert "/code" in verdict
    assert "/date" not in verdict


def test_the_list_has_fifty_packages() -> None:
    """Each once, and each with what it is there for."""
    found = candidates()
    assert len(found) == 50
    assert all(candidate.kind for candidate in found.values())
