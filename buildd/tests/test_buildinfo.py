"""What a .buildinfo says, and what it may not."""

import contextlib
import hashlib
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildd.control import CONTROL_MAX_BYTES, ControlError, Installed, parse_buildinfo

NAME = PurePath("hello_2.10-3_amd64.buildinfo")
SUM = hashlib.sha256(b"data").hexdigest()
BUILDINFO = f"""Format: 1.0
Source: hello
Binary: hello hello-dbgsym
Architecture: amd64
Version: 2.10-3+b1
Checksums-Sha256:
 {SUM} 4 hello_2.10-3+b1_amd64.deb
Build-Origin: Debian
Build-Architecture: amd64
Build-Date: Sun, 22 Nov 2026 05:19:18 +0000
Build-Path: /build/reproducible-path/hello-2.10
Installed-Build-Depends:
 perl (= 5.36.0-7+deb12u3),
 libc6:i386 (= 2.36-9+deb12u14),
 gcc (= 4:12.2.0-3)
Environment:
 DEB_BUILD_OPTIONS="parallel=2"
 CFLAGS="-DX=\\"y\\" -DZ=\\\\"
 SOURCE_DATE_EPOCH="1672068600"
"""


def test_a_buildinfo_is_read() -> None:
    """All that matters of it comes out in values; quotes are taken off, packages are sorted."""
    found = parse_buildinfo(NAME, BUILDINFO.encode())
    assert (found.source, found.version, found.build_architecture) == ("hello", "2.10-3+b1", "amd64")
    assert [(file.name, file.size, file.sha256) for file in found.files] == [("hello_2.10-3+b1_amd64.deb", 4, SUM)]
    assert found.build_path == "/build/reproducible-path/hello-2.10"
    assert found.installed == (
        Installed("gcc", "4:12.2.0-3"),
        Installed("libc6", "2.36-9+deb12u14", "i386"),
        Installed("perl", "5.36.0-7+deb12u3"),
    )
    assert found.environment["CFLAGS"] == '-DX="y" -DZ=\\'
    assert found.source_date_epoch == 1672068600


def test_a_buildinfo_of_a_binary_rebuild_is_read() -> None:
    """Its Source names the source's version in parentheses."""
    text = BUILDINFO.replace("Source: hello", "Source: hello (2.10-3)")
    assert parse_buildinfo(NAME, text.encode()).source == "hello"


def test_what_may_be_missing() -> None:
    """The path of a build that is not below /build, and a time that is none, are not told."""
    text = BUILDINFO.replace("Build-Path: /build/reproducible-path/hello-2.10\n", "").replace("1672068600", "-1")
    found = parse_buildinfo(NAME, text.encode())
    assert (found.build_path, found.source_date_epoch) == ("", None)


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("Source: hello", "Source: ../hello", "Source is not valid"),
        ("Version: 2.10-3+b1", "Version: 2 10", "Version is not valid"),
        ("Build-Architecture: amd64", "Build-Architecture: $(amd64)", "Build-architecture is not valid"),
        ("hello_2.10-3+b1_amd64.deb", "../hello.deb", "one plain path segment"),
        (SUM, SUM[1:], "not 'digest size name'"),
        ("perl (=", "perl (>=", "in Installed-Build-Depends: 'perl"),
        ("perl (= 5.36.0-7+deb12u3)", f"perl (= {'9' * 300})", "in Installed-Build-Depends"),
        (" gcc (= 4:12.2.0-3)", " gcc (= 1)," * 20_001, "more than 20000 packages"),
        ('"parallel=2"', "parallel=2", "in Environment"),
        ('LS="', 'LS="x"', "in Environment"),
        ("/build/reproducible-path", "/build/" + "x" * 5000, "Build-Path is not valid"),
        ("Format", "X" * CONTROL_MAX_BYTES, "larger than"),
    ],
)
def test_a_bad_buildinfo_is_refused(old: str, new: str, complaint: str) -> None:
    """What it may not say is refused, and the message tells what that is."""
    text = BUILDINFO.replace('CFLAGS="', 'CFLAGS=LS="') if old.startswith("LS") else BUILDINFO
    assert old in text
    with pytest.raises(ControlError, match=complaint):
        parse_buildinfo(NAME, text.replace(old, new).encode())


@given(st.integers(0, len(BUILDINFO)), st.binary(max_size=20), st.integers(0, 60))
def test_damage_is_one_clear_error(where: int, put: bytes, cut: int) -> None:
    """Whatever comes instead of a piece of it, it is read or refused."""
    raw = BUILDINFO.encode()
    with contextlib.suppress(ControlError):
        parse_buildinfo(NAME, raw[:where] + put + raw[where + cut :])
