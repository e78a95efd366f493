"""What is written for sbuild beside the root of a build. All of it blocks."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildd import dpkg, sbuild
from buildd.config import BuilddConfig
from buildd.managers.plan import Plan
from buildd.protocol import FileName


@dataclass(frozen=True)
class SbuildFiles:
    """A directory that has all that sbuild needs, once it is laid out."""

    directory: Path

    @property
    def source(self) -> Path:
        """Where the source package is."""
        return self.directory / "source"

    @property
    def environment(self) -> dict[str, str]:
        """What sbuild finds in its environment."""
        home, configuration = str(self.directory / "home"), str(self.directory / "sbuildrc")
        return {"SBUILD_CONFIG": configuration, "HOME": home, "USER": "root", "LOGNAME": "root"}

    def lay_out(
        self, plan: Plan, files: Mapping[FileName, Path], root: Path, user_ids: str, config: BuilddConfig
    ) -> None:
        """Make the directory.

        :param files: the source package, in the cache.
        :param root: of the build, as sbuild sees it.
        :param user_ids: "uid:gid" of the build user in the root.
        """
        self.source.mkdir(parents=True)
        (self.directory / "home").mkdir()
        for name, path in files.items():
            # A copy, and not a second name: root of the build's namespaces is who owns the cache outside.
            shutil.copyfile(path, self.source / name)
        schroot = self.directory / "schroot"
        schroot.write_text(sbuild.schroot(str(root), user_ids))
        schroot.chmod(0o755)
        environment = dpkg.environment(plan.arguments, config.jobs, proxied=bool(config.network_hosts))
        (self.directory / "sbuildrc").write_text(sbuild.configuration(str(schroot), environment, config.silence_s))
