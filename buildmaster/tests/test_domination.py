"""Which packages leave a suite when newer ones are there."""

import pytest
from debian.debian_support import Version
from hypothesis import given, settings
from hypothesis import strategies as st

from buildmaster.domination import ALL, SOURCE, Package, superseded

ARCHES = ("amd64", "armhf")


def world(*lines: str) -> list[Package]:
    """SOURCE VERSION: NAME/ARCH NAME/ARCH/VERSION ...; the source itself is among them."""
    found: list[Package] = []
    for line in lines:
        head, _, rest = line.removesuffix(":").partition(": ")
        source, version = head.split()
        for word in [f"{source}/source", *rest.split()]:
            name, architecture, own = [*word.split("/"), version][:3]
            found.append(Package(len(found), source, version, name, own, architecture))
    return found


def leaving(*lines: str, keep: int = 0, needed: frozenset[str] = frozenset()) -> set[str]:
    packages = world(*lines)
    gone = superseded(packages, ARCHES, keep, needed)
    return {f"{each.name}/{each.architecture} {each.version}" for each in packages if each.id in gone}


@pytest.mark.parametrize(
    ("lines", "gone"),
    [
        (["a 1: a/amd64"], []),
        (["a 1: a/amd64 a/armhf", "a 2: a/amd64 a/armhf"], ["a/source 1", "a/amd64 1", "a/armhf 1"]),
        # Versions are dpkg's.
        (["a 1.9: a/amd64", "a 1.10~rc1: a/amd64"], ["a/source 1.9", "a/amd64 1.9"]),
        (["a 1:1: a/amd64", "a 2: a/amd64"], ["a/source 2", "a/amd64 2"]),
        # The source came, and nothing is built yet: both sources are there.
        (["a 1: a/amd64 a/armhf", "a 2:"], []),
        # One architecture is not there yet: the old source stays for the other.
        (["a 1: a/amd64 a/armhf", "a 2: a/amd64"], ["a/amd64 1"]),
        # A source of which nothing was ever built leaves at once.
        (["a 1:", "a 2:"], ["a/source 1"]),
        # Packages for all are in step with the others of their source.
        (["a 1: a/amd64 a/armhf d/all", "a 2: a/amd64 d/all"], ["a/amd64 1"]),
        (["a 1: a/amd64 a/armhf d/all", "a 2: a/amd64 a/armhf d/all"],
         ["a/source 1", "a/amd64 1", "a/armhf 1", "d/all 1"]),
        (["a 1: a/amd64 d/all", "a 2: a/amd64"], ["a/source 1", "a/amd64 1", "d/all 1"]),  # It makes d no more.
        (["a 1: a/amd64 a/armhf d/all", "a 2: a/amd64"], ["a/amd64 1"]),  # Perhaps it does yet.
        # From one architecture to all of them, and back: on armhf there is no newer one yet.
        (["a 1: a/amd64 a/armhf", "a 2: a/all"], ["a/source 1", "a/amd64 1", "a/armhf 1"]),
        (["a 1: a/all", "a 2: a/amd64"], []),
        (["a 1: a/all", "a 2: a/amd64 a/armhf"], ["a/source 1", "a/all 1"]),
        # A package that moves to another source.
        (["a 1: a/amd64 b/amd64", "c 2: b/amd64"], ["b/amd64 1"]),
        # One that is not made any more leaves where the newer version is built.
        (["a 1: a/amd64 x/amd64 a/armhf x/armhf", "a 2: a/amd64"], ["a/amd64 1", "x/amd64 1"]),
        # A rebuild: the source is the same.
        (["a 1: a/amd64/1 a/amd64/1+b1 a/armhf"], ["a/amd64 1"]),
        # An older version that comes later.
        (["a 2: a/amd64", "a 1: a/amd64"], ["a/source 1", "a/amd64 1"]),
    ],
)  # fmt: skip
def test_what_leaves(lines: list[str], gone: list[str]) -> None:
    """By name and architecture."""
    assert leaving(*lines) == set(gone)


def test_older_versions_are_kept() -> None:
    """So many as are wanted, with their sources."""
    lines = [f"a {version}: a/amd64 x{version}/amd64" for version in (1, 2, 3)]
    assert leaving(*lines, keep=1) == {"a/source 1", "a/amd64 1", "x1/amd64 1"}
    assert leaving(*lines, keep=2) == set()


def test_what_others_need() -> None:
    """A library that its source does not make any more stays, and its source with it, until nobody depends on it."""
    lines = ["a 1: lib1/amd64", "a 2: lib2/amd64"]
    assert leaving(*lines, needed=frozenset({"lib1"})) == set()
    assert leaving(*lines) == {"a/source 1", "lib1/amd64 1"}
    newer = [*lines, "b 2: lib1/amd64"]
    assert leaving(*newer, needed=frozenset({"lib1"})) == {"a/source 1", "lib1/amd64 1"}


def test_why() -> None:
    """The reason names what took its place."""
    packages = world("a 1: a/amd64 x/amd64", "a 2: a/amd64")
    reasons = superseded(packages, ARCHES)
    assert reasons == {0: "a 2 took its place", 1: "a 2 took its place", 2: "a 2 does not make it any more"}


def made() -> st.SearchStrategy[list[Package]]:
    one = st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["1", "1.10", "2~rc", "2", "1:0"]),
        st.sampled_from("abcd"),
        st.sampled_from([SOURCE, ALL, *ARCHES]),
    )

    def build(found: set[tuple[str, str, str, str]]) -> list[Package]:
        every = {(source, version, name if arch != SOURCE else source, arch) for source, version, name, arch in found}
        every |= {(source, version, source, SOURCE) for source, version, _, _ in every}
        return [Package(number, s, v, n, v, a) for number, (s, v, n, a) in enumerate(sorted(every))]

    return st.sets(one, max_size=25).map(build)


@settings(max_examples=400, deadline=None)
@given(made(), st.integers(0, 2))
def test_always(packages: list[Package], keep: int) -> None:
    """The newest of each name stays where it is made by the newest source; what stays has its source; there is nothing
    more to do; who keeps more has more."""
    gone = superseded(packages, ARCHES, keep)
    stay = [each for each in packages if each.id not in gone]
    sources = {(each.name, each.version) for each in stay if each.architecture == SOURCE}
    assert all((each.source, each.source_version) in sources for each in stay)
    newest: dict[str, Version] = {}
    for each in packages:
        if each.architecture == SOURCE:
            newest[each.name] = max(newest.get(each.name, Version("0~")), Version(each.version))
    for each in packages:
        rivals = [Version(one.version) for one in packages if one.name == each.name and one.architecture != SOURCE]
        if each.architecture != SOURCE and Version(each.source_version) == newest[each.source]:
            assert each in stay or Version(each.version) < max(rivals)
        if each.architecture == SOURCE and Version(each.version) == newest[each.name]:
            assert each in stay
    assert superseded(stay, ARCHES, keep) == {}
    assert set(superseded(packages, ARCHES, keep + 1)) <= set(gone)
