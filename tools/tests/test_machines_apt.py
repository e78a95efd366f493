"""Tests of what the machine's apt says about where Debian is."""

from pathlib import Path

import pytest

from tools.machines_apt import DEBIAN_KEYRING, FALLBACK, Mirror, find_mirror


def _etc(tmp_path: Path, **files: str) -> Path:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    for name, text in files.items():
        (parts / name.replace("_", ".")).write_text(text)
    return tmp_path


def test_deb822(tmp_path: Path) -> None:
    """The mirror of a deb822 source is used, comments and other archives passed over."""
    text = """\
Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
# A comment.
URIs: http://mirror.test/debian/
Suites: bookworm bookworm-updates
Components: main
"""
    assert find_mirror("bookworm", _etc(tmp_path, debian_sources=text)) == Mirror("http://mirror.test/debian")


def test_one_line_with_its_own_key(tmp_path: Path) -> None:
    """The key that a source names is what its mirror is checked with."""
    key = tmp_path / "key.gpg"
    key.touch()
    etc = _etc(tmp_path)
    (etc / "sources.list").write_text(
        f"# deb http://old.test/debian x main\ndeb [ arch=amd64 signed-by={key} ] "
        "https://mirror.test/debian bookworm main # near\n"
    )
    assert find_mirror("bookworm", etc) == Mirror("https://mirror.test/debian", key)


@pytest.mark.parametrize("suite, host", [("bookworm", "a.test"), ("trixie", "b.test"), ("sid", "a.test")])
def test_the_suites_own_mirror_comes_first(tmp_path: Path, suite: str, host: str) -> None:
    """A mirror that has the suite is preferred; else the first one will do, since mirrors hold every suite."""
    a, b = "deb http://a.test/debian bookworm main\n", "deb http://b.test/debian trixie main\n"
    assert find_mirror(suite, _etc(tmp_path, a_list=a, b_list=b)).url == f"http://{host}/debian"


@pytest.mark.parametrize(
    "text",
    [
        "deb http://archive.test/ubuntu noble main\n",
        "deb cdrom:[Debian]/ bookworm main\n",
        "deb file:/srv/debian bookworm main\n",
        "deb-src http://mirror.test/debian bookworm main\n",
        "",
    ],
)
def test_no_mirror_of_debians(tmp_path: Path, text: str) -> None:
    """Where the machine names no Debian mirror that a chroot could use too, Debian's own is used."""
    assert find_mirror("bookworm", _etc(tmp_path, x_list=text)) == Mirror(FALLBACK, DEBIAN_KEYRING)


def test_disabled_and_foreign_files(tmp_path: Path) -> None:
    """What is disabled, or in a file that apt does not read, is no source."""
    stanza = "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\n"
    etc = _etc(tmp_path, off_sources=f"{stanza}Enabled: no\n", debian_sources_save=stanza)
    assert find_mirror("bookworm", etc).url == FALLBACK


def test_mirror_list(tmp_path: Path) -> None:
    """A mirror+file: source, as in Debian's cloud images, stands for the mirrors in that file."""
    mirrors = tmp_path / "mirrors"
    mirrors.write_text("# Ours\nhttps://mirror.test/debian\tpriority:1\n")
    stanza = f"Types: deb\nURIs: mirror+file://{mirrors}\nSuites: bookworm\nComponents: main\n"
    assert find_mirror("bookworm", _etc(tmp_path, debian_sources=stanza)).url == "https://mirror.test/debian"


def test_snapshot(tmp_path: Path) -> None:
    """A snapshot of Debian's archive is a mirror too."""
    text = "deb http://snapshot.test/archive/debian/20250520T000000Z/ bookworm main\n"
    found = find_mirror("bookworm", _etc(tmp_path, x_list=text))
    assert found.url == "http://snapshot.test/archive/debian/20250520T000000Z"
