"""What every build type has in common: the request it is given, the result it gives, and the interface."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred

from buildd.buildlog import BuildLog
from buildd.disk_use import Usage
from buildd.limits import Limits
from buildd.process import Guard
from buildd.protocol import BuildId, BuildStatus, Cause, FileName, Sha1

T = TypeVar("T")


class InThread(Protocol):
    """Calls something that blocks, in a thread."""

    def __call__(self, blocking: Callable[..., T], /, *args: object) -> Deferred[T]: ...


@dataclass(frozen=True)
class BuildRequest:
    """One build, as the master asked for it. Paths of chroot and files are in the cache, and must not be changed."""

    build_id: BuildId
    chroot_sha1: Sha1
    chroot: Path
    files: Mapping[FileName, Path]
    arguments: Mapping[str, object]  # The raw struct; a build type parses its own.
    directory: Path  # This build's own, empty at first.
    log: BuildLog
    begin: Callable[[str], None]  # To be called with a stage's name when it begins.
    limits: Limits
    guard: Guard | None = None  # For its Children; there once the build begins.


@dataclass(frozen=True)
class BuildResult:
    """How a build ended."""

    status: BuildStatus
    reason: str  # One sentence.
    files: Mapping[FileName, Path] = field(default_factory=dict)
    dependencies: str = ""  # For DEPFAIL: a relationship that nothing satisfies.
    cause: Cause | None = None  # Of a failure, where the build type knows it; else it is found out from status and log.
    error: str = ""  # Lines of the log that tell what went wrong; found out likewise.


class BuildManager(Protocol):
    """A build type."""

    def check(self, request: BuildRequest) -> object:
        """Parse arguments and files before the build begins. Blocks, for seconds when they are hostile: call it in a
        thread.

        :returns: the plan for build(), of which only the build type knows what is in it.
        :raises ProtocolError: they cannot be built from; the message says why.
        """
        ...

    async def build(self, request: BuildRequest, plan: object) -> BuildResult:
        """Build. Whatever is wrong with the package or its chroot is a result; an exception means a broken builder.

        :param plan: what check() made of this very request, but for its log.
        To abort, cancel the Deferred that runs this: everything is taken down before CancelledError comes out.
        """
        ...

    async def remove(self, directory: Path) -> None:
        """Remove a build's directory, once its results have been taken from it."""
        ...

    async def usage(self, directory: Path) -> Usage:
        """Count what a build's directory takes, while the build goes on."""
        ...

    async def make_room(self) -> None:
        """Remove what is kept for later builds, and no build needs now, until the disk has room for those that run."""
        ...

    async def recover(self, builds: Path) -> None:
        """At the daemon's start: remove what an earlier daemon left below `builds`, and see whether builds can run.

        :raises IsolationFailure: no build can run here; the message says what to do.
        """
        ...
