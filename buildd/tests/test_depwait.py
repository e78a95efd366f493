"""What a dep-wait names."""

import re
import tracemalloc
from collections.abc import Iterable

import pytest

from buildd.depwait import (
    COMPLETE,
    Available,
    IncompleteList,
    asked_for,
    missing,
    missing_further_down,
    parse_available,
)
from buildd.relations import parse_relations

LIST = f"""\
Package: libfoo-dev
Version: 1.2-3
Architecture: amd64
Provides: libfoo1-dev (= 1.2), foo-api

Package: gcc
Version: 4:12.2.0-3
Architecture: amd64

{COMPLETE}
"""


def all_of(text: str, native: str) -> Available:
    """Whatever apt has, as if each of it were asked for."""
    return parse_available(text, native, frozenset(re.findall(r"[^\s,()]+", text)))


AVAILABLE = all_of(LIST, "amd64")


def test_what_is_there_is_not_missing() -> None:
    """Packages, versions and provided packages count."""
    wanted = parse_relations("libfoo-dev (>= 1.2), gcc (>= 4:11), foo-api, libfoo1-dev (<< 2), nope | gcc", "amd64")
    assert missing(wanted, AVAILABLE, "amd64") == ""


def test_what_is_missing_keeps_its_version_and_loses_its_qualifiers() -> None:
    """Architecture and profile qualifiers are stripped, versions kept, repetitions dropped."""
    wanted = parse_relations(
        "libfoo-dev (>= 1.3), bar:any (>= 2) [linux-any] <!nocheck>, bar:native (>= 2), gcc (= 1) | baz", "amd64"
    )
    assert missing(wanted, AVAILABLE, "amd64") == "libfoo-dev (>= 1.3), bar (>= 2), gcc (= 1) | baz"


@pytest.mark.parametrize("length", [0, 1, 60, len(LIST) - 2, len(LIST) - 1])
def test_a_list_that_breaks_off_is_not_believed(length: int) -> None:
    """What is behind the break would be reported missing."""
    with pytest.raises(IncompleteList):
        all_of(LIST[:length], "amd64")


@pytest.mark.parametrize("version", ["1 $x", "", "a b", "$(x)", ":", "1:"])
def test_versions_that_dpkg_would_refuse_satisfy_nothing(version: str) -> None:
    """They are somebody else's mistake in an archive, and end no build."""
    available = all_of(
        f"Package: aa\nVersion: {version}\nProvides: bb (= {version or '_'}), cc\n\n{COMPLETE}\n", "amd64"
    )
    assert missing(parse_relations("aa (>= 1), bb (>= 1), cc"), available, "amd64") == "aa (>= 1), bb (>= 1)"


def test_a_provided_name_without_version_satisfies_no_version() -> None:
    """Debian Policy 7.5: only a versioned Provides does."""
    assert missing(parse_relations("foo-api (>= 1)", "amd64"), AVAILABLE, "amd64") == "foo-api (>= 1)"


def test_what_is_asked_for_is_what_is_wanted_and_what_apt_names() -> None:
    """Whatever the alternative, however deep."""
    explanation = " aa : Depends: libbar:arm64 (>= 2) but it is not installable\n"
    wanted = parse_relations("libfoo-dev (>= 1.2) | gcc, bar:any", "amd64")
    assert asked_for(wanted, explanation) == {"libfoo-dev", "gcc", "bar", "libbar"}


