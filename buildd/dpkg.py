"""What dpkg-buildpackage is asked, and what it finds in its environment, whoever runs it. Pure."""

import time

from buildd.control import Dsc
from buildd.isolation.enter import PROXY
from buildd.protocol import BinaryPackageArguments

BUILD_USER = "buildd"  # Runs dpkg-buildpackage; stock chroots for build daemons have it too.
BUILD_PATH = "/build/reproducible-path"  # Results and source package are here, the source is unpacked below.

_PARALLEL = "parallel="


def host_architecture(arguments: BinaryPackageArguments) -> str:
    """What is built for; what it is built on is `arch_tag`."""
    return arguments.host_architecture or arguments.arch_tag


def cross_for(arguments: BinaryPackageArguments) -> str:
    """The architecture that is cross-built for; "" when none is."""
    host = host_architecture(arguments)
    return "" if host == arguments.arch_tag else host


def profiles(arguments: BinaryPackageArguments) -> tuple[str, ...]:
    """The active build profiles; sbuild's own choice when none was made."""
    return arguments.build_profiles or (("cross", "nocheck") if cross_for(arguments) else ())


def options(arguments: BinaryPackageArguments) -> list[str]:
    """The options of dpkg-buildpackage (dpkg-buildpackage(1)), as sbuild gives them."""
    active = profiles(arguments)
    return [
        "--sanitize-env",
        *([f"-a{cross_for(arguments)}"] if cross_for(arguments) else []),
        *([f"-P{','.join(active)}"] if active else []),
        *("-us", "-uc", "-b" if arguments.arch_indep else "-B", "-rfakeroot"),
    ]


def environment(arguments: BinaryPackageArguments, jobs: int, *, proxied: bool = False) -> dict[str, str]:
    """What the package's build sees beside what every build sees.

    :param jobs: how many processes it may use at once, at most.
    :param proxied: it may reach something, by the proxy of its network.
    """
    found = {"DEB_BUILD_OPTIONS": " ".join(_build_options(arguments, jobs))}
    if cross_for(arguments):
        found["CONFIG_SITE"] = f"/etc/dpkg-cross/cross-config.{cross_for(arguments)}"
    if arguments.source_date_epoch is not None:
        found["SOURCE_DATE_EPOCH"] = str(arguments.source_date_epoch)
    if proxied:
        url = f"http://{PROXY[0]}:{PROXY[1]}"
        found |= {"http_proxy": url, "https_proxy": url, "no_proxy": "localhost,127.0.0.1,::1"}
    return found


def build_type(arguments: BinaryPackageArguments) -> str:
    """What is built, in dpkg-buildpackage's own words."""
    return "binary" if arguments.arch_indep else "any"


def binary_version(dsc: Dsc, arguments: BinaryPackageArguments) -> str:
    """The version of the packages that are built."""
    return f"{dsc.version}+b{arguments.binnmu.number}" if arguments.binnmu else dsc.version


def changelog_entry(dsc: Dsc, arguments: BinaryPackageArguments, now: float) -> str:
    """The entry for debian/changelog that makes it a binNMU, in sbuild's words; "" when it is none.

    :param now: the entry's date, unless the build has another.
    """
    if arguments.binnmu is None:
        return ""
    seconds = now if arguments.source_date_epoch is None else arguments.source_date_epoch
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(seconds))
    return (
        f"{dsc.source} ({binary_version(dsc, arguments)}) {arguments.suite}; urgency=low, binary-only=yes\n\n"
        f"  * Binary-only non-maintainer upload for {host_architecture(arguments)}; no source changes.\n"
        f"  * {arguments.binnmu.changelog}\n\n"
        f" -- {arguments.binnmu.maintainer}  {date}\n\n"
    )


def _build_options(arguments: BinaryPackageArguments, jobs: int) -> list[str]:
    """The words of DEB_BUILD_OPTIONS (Debian Policy 4.9.1)."""
    wanted = [int(word.removeprefix(_PARALLEL)) for word in arguments.build_options if word.startswith(_PARALLEL)]
    words = [f"{_PARALLEL}{min([*wanted, jobs])}"]
    words += [word for word in arguments.build_options if not word.startswith(_PARALLEL)]
    if cross_for(arguments) and not arguments.build_options:  # As sbuild does.
        words.append("nocheck")
    if not arguments.build_debug_symbols and "noautodbgsym" not in words:
        words.append("noautodbgsym")
    return words
