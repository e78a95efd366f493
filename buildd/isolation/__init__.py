"""Where a build runs: the interface between the package builders and the ways to shut a build in.

A backend makes a throw-away root file system from a chroot tarball and runs commands in it. This interface knows
nothing of packages; a backend knows nothing of apt or sbuild.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from buildd.disk_use import Usage
from buildd.isolation.layers import Layer, LayerKey
from buildd.process import Children, Exit
from buildd.protocol import Sha1
from buildd.reach import Reach


class BrokenChroot(Exception):
    """The chroot tarball cannot be used; the message says why."""


class IsolationFailure(Exception):
    """This builder cannot shut a build in; the message says why, and what to do."""


class LimitReached(Exception):
    """A command of the isolation's own was ended, as the build ran into one of its limits."""

    def __init__(self, ended: Exit) -> None:
        super().__init__(str(ended))
        self.ended = ended


class Serving(Protocol):
    """A proxy that is being served."""

    def stop(self) -> None:
        """Close every connection, and listen no more."""
        ...


class Proxy(Protocol):
    """The way from builds to the network."""

    def serve(self, listening: socket.socket, reach: Reach, say: Callable[[str], None]) -> Serving:
        """Serve on a socket that listens, and that is taken over, until `Serving.stop`.

        :param say: writes a line to the build's log.
        :raises OSError: it cannot be.
        """
        ...


class Root(Protocol):
    """The root file system of one build: as the chroot tarball has it, with whatever the build changes on top."""

    @property
    def path(self) -> Path:
        """Where a command that runs beside the root sees it."""
        ...

    @property
    def changes(self) -> Path:
        """The directory that holds what differs from the chroot and the layers below."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Have a file at the top of a root in which nothing has run yet; it is of the build's root user.

        :param name: one plain path segment.
        """
        ...

    def take_back(self, name: str) -> None:
        """Have nothing there that put() put there, so that it is in no layer. Gone is fine."""
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        network: Reach | None,
        stdin: bytes = b"",
        output: Callable[[bytes], None] | None = None,
    ) -> Exit:
        """Run a command inside, as the root user of the build. Nothing that it starts outlives it.

        :param network: what it may reach, by the proxy at enter.PROXY; None: nothing but itself.
        :param output: takes its standard output; None: the build's log.
        """
        ...

    async def run_beside(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        visible: Sequence[Path],
        network: Reach | None = None,
    ) -> Exit:
        """Run a host's command beside the root, as the root user of the build, to build the package.

        :param visible: the directories that it sees, where they are, besides the root and the host's programs and
            libraries (/usr, /etc and what belongs to them). It may write there.
        :param network: see `run`.
        """
        ...


class Isolation(Protocol):
    """A way to shut builds in, and to build upon what earlier builds have done."""

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children) -> Layer:
        """The chroot with this digest, as a layer to be released; unpacked once for each digest.

        :raises BrokenChroot: the tarball is damaged, or holds what a chroot must not; nothing is left behind.
        :raises LimitReached: it was not ready in time, or its log could not be written.
        """
        ...

    def open(self, layers: Sequence[Layer], directory: Path, children: Children) -> Root:
        """A fresh root on top of these.

        :param layers: the topmost first, an unpacked chroot last; not to be released before the last command has ended.
        :param directory: where what the build changes is kept; it is made, in one that is there.
        """
        ...

    async def find(self, key: LayerKey) -> Layer | None:
        """A layer that was kept, to be released."""
        ...

    def turn(self, key: LayerKey) -> AbstractAsyncContextManager[None]:
        """Wait to be the only one, of all builds and daemons, that makes this layer; then look for it again."""
        ...

    async def keep(self, key: LayerKey, root: Root, note: str) -> Layer:
        """Make a layer of what was changed in a root, in place of one with this key, and to be released.

        The root is gone then. Who uses the one that was there before goes on with that.

        :param note: see layer_note; what else it has is the caller's business.

        :raises OSError: it cannot be; the root is of no use any more.
        """
        ...

    async def remove(self, directory: Path) -> None:
        """Remove a directory that holds what builds wrote, whoever the files in it belong to. Gone is fine."""
        ...

    async def usage(self, directory: Path) -> Usage:
        """Count what a directory takes that holds what a build writes, while it does."""
        ...

    async def make_room(self) -> None:
        """Remove layers that nobody uses until the disk has room for the builds that run, if that is to be had."""
        ...

    async def recover(self) -> None:
        """At the daemon's start: remove what was left half-made.

        :raises IsolationFailure: no build can be shut in here.
        """
        ...
