"""What dpkg-buildpackage is asked."""

from buildd import dpkg
from buildd.protocol import BinaryPackageArguments


def test_debug_symbols_are_made_when_asked_for() -> None:
    """noautodbgsym (debhelper) turns them off."""
    arguments = BinaryPackageArguments("amd64", "x", "x", build_debug_symbols=True)
    assert dpkg.environment(arguments, 3) == {"DEB_BUILD_OPTIONS": "parallel=3"}
    arguments = BinaryPackageArguments("amd64", "x", "x")
    assert dpkg.environment(arguments, 3) == {"DEB_BUILD_OPTIONS": "parallel=3 noautodbgsym"}


def test_packages_for_all_architectures_are_made_when_asked_for() -> None:
    """-b makes them, -B does not."""
    assert "-B" in dpkg.options(BinaryPackageArguments("amd64", "x", "x"))
    assert "-b" in dpkg.options(BinaryPackageArguments("amd64", "x", "x", arch_indep=True))
