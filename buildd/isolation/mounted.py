"""A root that is an overlay, mounted anew by enter.py in the namespaces of each command."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildd.isolation import IsolationFailure, Proxy
from buildd.isolation.enter import CONTROL, FILTER
from buildd.isolation.handover import Serve, handover
from buildd.isolation.namespaces import ENVIRONMENT
from buildd.process import Children, Exit
from buildd.reach import Reach

if TYPE_CHECKING:
    from buildd.isolation.seccomp import Filters  # It takes a library that the doctor looks for.

_ENTER = Path(__file__).with_name("enter.py")


@dataclass(frozen=True)
class Entry:
    """How the commands of all builds enter their roots."""

    namespace: Sequence[str]  # The beginning of the command line, which makes the namespaces.
    reactor: Any
    proxy: Proxy | None
    filters: "Filters"
    settings: Sequence[str] = ()  # More of enter.Setup.


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
        building: bool = False,
        stdin: bytes = b"",
        output: Callable[[bytes], None] | None = None,
    ) -> Exit:
        """See Root.run."""
        filtered = self._entry.filters.building if building else self._entry.filters.always
        more = {"env": ENVIRONMENT, "stdin": stdin, "output": output}
        return await self._run(["cwd=/"], argv, network, filtered, **more)

    async def run_beside(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        visible: Sequence[Path],
        binds: Mapping[Path, Path] | None = None,
        network: Reach | None = None,
    ) -> Exit:
        """See Root.run_beside."""
        shown = {**{path: path for path in visible}, **(binds or {})}
        settings = [f"view={self._view}", *(f"bind={path}={source}" for path, source in shown.items()), f"cwd={cwd}"]
        return await self._run(settings, argv, network, self._entry.filters.building, env=ENVIRONMENT | dict(env))

    async def _run(
        self, settings: Sequence[str], argv: Sequence[str], network: Reach | None, filtered: int, **more: Any
    ) -> Exit:
        """Run a command by enter.py; `more` is for Children.run.

        :raises IsolationFailure: it was not as far as the command.
        """
        entry = self._entry
        proxied = [] if network is None else ["proxied=yes"]
        program = [sys.executable, "-I", "-S", str(_ENTER), *self._overlay, *entry.settings, *settings, *proxied, "--"]
        with handover(entry.reactor, None if network is None else self._serve(network)) as talk:
            inherited = {CONTROL: talk.theirs, FILTER: filtered}
            ended = await self._children.run([*entry.namespace, *program, *argv], cwd=Path("/"), fds=inherited, **more)
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
