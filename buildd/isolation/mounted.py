"""A root that is an overlay, mounted anew by enter.py in the namespaces of each command."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildd.isolation import IsolationFailure, Proxy
from buildd.isolation.enter import CONTROL, FILTER
from buildd.isolation.handover import Serve, handover
from buildd.isolation.namespaces import ENVIRONMENT
from buildd.process import Children, Exit
from buildd.reach import Reach

_ENTER = Path(__file__).with_name("enter.py")


def _as_it_is(root: Path) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Way:
    """How a backend shuts builds in."""

    namespace: tuple[str, ...]  # The beginning of a command line that makes the namespaces.
    settings: tuple[str, ...]  # For enter.py, see mounts.Setup.
    programs: tuple[str, ...]  # That must be here.
    advice: str  # What to do where it does not work.
    # A command that fails where no namespaces can be made. (unshare --map-auto would leave a child of its own waiting
    # there for ever, and who reads its output with that.)
    trial: tuple[str, ...] = ("true",)
    inside: Callable[[Path], Sequence[str]] = _as_it_is  # What enter.py runs to run a command in that root.
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)  # Of that.
    missing_command: int = 127  # The exit status where a command is not in the root.
    beside: bool = True  # Commands can run beside a root.


@dataclass(frozen=True)
class Entry:
    """How the commands of all builds enter their roots."""

    way: Way
    reactor: Any
    proxy: Proxy | None
    filter: int  # The file that holds the filter of system calls, see seccomp.program.


class MountedRoot:
    """See Root. The directory holds what is changed, and where things are mounted; nobody else sees those mounts."""

    def __init__(self, entry: Entry, lower: Sequence[Path], directory: Path, children: Children) -> None:
        """:param lower: what is below, the topmost first."""
        self.path = directory / "root"
        self.changes = directory / "upper"
        self._entry = entry
        self._children = children
        self._view = directory / "view"
        work = directory / "work"
        layers = [f"lower={layer}" for layer in lower]
        self._overlay = [f"root={self.path}", *layers, f"upper={self.changes}", f"work={work}"]
        for path in (directory, self.path, self.changes, work, self._view):
            path.mkdir(mode=0o755)

    def put(self, name: str, content: bytes) -> None:
        """See Root.put. This user is the root user of the build."""
        path = self.changes / name
        path.unlink(missing_ok=True)  # A link that an earlier command made there would lead out of the root.
        with path.open("xb") as file:
            file.write(content)
        path.chmod(0o644)

    def take_back(self, name: str) -> None:
        """See Root.take_back. What a build made of the file instead stays: it is the build's."""
        path = self.changes / name
        if path.is_file() or path.is_symlink():
            path.unlink()

    async def run(
        self,
        argv: Sequence[str],
        *,
        network: Reach | None,
        stdin: bytes = b"",
        output: Callable[[bytes], None] | None = None,
    ) -> Exit:
        """See Root.run."""
        way = self._entry.way
        command = [*way.inside(self.path), *argv]
        return await self._run(["cwd=/"], command, network, env=way.environment, stdin=stdin, output=output)

    async def run_beside(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        visible: Sequence[Path],
        network: Reach | None = None,
    ) -> Exit:
        """See Root.run_beside.

        :raises IsolationFailure: also where nothing can.
        """
        if not self._entry.way.beside:
            raise IsolationFailure(f"nothing runs beside a container, as {argv[0]} would have to")
        settings = [f"view={self._view}", *(f"visible={path}" for path in visible), f"cwd={cwd}"]
        return await self._run(settings, argv, network, env=ENVIRONMENT | dict(env))

    async def _run(self, settings: Sequence[str], argv: Sequence[str], network: Reach | None, **more: Any) -> Exit:
        """Run a command by enter.py; `more` is for Children.run.

        :raises IsolationFailure: it was not as far as the command.
        """
        way, reactor = self._entry.way, self._entry.reactor
        proxied = [] if network is None else ["proxied=yes"]
        program = [sys.executable, "-I", "-S", str(_ENTER), *self._overlay, *way.settings, *settings, *proxied, "--"]
        with handover(reactor, None if network is None else self._serve(network)) as talk:
            command = [*way.namespace, "--net", *program, *argv]
            inherited = {CONTROL: talk.theirs, FILTER: self._entry.filter}
            ended = await self._children.run(command, cwd=Path("/"), fds=inherited, **more)
            talk.doRead()
        if talk.failure:
            raise IsolationFailure(f"the root of the build could not be set up: {talk.failure}")
        if not talk.entered and ended.limit is None:
            raise IsolationFailure(f"no namespace could be made: {ended}; the end of the build's log says why")
        return ended

    def _serve(self, reach: Reach) -> Serve:
        proxy = self._entry.proxy
        if proxy is None:
            raise IsolationFailure("there is no proxy by which a build could reach the network")
        return lambda listening: proxy.serve(listening, reach, self._children.say)
