"""Tests of buildd.protocol: what its messages show, and what it costs."""

import time
from functools import reduce

import pytest

from buildd.protocol import (
    BinNmu,
    Cause,
    PackageBuilderName,
    ProtocolError,
    parse_architecture,
    parse_binarypackage_arguments,
    parse_cause,
    parse_fast_cleanup,
    parse_file_name,
    parse_filemap,
    parse_sha1,
)

HUGE = "a/" * (5 << 20)
DEEP = reduce(lambda inner, _: [inner], range(100_000), list[object]())
WRONG = (HUGE, HUGE.encode(), "\0" * (1 << 20), [HUGE] * 100, {HUGE: HUGE}, DEEP, {"x": DEEP}, 1 << 100_000, 0.5, None)


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_huge_values_cost_nothing(value: object) -> None:
    """A value of 10 MB, or 100,000 deep, is refused at once, in a message of one short line."""
    parsers = (
        parse_sha1,
        parse_file_name,
        parse_architecture,
        lambda value: parse_filemap({"a.dsc": value}),
        lambda value: parse_fast_cleanup({"fast_cleanup": value or "x"}),
        lambda value: parse_binarypackage_arguments({"archives": [value]}, "amd64"),
    )
    for parse in parsers:
        begun = time.process_time()
        with pytest.raises(ProtocolError) as caught:
            parse(value)
        assert time.process_time() - begun < 0.5
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x", "'x'"),
        ("x" * 78, "'" + "x" * 78 + "'"),
        ("x" * 79, "'" + "x" * 76 + "..."),
        (7, "7"),
        (None, "None"),
        ([1], "an array"),
        ({}, "a struct"),
        (object(), "a value of type object"),
    ],
)
def test_wrong_values_are_named(value: object, shown: str) -> None:
    """A message shows the value; of what is composed, only the kind."""
    with pytest.raises(ProtocolError) as caught:
        parse_sha1(value)
    assert str(caught.value) == f"not a SHA-1 of 40 hex digits: {shown}"


@pytest.mark.parametrize(
    ("arguments", "parsed"), [({}, False), ({"fast_cleanup": None}, False), ({"fast_cleanup": 1}, True)]
)
def test_fast_cleanup(arguments: dict[str, object], parsed: bool) -> None:
    """fast_cleanup: False when absent; older masters send integers."""
    assert parse_fast_cleanup(arguments) is parsed


WANTED = {"series": "bookworm", "suite": "bookworm"}


@pytest.mark.parametrize(("value", "parsed"), [(None, None), ("", None), ("direct", PackageBuilderName.DIRECT)])
def test_package_builder(value: object, parsed: PackageBuilderName | None) -> None:
    """package_builder: the daemon's own choice when absent."""
    arguments = parse_binarypackage_arguments({**WANTED, "package_builder": value}, "amd64")
    assert arguments.package_builder is parsed
    assert arguments.to_wire().get("package_builder") == parsed


BINNMU = {"number": 3, "changelog": "Rebuild.", "maintainer": "Ann <ann@h>"}


def test_what_a_build_may_ask_for_beyond_protocol_1_0() -> None:
    """It comes through the wire as it was; without any of it nothing is sent."""
    asked = {
        **WANTED,
        "host_architecture": "arm64",
        "build_profiles": ["nocheck", "pkg.hello.mini"],
        "build_options": ["parallel=3", "nocheck", "hardening=-all"],
        "binnmu": BINNMU,
        "source_date_epoch": "99999999999",
        "package_versions": ["libc6=2.36-9+deb12u8", "libc6:i386=1:2~rc1"],
    }
    arguments = parse_binarypackage_arguments(asked, "amd64")
    assert arguments.binnmu == BinNmu(3, "Rebuild.", "Ann <ann@h>")
    assert arguments.source_date_epoch == 99999999999
    assert parse_binarypackage_arguments(arguments.to_wire(), "i386") == arguments
    assert not asked.keys() & parse_binarypackage_arguments(WANTED, "amd64").to_wire().keys() - WANTED.keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"host_architecture": "../x"},
        {"host_architecture": 1},
        {"build_profiles": "nocheck"},
        {"build_profiles": ["a b"]},
        {"build_profiles": ["!nocheck"]},
        {"build_options": ["parallel=0"]},
        {"build_options": ["parallel"]},
        {"build_options": ["parallel=x"]},
        {"build_options": ["a b"]},
        {"build_options": ["$x"]},
        {"build_options": [1]},
        {"source_date_epoch": -1},
        {"package_versions": ["libc6"]},
        {"package_versions": ["libc6=1\nPin: release *"]},
        {"package_versions": ["*=1"]},
        {"package_versions": ["libc6=/1|2/"]},
        {"source_date_epoch": True},
        {"source_date_epoch": 1.5},
        {"source_date_epoch": "1e9"},
        {"source_date_epoch": 10**12},
        {"binnmu": 3},
        {"binnmu": {**BINNMU, "number": 0}},
        {"binnmu": {**BINNMU, "number": 10_000}},
        {"binnmu": {**BINNMU, "changelog": " "}},
        {"binnmu": {**BINNMU, "changelog": "a\nb"}},
        {"binnmu": {**BINNMU, "maintainer": "Ann"}},
        {"binnmu": {**BINNMU, "maintainer": "Ann <ann@h>\n"}},
        {"binnmu": BINNMU, "arch_indep": True},
    ],
)
def test_what_no_build_may_ask_for(wrong: dict[str, object]) -> None:
    """A message names the key."""
    with pytest.raises(ProtocolError, match=f"{next(iter(wrong))}|binNMU|architecture"):
        parse_binarypackage_arguments({**WANTED, **wrong}, "amd64")


@pytest.mark.parametrize("value", ["pbuilder", "Sbuild", 1, ["sbuild"]])
def test_unknown_package_builder(value: object) -> None:
    """Another is refused by name: nothing else could build what was asked for."""
    with pytest.raises(ProtocolError, match="package_builder"):
        parse_binarypackage_arguments({**WANTED, "package_builder": value}, "amd64")


@pytest.mark.parametrize(
    ("value", "parsed"),
    [("tests", Cause.TESTS), ("network wanted", Cause.NETWORK_WANTED), ("sabotage", None), (3, None), ([], None)],
)
def test_a_cause(value: object, parsed: Cause | None) -> None:
    """A word of the protocol's; whatever else a builder says is no cause."""
    assert parse_cause(value) is parsed
