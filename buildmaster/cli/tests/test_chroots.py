"""What add-chroot --pocket, remove-chroot and chroots do."""

from pathlib import Path

from buildmaster.cli.tests.conftest import Cli, make_chroot, make_source


def test_chroots_of_pockets(ready: Cli, tmp_path: Path) -> None:
    """They are listed in the order of the pockets, and one that is removed gives way to that below it."""
    said = ready("add-chroot", "bookworm", "amd64", make_chroot(tmp_path / "b.tar.gz"), "--pocket", "Updates").out
    assert said.startswith("debian bookworm updates amd64 has a chroot: SHA-256 ")
    listed = [(each["pocket"], each["name"]) for each in ready("chroots", "--json").json["chroots"]]
    assert listed == [
        ("release", "chroot.tar.gz"),
        ("updates", "b.tar.gz"),
    ]
    assert [line.split()[2] for line in ready("chroots").out.splitlines()] == ["POCKET", "release", "updates"]
    left = ready("remove-chroot", "bookworm", "amd64", "--pocket", "updates", "--json").json["chroots"]
    assert [each["pocket"] for each in left] == ["release"]


def test_what_cannot_be_removed(ready: Cli) -> None:
    """That of release, one that is not there, one of an architecture or series that is not there."""
    ready("remove-chroot", "bookworm", "amd64", "--pocket", "release", status=2)
    ready("remove-chroot", "bookworm", "amd64", status=2)
    words = ("amd64", "--pocket", "updates")
    assert "has no chroot of its own" in ready("remove-chroot", "bookworm", *words, status=1).err
    assert "there is no series 'sid'" in ready("remove-chroot", "sid", *words, status=1).err
    wrong = ready("remove-chroot", "bookworm", "i386", "--pocket", "updates", status=1)
    assert "no architecture 'i386'; it has: amd64" in wrong.err


def test_the_same_source_in_another_pocket(ready: Cli, tmp_path: Path) -> None:
    """A source and its version belong to one pocket of a series."""
    dsc = make_source(tmp_path, "hello")
    ready("submit", dsc, "--pocket", "security")
    refused = ready("submit", dsc, "--pocket", "updates", "--rebuild", status=1)
    assert "is here already, in security" in refused.err
    assert ready("show", 2, status=1)


def test_another_nominated_architecture(ready: Cli, tmp_path: Path) -> None:
    """Sources that come from now on have their arch:all packages built there; it must be one of the series."""
    ready("init", "--distribution", "debian", "--series", "bookworm", "--architecture", "i386")
    ready("submit", make_source(tmp_path, "before"))
    assert ready("change-series", "bookworm", "--nominated", "i386", "--json").json["nominated"]
    assert "no architecture 's390x'; it has: amd64, i386" in (
        ready("change-series", "bookworm", "--nominated", "s390x", status=1).err
    )
    said = ready("init").out.splitlines()
    assert [line.endswith("builds arch:all") for line in said[1:]] == [False, True]
