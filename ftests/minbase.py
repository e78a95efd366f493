"""Debian's smallest system that has apt: its packages, fetched from Debian once, with stand-ins for their sources."""

import subprocess
from collections import defaultdict
from pathlib import Path

from buildmaster.tests.uploading import Upload
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import PrivateApt

SUITE = "bookworm"
# What debootstrap takes: usr-is-merged stands for what else would make a system one with a merged /usr, later.
WANTED = ("apt", "usr-is-merged", "?priority(required)")


def fetch(folder: Path) -> list[Path]:
    """The .deb files, and .dsc files of the names and versions that they say they were built of. (Debian's own would be
    another 260 MB, for nobody to read.)

    :param folder: where sources are written.
    :raises NoSource: Debian's mirror does not answer.
    """
    apt = PrivateApt(Places(default_root()).apt / f"{SUITE}-minbase", find_mirror(SUITE), SUITE, ("deb",))
    debs = apt.fetch_binaries(*WANTED)
    architectures: dict[tuple[str, str], set[str]] = defaultdict(set)
    for deb in debs:
        name, version, architecture = _said(deb)
        architectures[name, version].add("all" if architecture == "all" else "any")
    for (name, version), some in architectures.items():
        Upload(name=name, version=version, architectures=" ".join(sorted(some)), signer="").write(folder)
    return [*folder.glob("*.dsc"), *debs]


def _said(deb: Path) -> list[str]:
    """The name and version of what a package was built of, and its architecture."""
    command = ["dpkg-deb", "--show", "--showformat=${source:Package} ${source:Version} ${Architecture}", str(deb)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
