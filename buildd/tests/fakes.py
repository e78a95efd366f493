"""Stand-ins for what the daemon's parts need, true to the interfaces' promises, and a daemon to run in a test."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from buildd.config import BuilddConfig
from buildd.disk_use import Usage
from buildd.managers.base import BuildManager, BuildRequest, BuildResult
from buildd.protocol import BuildStatus, FileName, ProtocolError


@dataclass
class FakeManager:
    """A build type that does what the arguments of a build say.

    ``refuse``: check() raises ProtocolError with this. ``status``: how the build ends. ``files``: results, name to
    content. ``link``, ``fifo``: the name of a result that is one. ``log``: what it writes. ``hang``: it does not end by
    itself. ``deaf``: when it is aborted, its teardown takes until `teardown` fires. ``crash``: the builder is broken.
    ``process``: what its guard watches.
    """

    requests: list[BuildRequest] = field(default_factory=list)
    plans: list[object] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    torn_down: int = 0
    hanging: Deferred[None] = field(default_factory=Deferred)
    teardown: Deferred[None] = field(default_factory=Deferred)

    def check(self, request: BuildRequest) -> dict[str, Any]:
        if request.arguments.get("refuse"):
            raise ProtocolError(str(request.arguments["refuse"]))
        return dict(request.arguments)

    async def build(self, request: BuildRequest, plan: object) -> BuildResult:
        assert isinstance(plan, dict)
        self.requests.append(request)
        self.plans.append(plan)
        arguments: Mapping[str, Any] = plan
        request.begin("fake")
        request.log.write(str(arguments.get("log", "")).encode())
        if "process" in arguments and request.guard is not None:
            request.guard.watch(int(arguments["process"]), lambda limit: None)
        try:
            if arguments.get("hang"):
                self.hanging = Deferred()
                await self.hanging
        finally:
            if arguments.get("deaf"):
                await self.teardown
            self.torn_down += 1
        if arguments.get("crash"):
            raise RuntimeError(str(arguments["crash"]))
        status = BuildStatus(arguments.get("status", BuildStatus.OK))
        return BuildResult(
            status, "as the test says", self._results(request, arguments), str(arguments.get("dependencies", ""))
        )

    def _results(self, request: BuildRequest, arguments: Mapping[str, Any]) -> dict[FileName, Path]:
        results = {}
        for name, content in arguments.get("files", {}).items():
            path = request.directory / name
            path.write_text(content)
            results[FileName(name)] = path
        if name := arguments.get("link"):
            path = request.directory / str(name)
            path.symlink_to("/etc/hostname")
            results[FileName(str(name))] = path
        if name := arguments.get("fifo"):
            path = request.directory / str(name)
            os.mkfifo(path)
            results[FileName(str(name))] = path
        return results

    async def remove(self, directory: Path) -> None:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        self.removed.append(directory)

    async def usage(self, directory: Path) -> Usage:
        return Usage(0, 0)

    async def make_room(self) -> None:
        return

    async def recover(self, builds: Path) -> None:
        for directory in builds.iterdir():
            await self.remove(directory)


def fake_build_types(config: BuilddConfig, reactor: Any) -> dict[str, BuildManager]:
    """In place of buildd.managers.build_types."""
    return {"fake": FakeManager()}


if __name__ == "__main__":  # A daemon of its own whose builds are fake.
    from buildd import commands

    sys.exit(commands.main(build_types=fake_build_types, stop_s=float(os.environ.get("FAKE_STOP_S", "8"))))
