"""The packages that a farm builds are those that sbuild alone builds: byte for byte, as reproducible packages allow.

Debian's own packages, of several kinds; DEBFARM_COMPARE="zlib bc" names others.
"""

import os
import subprocess
from pathlib import Path

import pytest

from ftests.stock_client import StockClient
from harness import BuilddTestSetup, FileServer, base_chroot
from tools.account import build_account
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import fetch_source

pytestmark = pytest.mark.real

SUITE = "bookworm"
# A native package with a compiler, and one that is for all architectures, with patches.
PACKAGES = os.environ.get("DEBFARM_COMPARE", "hostname cowsay").split()


def sbuild_alone(dsc: Path, chroot: Path, folder: Path) -> None:
    """Build a source package with sbuild as Debian ships it, as the unprivileged account, into a folder."""
    account = build_account()
    work = account.make_directory(folder)
    # Its own idea of the build path is random, and in the packages where these are not stripped.
    options = ["--build-path=/build/reproducible-path", "--no-run-lintian", "--no-source", "--arch-all"]
    command: list[str | Path] = ["sbuild", "--chroot-mode=unshare", "--chroot", chroot, "--dist", SUITE, *options, dsc]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "TMPDIR": str(work),
        "DEB_BUILD_OPTIONS": f"parallel={len(os.sched_getaffinity(0))}",
    }
    with (work / "log").open("wb") as log:
        subprocess.run(account.command(command), cwd=work, env=environment, stdout=log, stderr=log, check=True)


def unwrapped(chroot: Path, target: Path) -> Path:
    """The chroot as sbuild wants it: without the folder at the top that is for build daemons."""
    tree = target.parent / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-C", tree, "--exclude=*/dev/*", "-xf", chroot], check=True)
    subprocess.run(["tar", "-C", tree / "chroot-autobuild", "--numeric-owner", "-cf", target, "."], check=True)
    subprocess.run(["rm", "-rf", tree], check=True)
    target.chmod(0o644)
    return target


@pytest.mark.skipif(os.geteuid() != 0, reason="the chroot is made over for sbuild, which needs root to keep its owners")
def test_packages_are_the_same_as_those_of_sbuild_alone() -> None:
    """Every .deb of every package, byte for byte."""
    chroot, places = base_chroot(SUITE), Places(default_root()).make()
    mirror = find_mirror(SUITE)
    folder = Path(build_account().make_directory(places.tests / f"same-{os.getpid()}"))
    setup, files = BuilddTestSetup(), FileServer()
    setup.setUp()
    try:
        client = StockClient(setup.url, files)
        plain = unwrapped(chroot, folder / "chroot.tar")
        for package in PACKAGES:
            dsc = fetch_source(package, SUITE, mirror, places)
            sbuild_alone(dsc, plain, folder / package)
            status, log = client.build(f"same-{package}", dsc, chroot)
            assert status["build_status"] == "BuildStatus.OK", log[-4000:]
            alone = {path.name: path.read_bytes() for path in (folder / package).glob("*.deb")}
            ours = {name: client.fetch(sha1) for name, sha1 in status["filemap"].items() if name.endswith(".deb")}
            assert alone.keys() == ours.keys()
            assert [name for name in alone if alone[name] != ours[name]] == []
            client.proxy.clean()
    finally:
        setup.tearDown()
        files.close()
        build_account().remove_tree(folder)
