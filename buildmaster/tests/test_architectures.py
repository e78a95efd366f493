"""Which builds a source needs."""

import re
import subprocess

import pytest

from buildmaster.architectures import NeededBuild, matches, needed_builds, wanted
from tools.places import Places, default_root

SOURCES = Places(default_root()).apt / "bookworm/lists/deb.debian.org_debian_dists_bookworm_main_source_Sources"
PROFILES = ("", "nodoc", "nocheck nodoc", "stage1", "noudeb", "cross nocheck", "stage1 nodoc noudeb", "pkg.x.y")
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


PACKAGES = """
 foo deb misc optional arch=amd64,arm64
 foo-data deb misc optional arch=all
 foo-doc deb doc optional arch=all profile=!nodoc
 foo-udeb udeb debian-installer optional arch=linux-any profile=!noudeb+!stage1,pkg.foo.udeb
"""


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ((), {"amd64", "arm64", "all", "linux-any"}),
        (("nodoc",), {"amd64", "arm64", "all", "linux-any"}),
        (("noudeb",), {"amd64", "arm64", "all"}),
        (("stage1",), {"amd64", "arm64", "all"}),
        (("stage1", "pkg.foo.udeb"), {"amd64", "arm64", "all", "linux-any"}),
    ],
)
def test_packages_of_profiles(profiles: tuple[str, ...], words: set[str]) -> None:
    """Packages that are not for the profiles that a source is built in want no build."""
    assert set(wanted(["any", "all"], PACKAGES, profiles)) == words


def test_documentation_alone() -> None:
    """What makes nothing for all architectures but documentation makes nothing for them without that."""
    listed = "foo deb misc optional arch=any\nfoo-doc deb doc optional arch=all profile=!nodoc"
    assert wanted(["any", "all"], listed) == ["any", "all"] and wanted(["any", "all"], listed, ["nodoc"]) == ["any"]


@pytest.mark.parametrize("listed", ["", "\n", "foo deb misc optional", "foo deb misc optional arch=any\nbar deb x y"])
def test_lists_that_do_not_say(listed: str) -> None:
    """Where it is not said which packages are for what, the Architecture field counts."""
    assert wanted(["linux-any", "all"], listed) == ["linux-any", "all"]


@pytest.mark.skipif(not SOURCES.exists(), reason="needs the lists that the demo has fetched")
def test_all_of_bookworm() -> None:
    """For each source of Debian 12, what its packages want is what its Architecture field wants; and of each profile
    that they name, dpkg says the same as we do."""
    series, formulas, seen = ["amd64", "arm64", "armhf", "i386", "s390x"], set(), 0
    for paragraph in SOURCES.read_text().split("\n\n"):
        listed = re.search(r"^Package-List:\s*\n((?: .*\n?)+)", paragraph, re.MULTILINE)
        field = re.search(r"^Architecture: (.*)$", paragraph, re.MULTILINE)
        if listed is None or field is None:
            continue
        formulas |= set(re.findall(r" profile=(\S+)", listed[1]))
        plain, better = field[1].split(), wanted(field[1].split(), listed[1])
        assert needed_builds(better, series, "amd64") == needed_builds(plain, series, "amd64"), paragraph
        seen += 1
    assert seen > 30_000 and len(formulas) > 20
    script = "use Dpkg::BuildProfiles qw(parse_build_profiles evaluate_restriction_formula); while (<STDIN>) { chomp; "
    script += "my ($f, $p) = split /;/, $_, -1; my @p = split / /, $p; print evaluate_restriction_formula("
    script += '[parse_build_profiles($f)], \\@p) ? 1 : 0, "\\n" }'
    asked = [(formula, profiles) for formula in sorted(formulas) for profiles in PROFILES]
    lines = [f"<{formula.replace(',', '> <').replace('+', ' ')}>;{profiles}\n" for formula, profiles in asked]
    said = subprocess.run(["perl", "-e", script], input="".join(lines), capture_output=True, text=True, check=True)
    ours = [bool(wanted([], f"x deb y z arch=any profile={formula}", each.split())) for formula, each in asked]
    assert ["1" if each else "0" for each in ours] == said.stdout.split()
