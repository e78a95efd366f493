"""What a dep-wait names."""

import pytest

from buildd.depwait import COMPLETE, IncompleteList, missing, missing_further_down, parse_available
from buildd.relations import parse_relations

LIST = f"""\
Package: libfoo-dev
Version: 1.2-3
Provides: libfoo1-dev (= 1.2), foo-api

Package: gcc
Version: 4:12.2.0-3

{COMPLETE}
"""
AVAILABLE = parse_available(LIST)


def test_what_is_there_is_not_missing() -> None:
    """Packages, versions and provided packages count."""
    wanted = parse_relations("libfoo-dev (>= 1.2), gcc (>= 4:11), foo-api, libfoo1-dev (<< 2), nope | gcc", "amd64")
    assert missing(wanted, AVAILABLE) == ""


def test_what_is_missing_keeps_its_version_and_loses_its_qualifiers() -> None:
    """Architecture and profile qualifiers are stripped, versions kept, repetitions dropped."""
    wanted = parse_relations(
        "libfoo-dev (>= 1.3), bar:any (>= 2) [linux-any] <!nocheck>, bar:native (>= 2), gcc (= 1) | baz", "amd64"
    )
    assert missing(wanted, AVAILABLE) == "libfoo-dev (>= 1.3), bar (>= 2), gcc (= 1) | baz"


@pytest.mark.parametrize("length", [0, 1, 60, len(LIST) - 2, len(LIST) - 1])
def test_a_list_that_breaks_off_is_not_believed(length: int) -> None:
    """What is behind the break would be reported missing."""
    with pytest.raises(IncompleteList):
        parse_available(LIST[:length])


@pytest.mark.parametrize("version", ["1 $x", "", "a b", "$(x)", ":", "1:"])
def test_versions_that_dpkg_would_refuse_satisfy_nothing(version: str) -> None:
    """They are somebody else's mistake in an archive, and end no build."""
    available = parse_available(
        f"Package: aa\nVersion: {version}\nProvides: bb (= {version or '_'}), cc\n\n{COMPLETE}\n"
    )
    assert missing(parse_relations("aa (>= 1), bb (>= 1), cc"), available) == "aa (>= 1), bb (>= 1)"


def test_a_provided_name_without_version_satisfies_no_version() -> None:
    """Debian Policy 7.5: only a versioned Provides does."""
    assert missing(parse_relations("foo-api (>= 1)", "amd64"), AVAILABLE) == "foo-api (>= 1)"


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


def test_rubbish_from_apt_names_nothing() -> None:
    """Its words are those of a program in a hostile chroot."""
    assert missing_further_down("Depends: $(reboot) but it is not installable\n" * 10, AVAILABLE) == ""
