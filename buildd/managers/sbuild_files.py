"""What is written for sbuild beside the root of a build. All of it blocks."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from buildd import dpkg, sbuild
from buildd.config import BuilddConfig
from buildd.managers.plan import Plan
from buildd.protocol import FileName

START = "sbuild.sh"  # Below the directory that is laid out; it says itself how it is called.
SOURCE = "source"  # Where the files of the source package are, below that directory.


def lay_out(directory: Path, plan: Plan, files: Mapping[FileName, Path], root: Path, config: BuilddConfig) -> None:
    """Make a directory that has all that sbuild and schroot need.

    :param files: the source package, in the cache.
    :param root: of the build, as sbuild sees it.
    """
    source = directory / SOURCE
    (directory / "schroot" / "chroot.d").mkdir(parents=True)
    (directory / "schroot" / "debfarm").mkdir()
    (directory / "home").mkdir()
    source.mkdir()
    for name, path in files.items():
        _place(path, source / name)
    environment = dpkg.environment(plan.arguments, config.jobs)
    (directory / "sbuildrc").write_text(sbuild.configuration(environment, config.silence_s))
    (directory / "schroot" / "chroot.d" / "build").write_text(sbuild.schroot_definition(str(root)))
    for empty in ("schroot.conf", "debfarm/fstab", "debfarm/copyfiles", "debfarm/nssdatabases"):
        (directory / "schroot" / empty).touch()
    shutil.copyfile(Path(__file__).with_name("sbuild.sh"), directory / START)


def _place(path: Path, target: Path) -> None:
    """A second name for a file where that can be, else a copy."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
