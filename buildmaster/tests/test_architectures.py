"""Which builds a source needs."""

import pytest

from buildmaster.architectures import NeededBuild, matches, needed_builds

HERE = ["amd64", "i386", "armhf"]


@pytest.mark.parametrize(
    ("wanted", "needed"),
    [
        ("any", [("amd64", False), ("i386", False), ("armhf", False)]),
        ("all", [("amd64", True)]),
        ("any all", [("amd64", True), ("i386", False), ("armhf", False)]),
        ("linux-any", [("amd64", False), ("i386", False), ("armhf", False)]),
        ("any-i386 armhf", [("i386", False), ("armhf", False)]),
        ("i386 all", [("amd64", True), ("i386", False)]),
        ("s390x hurd-any", []),
        ("", []),
    ],
)
def test_needed_builds(wanted: str, needed: list[tuple[str, bool]]) -> None:
    """One build an architecture that is meant; arch:all once, on the nominated one."""
    assert needed_builds(wanted.split(), HERE, "amd64") == [NeededBuild(*each) for each in needed]


def test_build_indep_architecture() -> None:
    """Build-Indep-Architecture moves arch:all to one that it names or matches, if that is here."""
    assert needed_builds(["all"], HERE, "amd64", "armhf") == [NeededBuild("armhf", True)]
    assert needed_builds(["all"], HERE, "amd64", "any-arm") == [NeededBuild("armhf", True)]
    assert needed_builds(["all"], HERE, "amd64", "s390x") == []


def test_no_nominated_architecture() -> None:
    """Where the nominated architecture is not here, arch:all goes to one that is built for anyhow."""
    assert needed_builds(["armhf", "all"], HERE, None) == [NeededBuild("armhf", True)]


def test_wildcards() -> None:
    """Architecture wildcards are those of dpkg."""
    assert matches("amd64", "any") and matches("amd64", "linux-any") and matches("armhf", "any-arm")
    assert not matches("amd64", "kfreebsd-any") and not matches("amd64", "all")
