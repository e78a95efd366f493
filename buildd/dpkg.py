"""What dpkg-buildpackage is asked, and what it finds in its environment, whoever runs it. Pure."""

from buildd.protocol import BinaryPackageArguments

BUILD_USER = "buildd"  # Runs dpkg-buildpackage; stock chroots for build daemons have it too.
BUILD_PATH = "/build/reproducible-path"  # Results and source package are here, the source is unpacked below.


def options(arguments: BinaryPackageArguments) -> list[str]:
    """The options of dpkg-buildpackage (dpkg-buildpackage(1)), as sbuild gives them."""
    return ["--sanitize-env", "-us", "-uc", "-b" if arguments.arch_indep else "-B", "-rfakeroot"]


def environment(arguments: BinaryPackageArguments, jobs: int) -> dict[str, str]:
    """What the package's build sees beside what every build sees: DEB_BUILD_OPTIONS (Debian Policy 4.9.1).

    :param jobs: how many processes it may use at once.
    """
    words = [f"parallel={jobs}"]
    if not arguments.build_debug_symbols:
        words.append("noautodbgsym")
    return {"DEB_BUILD_OPTIONS": " ".join(words)}


def build_type(arguments: BinaryPackageArguments) -> str:
    """What is built, in dpkg-buildpackage's own words."""
    return "binary" if arguments.arch_indep else "any"
