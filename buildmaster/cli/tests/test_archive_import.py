"""What `archive import` takes in, and what it refuses."""

from pathlib import Path

import pytest

from buildmaster.cli.tests.conftest import Cli
from buildmaster.tests.factories import write_deb
from buildmaster.tests.uploading import Upload


@pytest.fixture
def mine(ready: Cli) -> Cli:
    """A farm that publishes debian/mine, to which nobody may upload."""
    ready("archive", "create", "mine")
    return ready


def source(folder: Path, version: str = "1.0", architectures: str = "any") -> Path:
    """hello's source package; its .dsc."""
    changes = Upload(version=version, architectures=architectures, signer="").write(folder)
    return next(changes.parent.glob("*.dsc"))


def packages(mine: Cli) -> list[str]:
    found = mine("archive", "packages", "mine", "--json").json["packages"]
    return sorted(f"{each['package']} {each['version']} {each['architecture']}" for each in found)


def test_packages_with_their_source(mine: Cli, tmp_path: Path) -> None:
    """They are in the archive as if they had been built here, whatever their files are called; no build is left."""
    dsc = source(tmp_path / "source", "1:1.0", "any all")
    named = write_deb(tmp_path, "hello", "1:1.0").rename(tmp_path / "hello_1%3a1.0_amd64.deb")
    doc = write_deb(tmp_path, "hello-doc", "1:1.0", "all", fields="Source: hello")
    said = mine("archive", "import", "mine", "--suite", "bookworm", dsc, named, doc).out
    assert said == "hello_1.0_source+all+amd64.changes is accepted by debian/mine: hello 1:1.0; builds: none\n"
    assert packages(mine) == ["hello 1:1.0 amd64", "hello 1:1.0 source", "hello-doc 1:1.0 all"]


def test_some_packages_of_a_source(mine: Cli, tmp_path: Path) -> None:
    """The others are not built: those that came would be built again with them. A source that comes alone is built."""
    dsc = source(tmp_path / "source", architectures="any all")
    mine("archive", "import", "mine", "--suite", "bookworm", dsc, write_deb(tmp_path))
    assert packages(mine) == ["hello 1.0 amd64", "hello 1.0 source"]
    said = mine("archive", "import", "mine", "--suite", "bookworm", source(tmp_path / "newer", "1.1")).out
    assert said.endswith("hello 1.1; builds: 2\n")


def test_a_rebuild_of_what_is_there(mine: Cli, tmp_path: Path) -> None:
    """Packages come without their source, where the archive has it, in a version of their own."""
    mine("archive", "import", "mine", "--suite", "bookworm", source(tmp_path / "source"))
    deb = write_deb(tmp_path, "hello", "1.0+b1", fields="Source: hello (1.0)")
    mine("archive", "import", "mine", "--suite", "bookworm", deb)
    assert packages(mine) == ["hello 1.0 source", "hello 1.0+b1 amd64"]


def test_each_source_by_itself(mine: Cli, tmp_path: Path) -> None:
    """One that is refused does not keep others out; all are told."""
    dsc = source(tmp_path / "source")
    alone = write_deb(tmp_path, "other", "2.0")
    ended = mine("archive", "import", "mine", "--suite", "bookworm", dsc, alone, status=1)
    assert ended.out.startswith("hello_1.0_source.changes is accepted by debian/mine")
    assert "other 2.0 is not in bookworm of debian/mine: upload its source as well" in ended.err
    again = mine("archive", "import", "mine", "--suite", "bookworm", dsc, "--json", status=1).json["imports"]
    assert [each["accepted"] for each in again] == [False]
    (fault,) = again[0]["faults"]  # Within a second it is the very same upload.
    assert "there is nothing to do" in fault
    assert packages(mine) == ["hello 1.0 source"]


def test_what_is_no_package(mine: Cli, tmp_path: Path) -> None:
    """Nothing is taken then, and all such files are named."""
    (tmp_path / "bad.deb").write_bytes(b"no")
    (tmp_path / "bad.dsc").write_text("Source: x\n")
    (tmp_path / "bad.txt").write_text("")
    bad = [tmp_path / "bad.deb", tmp_path / "bad.dsc", tmp_path / "bad.txt"]
    told = mine("archive", "import", "mine", "--suite", "bookworm", source(tmp_path / "source"), *bad, status=1).err
    assert "nothing is imported" in told and all(str(each) in told for each in bad)
    assert packages(mine) == []
    assert (
        "no suite 'sid'"
        in mine("archive", "import", "mine", "--suite", "sid", source(tmp_path / "source"), status=1).err
    )
