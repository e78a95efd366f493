"""Relationship fields, reduced to what applies to a build."""

import pytest

from buildd.control import ControlError
from buildd.relations import Relation, first_alternatives, is_for, parse_relations, show_relations


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        ("", ""),
        ("foo, bar (>= 1:2.3-4~)", "foo, bar (>= 1:2.3-4~)"),
        ("foo,\n bar ,", "foo, bar"),
        ("foo [amd64], bar [!amd64], baz [linux-any], qux [any-i386]", "foo, baz"),
        ("foo [amd64] | bar", "foo | bar"),
        ("foo [i386] | bar", "bar"),
        ("foo [i386]", ""),
        ("foo <!nocheck>, bar <cross>, baz <!nocheck !cross>, qux <cross> <!stage1>", "foo, baz, qux"),
        ("python3:any, gcc:native (>= 9)", "python3:any, gcc:native (>= 9)"),
        ("foo (< 2), bar (> 2)", "foo (<= 2), bar (>= 2)"),
    ],
)
def test_restrictions_to_others_fall_away(field: str, kept: str) -> None:
    """Of a field, what applies to amd64 without build profiles is kept."""
    assert show_relations(parse_relations(field, "amd64")) == kept


def test_without_an_architecture_nothing_may_depend_on_it() -> None:
    """Fields of binary packages have no architecture restrictions (Debian Policy 7.1), so one there is an error."""
    assert show_relations(parse_relations("foo:any (>= 1) | bar")) == "foo:any (>= 1) | bar"
    with pytest.raises(ControlError, match="not for all architectures"):
        parse_relations("foo [amd64]")


@pytest.mark.parametrize("hostile", ["aa, " * 20_000, "aa [" + "!a " * 1000 + "]", "(" * 60_000])
def test_a_field_without_measure_is_refused(hostile: str, caplog: pytest.LogCaptureFixture) -> None:
    """Fields and alternatives that no package has are refused before they cost time or fill the daemon's own log."""
    with pytest.raises(ControlError) as refused:
        parse_relations(hostile, "amd64")
    assert len(str(refused.value)) < 200
    assert not caplog.records


def test_profiles_are_honoured() -> None:
    """An active profile turns <!nocheck> off and <cross> on."""
    clauses = parse_relations("foo <!nocheck>, bar <cross>", "amd64", frozenset({"nocheck", "cross"}))
    assert show_relations(clauses) == "bar"


@pytest.mark.parametrize(
    ("field", "first"),
    [
        ("aa | bb", "aa"),
        ("aa (<< 1) | aa (>> 2) | bb | aa", "aa (<< 1) | aa (>> 2)"),
        ("aa [i386] | bb | cc", "bb"),
    ],
)
def test_the_first_alternative_is_taken(field: str, first: str) -> None:
    """As sbuild does: the first that applies, with those directly after it that name the same package."""
    assert show_relations(first_alternatives(parse_relations(field, "amd64"))) == first


@pytest.mark.parametrize(
    "field", ["lib{x}", "aa (>= )", "aa bb", "(x)", "aa |", "| aa", "AA", "aa (>= 1_2)", "${foo}", "aa [amd64"]
)
def test_what_is_no_relation_is_refused(field: str) -> None:
    """One error, that quotes it."""
    with pytest.raises(ControlError, match="not a"):
        parse_relations(field, "amd64")


@pytest.mark.parametrize(
    ("relation", "taken", "not_taken"),
    [
        (Relation("a", "", ">=", "1.0"), "1.0", "1.0~rc1"),
        (Relation("a", "", ">>", "1.0"), "1.0-1", "1.0"),
        (Relation("a", "", "<<", "1:0"), "99", "1:0"),
        (Relation("a", "", "<=", "2"), "2", "2+b1"),
        (Relation("a", "", "=", "2-1"), "2-1", "2-1+b1"),
    ],
)
def test_versions_compare_as_dpkg_does(relation: Relation, taken: str, not_taken: str) -> None:
    """Epochs and tildes count."""
    assert relation.takes(taken)
    assert not relation.takes(not_taken)


@pytest.mark.parametrize(
    ("named", "arch_indep", "fits"),
    [
        ("any", False, True),
        ("any all", False, True),
        ("all", False, False),
        ("all", True, True),
        ("arm64 all", True, True),
        ("arm64 i386", True, False),
        ("linux-any", False, True),
        ("any-amd64", False, True),
        ("kfreebsd-any hurd-i386", False, False),
        ("", False, True),
    ],
)
def test_architectures_that_a_source_is_for(named: str, arch_indep: bool, fits: bool) -> None:
    """Wildcards count; `all` is one where packages for all architectures are wanted."""
    assert is_for("amd64", named.split(), arch_indep) is fits
