"""What builds a package in a root that has all it needs: the interface."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from buildd.managers.building import Building
from buildd.protocol import FileName
from buildd.sbuild import Verdict


class PackageBuilder(Protocol):
    """Runs dpkg-buildpackage, with what belongs around it."""

    async def build(self, build: Building) -> Verdict:
        """Build the package, in the root and with no other network than `build.network`.

        It may write below the build's own directory.

        :raises LimitReached: the build ran into one of its limits.
        """
        ...

    def results(self, build: Building) -> Mapping[FileName, Path]:
        """What was built, each file checked against the .changes that names it, and that .changes. Blocks.

        :raises ControlError: there is no such file, or it promises what is not there.
        """
        ...