def test_of_a_long_list_only_what_is_asked_for_is_kept() -> None:
    """Debian has 60,000 packages: all of them as objects take 50 MB, of which the allocator of a thread keeps much."""
    stanza = "Package: libaa{0}\nVersion: {0}-1\nArchitecture: amd64\nProvides: bb{0} (= 1), cc\n\n"
    text = "".join(map(stanza.format, range(20_000))) + f"{COMPLETE}\n"
    tracemalloc.start()
    try:
        available = parse_available(text, "amd64", {"libaa7", "bb19999", "nope"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert missing(parse_relations("libaa7 (= 7-1), bb19999, nope"), available, "amd64") == "nope"
    assert peak < 200_000


def test_apt_names_what_is_missing_further_down() -> None:
    """A dependency of a dependency is named, unless the archives have it and only a conflict is in the way."""
    explanation = """The following packages have unmet dependencies:
 builddeps:x.dsc : Depends: libfoo-dev but it is not going to be installed
 libfoo-dev : Depends: libbar (>= 2) but it is not installable
              Depends: gcc (= 4:12.2.0-3) but 4:13 is to be installed
              Depends: libfoo-dev (>= 9:1) but 1.2-3 is to be installed
E: Unable to correct problems, you have held broken packages.
"""
    assert missing_further_down(explanation, AVAILABLE) == "libbar (>= 2), libfoo-dev (>= 9:1)"


TWO_ARCHITECTURES = [
    ("both", "1", "amd64", "same", ""),
    ("both", "1", "arm64", "same", ""),
    ("native-only", "1", "amd64", "", "virtual, virtual-3 (= 3)"),
    ("host-only", "1", "arm64", "", ""),
    ("skewed", "2", "amd64", "", ""),
    ("skewed", "1", "arm64", "", ""),
    ("plain-all", "1", "all", "", ""),
    ("foreign-all", "1", "all", "foreign", ""),
    ("foreign-native", "1", "amd64", "foreign", "foreign-virtual"),
    ("allowed-native", "1", "amd64", "allowed", ""),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("both, host-only, both:native, host-only | nope", ""),
        ("native-only, virtual, virtual-3 (>= 3)", "native-only, virtual, virtual-3 (>= 3)"),
        ("native-only:native, virtual:native, plain-all:native", ""),
        ("host-only:native", "host-only"),
        ("skewed (>= 2), skewed:native (>= 2), skewed (= 1)", "skewed (>= 2)"),
        ("plain-all", "plain-all"),  # To apt it is one of the chroot's own architecture.
        ("foreign-all, foreign-native, foreign-virtual, foreign-all:native", ""),
        ("allowed-native", "allowed-native"),
        ("allowed-native:any", ""),
    ],
)
def test_what_is_there_for_another_architecture_is_missing_in_a_cross_build(wanted: str, expected: str) -> None:
    """As apt-get build-dep --host-architecture takes these."""
    available = all_of(show(TWO_ARCHITECTURES), "amd64")
    assert missing(parse_relations(wanted), available, "arm64") == expected


def test_what_only_another_architecture_has_is_missing_in_any_build() -> None:
    """A chroot may know of a second one, for whatever reason."""
    available = all_of(show(TWO_ARCHITECTURES), "amd64")
    assert missing(parse_relations("both, host-only, plain-all, foreign-native"), available, "amd64") == "host-only"


def test_apt_names_what_is_missing_further_down_of_which_architecture() -> None:
    """Where it names none, it is the chroot's."""
    explanation = """The following packages have unmet dependencies:
 deeper:arm64 : Depends: native-only:arm64 but it is not installable
                Depends: host-only:arm64 but it is not installable
                Depends: foreign-native:arm64 but it is not installable
 tool : Depends: host-only but it is not installable
        Depends: native-only but it is not installable
"""
    available = all_of(show(TWO_ARCHITECTURES), "amd64")
    assert missing_further_down(explanation, available) == "native-only, host-only"


def show(packages: Iterable[Iterable[str]]) -> str:
    """As apt lists them; a field without a value is not there."""
    fields = ("Package", "Version", "Architecture", "Multi-Arch", "Provides")
    stanzas = [
        "".join(f"{field}: {value}\n" for field, value in zip(fields, package, strict=True) if value)
        for package in packages
    ]
    return "\n".join([*stanzas, f"{COMPLETE}\n"])


def test_rubbish_from_apt_names_nothing() -> None:
    """Its words are those of a program in a hostile chroot."""
    assert missing_further_down("Depends: $(reboot) but it is not installable\n" * 10, AVAILABLE) == ""
