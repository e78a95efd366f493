"""What dpkg-buildpackage is asked."""

import pytest

from buildd import dpkg
from buildd.control import Dsc
from buildd.protocol import BinaryPackageArguments, BinNmu

PLAIN = BinaryPackageArguments("amd64", "x", "bookworm", build_debug_symbols=True)
CROSS = BinaryPackageArguments("amd64", "x", "bookworm", build_debug_symbols=True, host_architecture="arm64")


def words(**arguments: object) -> str:
    """DEB_BUILD_OPTIONS where four jobs are allowed."""
    asked = BinaryPackageArguments("amd64", "x", "x", **arguments)  # type: ignore[arg-type]
    return dpkg.environment(asked, 4)["DEB_BUILD_OPTIONS"]


def test_debug_symbols_are_made_when_asked_for() -> None:
    """noautodbgsym (debhelper) turns them off."""
    assert words(build_debug_symbols=True) == "parallel=4"
    assert words() == "parallel=4 noautodbgsym"


def test_packages_for_all_architectures_are_made_when_asked_for() -> None:
    """-b makes them, -B does not."""
    assert "-B" in dpkg.options(BinaryPackageArguments("amd64", "x", "x"))
    assert "-b" in dpkg.options(BinaryPackageArguments("amd64", "x", "x", arch_indep=True))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("parallel=2",), "parallel=2"),
        (("parallel=99",), "parallel=4"),
        (("parallel=3", "parallel=2", "nocheck"), "parallel=2 nocheck"),
        (("nodoc", "terse"), "parallel=4 nodoc terse"),
        (("noautodbgsym",), "parallel=4 noautodbgsym"),
    ],
)
def test_build_options(options: tuple[str, ...], found: str) -> None:
    """As asked for, but no more jobs at once than the daemon allows."""
    assert words(build_options=options, build_debug_symbols=True) == found
    assert words(build_options=options).split().count("noautodbgsym") == 1


def test_a_cross_build_is_asked_for_as_sbuild_does() -> None:
    """Profiles cross and nocheck, option nocheck, answers for configure; unless something else is wanted."""
    assert dpkg.options(PLAIN) == ["--sanitize-env", "-us", "-uc", "-B", "-rfakeroot"]
    assert dpkg.environment(PLAIN, 1) == {"DEB_BUILD_OPTIONS": "parallel=1"}
    assert dpkg.options(CROSS) == ["--sanitize-env", "-aarm64", "-Pcross,nocheck", "-us", "-uc", "-B", "-rfakeroot"]
    assert dpkg.environment(CROSS, 1) == {
        "CONFIG_SITE": "/etc/dpkg-cross/cross-config.arm64",
        "DEB_BUILD_OPTIONS": "parallel=1 nocheck",
    }
    other = BinaryPackageArguments(
        "amd64", "x", "x", host_architecture="arm64", build_profiles=("cross",), build_options=("nodoc",)
    )
    assert dpkg.profiles(other) == ("cross",)
    assert "nocheck" not in dpkg.environment(other, 1)["DEB_BUILD_OPTIONS"]


def test_the_host_architecture_may_be_the_chroots() -> None:
    """That is no cross-build."""
    same = BinaryPackageArguments("amd64", "x", "x", host_architecture="amd64")
    assert (dpkg.cross_for(same), dpkg.profiles(same)) == ("", ())


def test_a_binnmu_is_an_entry_in_the_changelog() -> None:
    """In the words that sbuild has for it; its date is the build's, if that has one."""
    dsc = Dsc("hello", "1:2.10-3", "1.0", (), (), (), {})
    assert (dpkg.binary_version(dsc, PLAIN), dpkg.changelog_entry(dsc, PLAIN, 0)) == ("1:2.10-3", "")
    binnmu = BinNmu(2, "Rebuild with libc 3.", "Ann <ann@h>")
    arguments = BinaryPackageArguments("amd64", "x", "bookworm", binnmu=binnmu)
    assert dpkg.binary_version(dsc, arguments) == "1:2.10-3+b2"
    assert dpkg.changelog_entry(dsc, arguments, 86400) == (
        "hello (1:2.10-3+b2) bookworm; urgency=low, binary-only=yes\n\n"
        "  * Binary-only non-maintainer upload for amd64; no source changes.\n"
        "  * Rebuild with libc 3.\n\n"
        " -- Ann <ann@h>  Fri, 02 Jan 1970 00:00:00 +0000\n\n"
    )
    dated = BinaryPackageArguments("amd64", "x", "bookworm", binnmu=binnmu, source_date_epoch=0)
    assert "Thu, 01 Jan 1970 00:00:00" in dpkg.changelog_entry(dsc, dated, 86400)


def test_a_package_that_may_reach_something_is_told_how() -> None:
    """By the proxy, but for what is its own; no other package hears of a proxy."""
    found = dpkg.environment(PLAIN, 1, proxied=True)
    assert found["http_proxy"] == found["https_proxy"] == "http://127.0.0.1:3128"
    assert found["no_proxy"].split(",") == ["localhost", "127.0.0.1", "::1"]
    assert not [name for name in dpkg.environment(PLAIN, 1) if "proxy" in name]
