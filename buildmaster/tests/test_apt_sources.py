"""Lines for sources.list."""

import base64

import pytest

from buildmaster.apt_sources import Login, Sources, Suite, chroot_sources, joined

URL = "https://packages.example:8230/farm"
OPEN = Suite("debian/mine", "bookworm", ("main", "contrib"))
PRIVATE = Suite("debian/secret", "bookworm-updates", ("main",), private=True)

DEB822 = b"""\
Types: deb deb-src
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/
Suites: x
Components: main

Types: deb
URIs: http://flat.example/
Suites: ./
Architectures: amd64 arm64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_lines() -> None:
    """An archive that everybody may read is named; for a private one there is a login in the line."""
    login = Login("build-7", "p/w@:")
    assert OPEN.line(URL, login) == f"deb {URL}/debian/mine bookworm main contrib"
    assert PRIVATE.line(URL, login) == (
        "deb https://build-7:p%2Fw%40%3A@packages.example:8230/farm/debian/secret bookworm-updates main"
    )
    assert PRIVATE.line(URL) == f"deb {URL}/debian/secret bookworm-updates main"
    assert OPEN.line(URL, keyring=OPEN.keyring).startswith("deb [signed-by=/etc/apt/keyrings/debian-mine.asc] https")
    assert Sources((OPEN,), ("deb http://x/ y z",)).at(URL) == (OPEN.line(URL), "deb http://x/ y z")


def test_a_login_is_not_told() -> None:
    """Whoever prints a login tells no password."""
    assert "p/w" not in repr(Login("build-7", "p/w")) and "p/w" not in f"{Login('build-7', 'p/w')}"


def test_the_chroots_own_lines() -> None:
    """Who builds on us builds on what the chroot has as well; when that is not known, on that alone."""
    chroot = Sources(lines=("deb http://deb.debian.org/debian bookworm main",), keys=("b",))
    ours = Sources((OPEN,), keys=("a",))
    assert ours.complete(chroot) == Sources((OPEN,), chroot.lines, ("a", "b"))
    assert ours.complete(Sources()) == Sources(keys=("a",))
    said = Sources((OPEN,), ("deb http://x/ y z",))
    assert said.complete(chroot) == said
    assert Sources().complete(chroot) == Sources()


def test_one_line_entries() -> None:
    """Comments and what is no entry are left out; sources.list comes first."""
    files = {
        "etc/apt/sources.list.d/b.list": b"deb [arch=amd64] http://b/ s main # why\n\n#deb http://no/ s main\n",
        "etc/apt/sources.list": b"  deb http://a/ s main\nnonsense\n",
        "etc/apt/sources.list.d/c.save": b"deb http://c/ s main\n",
        "usr/share/keyrings/x.gpg": b"deb http://d/ s main\n",
    }
    assert chroot_sources(files).lines == ("deb http://a/ s main", "deb [arch=amd64] http://b/ s main")


def test_deb822() -> None:
    """Paragraphs say the same as lines; a key that stands in one is a key."""
    found = chroot_sources({"etc/apt/sources.list.d/debian.sources": DEB822})
    keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert found.lines == (
        f"deb {keyring} http://deb.debian.org/debian trixie main contrib",
        f"deb {keyring} http://deb.debian.org/debian trixie-updates main contrib",
        f"deb-src {keyring} http://deb.debian.org/debian trixie main contrib",
        f"deb-src {keyring} http://deb.debian.org/debian trixie-updates main contrib",
        "deb [arch=amd64,arm64] http://flat.example/ ./",
    )
    (key,) = found.keys
    assert base64.b64decode(key).splitlines() == [
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"", b"abcd", b"-----END PGP PUBLIC KEY BLOCK-----",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"Types deb", b"Types: deb\n", b"Types: deb\nURIs: x\n"])
def test_nonsense(content: bytes) -> None:
    """A file that says nothing says nothing."""
    assert chroot_sources({"etc/apt/sources.list.d/x.sources": content}) == Sources()


def test_each_once() -> None:
    """What several have is there once, in the order in which it came."""
    assert joined([Sources((OPEN,), ("a",), ("k",)), Sources((PRIVATE, OPEN), ("b", "a"), ("k",))]) == Sources(
        (OPEN, PRIVATE), ("a", "b"), ("k",)
    )
