"""What can be installed from what the archives have, and what is said when it cannot."""

import tempfile

import pytest

from buildd.relations import parse_relations
from buildmaster.available import prepared, with_installed
from buildmaster.dependencies import Packages

BASE = """
Package: build-essential
Version: 12
Architecture: amd64

Package: fakeroot
Version: 1
Architecture: amd64
"""
SOME = """
Package: tool
Version: 1.5
Architecture: amd64
Multi-Arch: allowed
Provides: tool-abi (= 7), tool-virtual

Package: plain
Version: 2-1
Architecture: amd64
Provides: virtual, versioned (= 3)

Package: script
Version: 1
Architecture: all
Depends: tool:any (>= 1)

Package: wants-plain-of-any
Version: 1
Architecture: all
Depends: plain:any

Package: deep
Version: 1
Architecture: all
Depends: deeper (>= 2) | deepest

Package: deepest
Version: 1
Architecture: all
Pre-Depends: abyss (>> 4), plain:amd64

Package: left
Version: 1
Architecture: all
Conflicts: right

Package: right
Version: 1
Architecture: all

Package: takes-left
Version: 1
Architecture: all
Depends: left

Package: breaks-old-plain
Version: 1
Architecture: all
Breaks: plain (<< 3)

Package: base
Version: 1
Architecture: all
Essential: yes

Package: baseless
Version: 1
Architecture: all
Conflicts: base
"""


def packages(text: str = BASE + SOME) -> Packages:
    with tempfile.TemporaryFile() as file:
        file.write(prepared(text.encode(), "amd64"))
        file.seek(0)
        return Packages(file, "amd64")


def lack(wanted: str, unwanted: str = "", text: str = BASE + SOME) -> tuple[str, str] | None:
    """The reason, and what is missing."""
    found = packages(text).lack(parse_relations(wanted, "amd64"), parse_relations(unwanted, "amd64"))
    return None if found is None else (found.reason, found.missing)


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "plain, script, tool",
        "plain (= 2-1), plain (>= 2), plain (<< 3), plain (>> 1), plain (<= 2-1)",
        "virtual, versioned (>= 2), versioned (= 3)",
        "tool:any, tool-abi:any (>= 7), tool-virtual:any, tool:native, script:native, plain:amd64, script:all",
        "gone | plain",
        "plain (>= 9) | plain (>= 1)",
        "left | right, right",
        "gone [i386], gone [arm64] <!x>, gone <cross>",
    ],
)
def test_what_is_there(wanted: str) -> None:
    """Names, versions, Provides with and without one, alternatives and qualifiers: each can be installed."""
    assert lack(wanted) is None


@pytest.mark.parametrize(
    ("wanted", "reason", "missing"),
    [
        ("gone", "it needs gone, and its archives do not have it", "gone"),
        ("plain (>= 3)", "it needs plain (>= 3), and its archives have plain 2-1", "plain (>= 3)"),
        ("versioned (>= 4)", "it needs versioned (>= 4), and its archives have plain 2-1", "versioned (>= 4)"),
        ("virtual (>= 1)", "it needs virtual (>= 1), and its archives have plain 2-1", "virtual (>= 1)"),
        ("plain:any", "it needs plain:any, and its archives have plain 2-1", "plain"),
        ("script:any", "it needs script:any, and its archives have script 1", "script"),
        ("plain:i386", "it needs plain:i386, and its archives have plain 2-1", "plain"),
        ("gone | away (>= 2)", "it needs gone | away (>= 2), and its archives do not have it", "gone | away (>= 2)"),
        (
            "deep",
            "deep 1 needs deeper (>= 2) | deepest; deepest 1 needs abyss (>> 4), and its archives do not have it",
            "abyss (>> 4)",
        ),
        (
            "wants-plain-of-any",
            "wants-plain-of-any 1 needs plain:any, and its archives do not have it",
            "plain:any",
        ),
        ("takes-left, right", "takes-left 1 needs left; left 1 conflicts with right 1", ""),
        ("plain, breaks-old-plain", "breaks-old-plain 1 conflicts with plain 2-1", ""),
        ("baseless", "baseless 1 conflicts with base 1", ""),
    ],
)
def test_what_is_not_there(wanted: str, reason: str, missing: str) -> None:
    """The reason says what is needed by whom, and what there is instead; what is missing is a relationship field."""
    assert lack(wanted) == (reason, missing)


def test_build_conflicts() -> None:
    """What must not be there is left out, if it can be."""
    assert lack("left | right", "left") is None
    assert lack("plain", "gone, right (>= 2)") is None
    assert lack("takes-left", "left") == ("takes-left 1 needs left; it must be built without left", "")
    assert lack("left", "left") == ("it must be built without left", "")


def test_what_every_build_needs() -> None:
    """Archives without build-essential have nothing that could be built with."""
    found = lack("plain", text=SOME)
    assert found is not None
    assert found[1] == "build-essential, fakeroot"


def test_many_reasons_are_cut_short() -> None:
    """A reason is to be read by a person; what is missing is complete."""
    names = [f"gone{number}" for number in range(9)]
    found = lack(", ".join(names))
    assert found is not None
    assert found[0].endswith("; and 3 more")
    assert found[1] == ", ".join(names)


def test_what_is_installed_counts() -> None:
    """A package that the chroot has and no archive has is there; one that was removed is not."""
    status = b"Package: plain\nStatus: install ok installed\nVersion: 2\nArchitecture: amd64\n\n"
    removed = b"Package: right\nStatus: deinstall ok config-files\nVersion: 2\nArchitecture: all\n\n"
    newer = b"Package: fakeroot\nStatus: install ok installed\nVersion: 99\nArchitecture: amd64\n"
    both = with_installed(BASE.encode(), status + removed + newer).decode()
    assert lack("plain", text=both) is None
    assert lack("right", text=both) is not None
    assert lack("fakeroot (>= 99)", text=both) is not None, "of what the archives have, apt has chosen"


def test_nothing_at_all() -> None:
    """Archives may be empty."""
    assert lack("plain", text="") is not None
