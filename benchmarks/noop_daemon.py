"""The daemon itself, with a build type that builds nothing: `python -m benchmarks.noop_daemon DIRECTORY`.

All is real but the build: protocol, file cache, logs. What it prints first is its port; then, for each build, the time
(of time.monotonic()) at which it begins, and its id.
"""

import argparse
import hashlib
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel

from buildd.config import read_config
from buildd.disk_use import Usage
from buildd.managers.base import BuildManager, BuildRequest, BuildResult
from buildd.protocol import BuildStatus, FileName
from buildd.service import Logging, run

CONFIG = """\
[builder]
host = 127.0.0.1
port = 0
directory = {directory}
allow_root = yes
"""


class NoOp:
    """Builds nothing, and has one tiny result."""

    def check(self, request: BuildRequest) -> object:
        return next(name for name in request.files if name.endswith(".dsc"))

    async def build(self, request: BuildRequest, plan: object) -> BuildResult:
        sys.stdout.write(f"{time.monotonic()} {request.build_id}\n")
        sys.stdout.flush()
        request.begin("build")
        request.log.say("nothing is to be built")
        return BuildResult(BuildStatus.OK, "nothing was built", files=_results(request.directory, str(plan)))

    async def remove(self, directory: Path) -> None:
        await deferToThread(shutil.rmtree, directory, ignore_errors=True)

    async def usage(self, directory: Path) -> Usage:
        return Usage(0, 0)

    async def make_room(self) -> None:
        """There is nothing that could go."""

    async def recover(self, builds: Path) -> None:
        for left in builds.iterdir():
            shutil.rmtree(left)


def _results(directory: Path, dsc: str) -> Mapping[FileName, Path]:
    """A package of sorts, and the .changes that names it."""
    name, _, version = dsc.removesuffix(".dsc").partition("_")
    deb, changes = (directory / f"{name}_{version}_amd64.{suffix}" for suffix in ("deb", "changes"))
    deb.write_text(f"{name} {version}\n")
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    changes.write_text(
        f"Format: 1.8\nSource: {name}\nBinary: {name}\nArchitecture: amd64\nVersion: {version}\n"
        f"Distribution: bookworm\nChecksums-Sha256:\n {sha256} {deb.stat().st_size} {deb.name}\n"
    )
    return {FileName(path.name): path for path in (deb, changes)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noop_daemon", description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args(argv).directory
    config = directory.with_suffix(".conf")
    config.write_text(CONFIG.format(directory=directory))

    def build_types(_config: Any, _reactor: Any) -> Mapping[str, BuildManager]:
        return {"binarypackage": NoOp()}

    return run(read_config(config), Logging(ours=LogLevel.warn), build_types)


if __name__ == "__main__":
    sys.exit(main())
