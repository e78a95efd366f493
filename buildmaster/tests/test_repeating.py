"""Whether a build that repeats another made the same of it."""

from pathlib import PurePath

from buildd.control import parse_buildinfo
from buildmaster.repeating import Circumstances, Differs, compare, otherwise, versions

BUILDINFO = f"""Source: hello
Version: 1.0
Build-Architecture: amd64
Build-Path: /build/one
Checksums-Sha256: {"0" * 64} 1 x
Installed-Build-Depends: gcc (= 12), make (= 4), libc6:i386 (= 2)
Environment:
 LANG="C"
"""


def info(text: str) -> Circumstances:
    return Circumstances("bob", "c" * 64, parse_buildinfo(PurePath("x"), text.encode()))


def test_files_are_compared() -> None:
    """Files that differ, are gone or are new are told; what describes the build itself is not compared."""
    was = {"a.deb": "1", "b.deb": "2", "c.deb": "3", "x.changes": "4", "x.buildinfo": "5"}
    now = {"a.deb": "1", "b.deb": "9", "d.deb": "3", "x.changes": "8", "x.buildinfo": "7"}
    same, differing = compare(was, now)
    assert same == ["a.deb"]
    assert differing == [Differs("b.deb", "2", "9"), Differs("c.deb", "3", ""), Differs("d.deb", "", "3")]


def test_the_same_circumstances() -> None:
    """On another builder, and all else the same, there is nothing to tell."""
    was = info(BUILDINFO)
    assert list(otherwise(was, Circumstances("alice", was.chroot, was.buildinfo))) == []


def test_other_circumstances() -> None:
    """Builder, chroot, path, environment and each package's version."""
    text = BUILDINFO.replace("gcc (= 12)", "gcc (= 13)").replace("make (= 4), ", "").replace('"C"', '"de"')
    other = info(text.replace("/build/one", "/build/two"))
    now = Circumstances("bob", "d" * 64, other.buildinfo)
    assert list(otherwise(info(BUILDINFO), now)) == [
        "both on builder bob",
        f"another chroot: {'d' * 64}, not {'c' * 64}",
        "built in /build/two, not /build/one",
        "environment: LANG de, not C",
        "gcc 13, not 12",
        "make (none), not 4",
    ]


def test_versions() -> None:
    """Of what was installed, for builders to choose; of a .buildinfo that names too much, none."""
    assert versions(parse_buildinfo(PurePath("x"), BUILDINFO.encode())) == ("gcc=12", "libc6:i386=2", "make=4")
    many = BUILDINFO.replace("make (= 4)", ", ".join(f"p{number} (= 1)" for number in range(5000)))
    assert versions(parse_buildinfo(PurePath("x"), many.encode())) == ()


def test_what_is_not_known() -> None:
    """Of a build from before the chroot was recorded, or without .buildinfo, that is said."""
    unknown = Circumstances("alice", "", None)
    assert list(otherwise(unknown, info(BUILDINFO))) == [
        "which chroot the first had is not recorded",
        "what was installed is not known of both",
    ]
