"""A builder that runs several builds at once, and shares its layers; run by test_sharing.py.

`python3 sharing.py DIRECTORY LAYERS TARBALL DSC ...` prints a JSON object: for each source package how its build ended,
and with which files. The daemon's log goes to standard error.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver

from buildd.buildlog import BuildLog
from buildd.config import read_config
from buildd.control import parse_dsc
from buildd.limits import Limits, configured_limits
from buildd.managers import build_types
from buildd.managers.base import BuildManager, BuildRequest
from buildd.protocol import BuildId, Sha1, parse_file_name, parse_sha1


async def main(reactor: Any, directory: str, layers: str, tarball: str, *sources: str) -> None:
    """Build them all at once."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    config = read_config(None, {}, {"directory": directory, "layers": layers})
    builds = Path(directory, "builds")
    builds.mkdir()
    manager = build_types(config, reactor)["binarypackage"]
    await manager.recover(builds)
    builder = Builder(
        manager, builds, limits=configured_limits(config), chroot=Path(tarball), sha1=_sha1(Path(tarball))
    )
    building = [Deferred.fromCoroutine(builder.build(Path(dsc))) for dsc in sources]
    found = await gatherResults(building, consumeErrors=True)
    print(json.dumps(dict(zip((Path(dsc).name for dsc in sources), found, strict=True))))


@dataclass(frozen=True)
class Builder:
    """What the builds have in common."""

    manager: BuildManager
    builds: Path
    limits: Limits
    chroot: Path
    sha1: Sha1

    async def build(self, dsc: Path) -> dict[str, Any]:
        """Build a source package, as the daemon's Builder has it built; how that ended."""
        directory = self.builds / dsc.stem
        directory.mkdir()
        paths = [dsc, *(dsc.parent / file.name for file in parse_dsc(dsc).files)]
        log = BuildLog(self.builds.parent / f"{dsc.stem}.log", self.limits.log_bytes)
        request = BuildRequest(
            build_id=BuildId(dsc.stem),
            chroot_sha1=self.sha1,
            chroot=self.chroot,
            files={parse_file_name(path.name): path for path in paths},
            # The quicker of the package builders: what they build with is what this is about.
            arguments={"series": "bookworm", "suite": "bookworm", "package_builder": "direct"},
            directory=directory,
            limits=self.limits,
            log=log,
            begin=lambda stage: None,
        )
        result = await self.manager.build(request, self.manager.check(request))
        files = sorted(path.name for path in result.files.values() if path.stat().st_size)
        await self.manager.remove(directory)
        said = log.tail(4000).decode(errors="replace")
        log.close()
        return {"status": result.status, "reason": result.reason, "files": files, "log": said}


def _sha1(path: Path) -> Sha1:
    with path.open("rb") as file:
        return parse_sha1(hashlib.file_digest(file, "sha1").hexdigest())


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
