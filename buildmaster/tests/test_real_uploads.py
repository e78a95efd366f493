"""What dpkg-buildpackage makes and signs is accepted as it is: native and quilt, and a revision without its tarball."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildmaster.tests import gpg
from buildmaster.tests.test_acceptance import World

CONTROL = """Source: real
Section: misc
Priority: optional
Maintainer: Ada <uploader@example.org>
Standards-Version: 4.6.2

Package: real
Architecture: any
Description: real
 as dpkg makes them
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.farm.close()


def package(folder: Path, version: str, source_format: str, *options: str) -> Path:
    """The .changes of a source package of this version, made and signed by dpkg-buildpackage."""
    tree = folder / "real-1.0"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "debian" / "source").mkdir(parents=True)
    (tree / "main.c").write_text("int main;\n")
    (tree / "debian" / "control").write_text(CONTROL)
    (tree / "debian" / "source" / "format").write_text(f"{source_format}\n")
    (tree / "debian" / "rules").write_text("#!/usr/bin/make -f\n%:\n\t:\n")
    (tree / "debian" / "rules").chmod(0o755)
    date = "Sun, 22 Nov 2026 12:00:00 +0000"
    (tree / "debian" / "changelog").write_text(
        f"real ({version}) bookworm; urgency=medium\n\n  * Grüße.\n\n -- Ada <uploader@example.org>  {date}\n"
    )
    keys = gpg.shared()
    command = [
        "dpkg-buildpackage",
        "--build=source",
        "--no-check-builddeps",
        f"--sign-keyid={keys.fingerprint('uploader')}",
    ]
    environment = {**os.environ, "GNUPGHOME": str(keys.home)}
    done = subprocess.run([*command, *options], cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / f"real_{version}_source.changes"


def test_a_native_package(world: World, tmp_path: Path) -> None:
    """With its .buildinfo, signed as dpkg-buildpackage does."""
    changes = package(tmp_path / "native", "1.0", "3.0 (native)")
    assert world.process(changes).faults == ()
    assert world.sources() == [("real", "1.0", "RELEASE")]


def test_an_upstream_and_its_revisions(world: World, tmp_path: Path) -> None:
    """The second revision comes without the upstream tarball, as dpkg-genchanges leaves it out."""
    folder = tmp_path / "quilt"
    folder.mkdir()
    with tarfile.open(folder / "real_1.0.orig.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("real-1.0/main.c")
        member.size = 10
        archive.addfile(member, io.BytesIO(b"int main;\n"))
    assert world.process(package(folder, "1.0-1", "3.0 (quilt)")).faults == ()
    second = package(folder, "1.0-2", "3.0 (quilt)", "--changes-option=-sd")  # As with an older entry in the changelog.
    assert "orig.tar" not in second.read_text()
    assert world.process(second).faults == ()
    old = package(folder, "1.0-3", "1.0")
    assert world.process(old).faults == ()
    assert [version for _, version, _ in world.sources()] == ["1.0-1", "1.0-2", "1.0-3"]
