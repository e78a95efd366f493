"""What counts of a release file."""

import pytest

from buildmaster.package_lists import what_counts

RELEASE = b"""\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

Origin: Farm
Suite: bookworm
Date: Sun, 22 Nov 2026 22:00:00 UTC
Valid-Until: Sun, 29 Nov 2026 22:00:00 UTC
SHA256:
 aaaa 100 main/binary-amd64/Packages
 bbbb 50 main/binary-amd64/Packages.xz
 cccc 70 main/source/Sources.xz
 dddd 70 main/Contents-amd64.gz
-----BEGIN PGP SIGNATURE-----

abcd
-----END PGP SIGNATURE-----
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"22 Nov", b"23 Nov"), (b"29 Nov", b"30 Nov"), (b"cccc 70", b"ccce 71"), (b"dddd", b"ddde"), (b"abcd", b"dcba")],
)
def test_the_same_for_builds(old: bytes, new: bytes) -> None:
    """When it was signed, and what is neither a package nor says how to take one, does not count."""
    assert old in RELEASE and what_counts(RELEASE.replace(old, new)) == what_counts(RELEASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"aaaa", b"aaab"), (b"50 main", b"51 main"), (b"Suite: bookworm", b"Suite: sid"), (b"bbbb", b"")],
)
def test_another_one_for_builds(old: bytes, new: bytes) -> None:
    """Packages count, and so does what apt's preferences go by."""
    assert what_counts(RELEASE.replace(old, new)) != what_counts(RELEASE)


def test_what_says_nothing_of_packages() -> None:
    """Of what cannot be understood all counts."""
    for text in (b"", b"Date: x\n", b"SHA256:\n aaaa 1 main/source/Sources\n", b"\xff\x00"):
        assert what_counts(text) != what_counts(text + b"Date: y\n")
