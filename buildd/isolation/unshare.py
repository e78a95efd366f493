"""Builds shut in by user namespaces: no root, no sudo, no daemon; unshare(1), newuidmap(1) and overlayfs do it.

The user that the daemon runs as is root of each namespace, and its 65,536 subordinate ids (subuid(5)) are the other
users there. Each build mounts an overlay on a chroot that was unpacked once, and on further layers, in a mount
namespace of its own, so no mount is ever seen outside and none can be left behind. Every command has a pid namespace:
whatever it starts dies with it, and with the daemon (prctl(2), PR_SET_PDEATHSIG).
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from buildd.buildlog import BuildLog
from buildd.disk_use import COUNT, Usage, parse_usage
from buildd.isolation import IsolationFailure, Root
from buildd.isolation.bases import Bases
from buildd.isolation.layers import Budget, Layer, LayerKey, Layers
from buildd.isolation.namespaces import ENVIRONMENT, NAMESPACE, Namespaces
from buildd.process import Children, Exit, Reactor, end_leftovers
from buildd.protocol import Sha1

_SCRIPTS = Path(__file__).parent
_PROGRAMS = ("setpriv", "unshare", "newuidmap", "mount", "pivot_root", "ip", "tar", "sbuild", "schroot")
_ADVICE = (
    "Install uidmap; give this user 65536 subordinate ids (usermod --add-subuids 100000-165535 --add-subgids"
    " 100000-165535 USER); allow users namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
)
_LAYERS_MAX = 24  # On top of each other: mount(2) takes 4096 bytes of options, their paths among them.
_PROBE_S = 60.0


class UnshareIsolation:
    """The isolation that needs nothing but subordinate ids."""

    def __init__(self, directory: Path, reactor: Reactor, layers: Path | None = None, budget: Budget | None = None):
        """
        :param directory: the daemon's own; builds must be below it.
        :param layers: where layers are kept, on the same file system; None: below `directory`.
        :param budget: how much they may take.
        """
        self._directory = directory
        self._reactor = reactor
        self._scratch = directory / "scratch"
        self._scratch.mkdir(mode=0o755, exist_ok=True)
        self._namespaces = Namespaces(self._scratch, reactor)
        self.layers = Layers(layers or directory / "layers", self._namespaces, reactor, budget or Budget())
        self._bases = Bases(self.layers, self._namespaces)

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children) -> Layer:
        """See Isolation.unpack."""
        return await self._bases.unpack(tarball, sha1, children)

    def open(self, layers: Sequence[Layer], directory: Path, children: Children) -> "UnshareRoot":
        """See Isolation.open."""
        if len(layers) > _LAYERS_MAX:
            raise ValueError(f"{len(layers)} layers on top of each other: more than {_LAYERS_MAX}")
        return UnshareRoot([layer.tree for layer in layers], directory, children)

    async def find(self, key: LayerKey) -> Layer | None:
        """See Isolation.find."""
        return await self.layers.find(key)

    def turn(self, key: LayerKey) -> AbstractAsyncContextManager[None]:
        """See Isolation.turn."""
        return self.layers.turn(key)

    async def keep(self, key: LayerKey, root: Root, note: str) -> Layer:
        """See Isolation.keep."""
        return await self.layers.keep(key, root.changes, note)

    async def remove(self, directory: Path) -> None:
        """See Isolation.remove. No mount can be below: those end with their namespace."""
        if not directory.is_relative_to(self._directory) or directory == self._directory:
            raise ValueError(f"{directory} is not below {self._directory}: not removed")
        if directory.is_dir():
            await self._namespaces.run(["rm", "-rf", "--one-file-system", "--", str(directory)])

    async def usage(self, directory: Path) -> Usage:
        """See Isolation.usage."""
        return parse_usage(await self._namespaces.run([*COUNT, str(directory)]))

    async def recover(self) -> None:
        """See Isolation.recover."""
        end_leftovers(self._directory / "builds")
        if self.layers.directory.stat().st_dev != self._directory.stat().st_dev:
            where = f"layers are kept in {self.layers.directory}, builds in {self._directory}"
            raise IsolationFailure(f"{where}: choose directories on one file system ([builder] layers)")
        for left in self._scratch.iterdir():
            await self.remove(left)
        await self._probe()
        await self.layers.tidy()

    async def _probe(self) -> None:
        """See whether builds can be shut in here, by doing so with an empty root.

        :raises IsolationFailure: they cannot.
        """
        missing = [name for name in _PROGRAMS if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
        if missing:
            raise IsolationFailure(f"builds need programs that are not here: {', '.join(missing)}. {_ADVICE}")
        scratch = Path(tempfile.mkdtemp(prefix="probe-", dir=self._scratch))
        log = BuildLog(scratch / "log", 1 << 20)
        try:
            (scratch / "empty").mkdir()
            children = Children(self._reactor, log, _PROBE_S, _PROBE_S)
            root = UnshareRoot([scratch / "empty"], scratch / "root", children)
            inside = await root.run(["true"], network=False)  # There is no such program in an empty root.
            beside = await root.run_beside(["true"], env={}, cwd=Path("/"), visible=[])
            if (inside.code, beside.code) != (127, 0):
                raise IsolationFailure(f"builds cannot be shut in here: {log.tail().decode(errors='replace').strip()}")
        except IsolationFailure as exc:
            raise IsolationFailure(f"{exc}. {_ADVICE}") from exc
        finally:
            log.close()
        await self.remove(scratch)


class UnshareRoot:
    """An overlay on an unpacked chroot, mounted anew in each command's own namespaces."""

    def __init__(self, lower: Sequence[Path], directory: Path, children: Children) -> None:
        """:param lower: what is below, the topmost first."""
        self.path = directory / "root"
        self.changes = directory / "upper"
        self._children = children
        self._view = directory / "view"
        self._failure = directory / "failure"
        self._overlay = [
            f"root={self.path}",
            *(f"lower={layer}" for layer in lower),
            f"upper={self.changes}",
            f"work={directory / 'work'}",
            f"failure={self._failure}",
        ]
        for path in (directory, self.path, self.changes, directory / "work", self._view):
            path.mkdir(mode=0o755)

    def put(self, name: str, content: bytes) -> None:
        """See Root.put. This user is the root user of the build."""
        path = self.changes / name
        path.write_bytes(content)
        path.chmod(0o644)

    def take_back(self, name: str) -> None:
        """See Root.take_back. What a build made of the file instead stays: it is the build's."""
        path = self.changes / name
        if path.is_file() or path.is_symlink():
            path.unlink()

    async def run(
        self, argv: Sequence[str], *, network: bool, stdin: bytes = b"", output: Callable[[bytes], None] | None = None
    ) -> Exit:
        """See Root.run."""
        enter = self._enter(network, "cwd=/")
        ended = await self._children.run([*enter, *argv], env=ENVIRONMENT, cwd=Path("/"), stdin=stdin, output=output)
        return self._entered(ended)

    async def run_beside(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, visible: Sequence[Path]
    ) -> Exit:
        """See Root.run_beside."""
        enter = self._enter(False, f"view={self._view}", *(f"visible={path}" for path in visible), f"cwd={cwd}")
        ended = await self._children.run([*enter, *argv], env=ENVIRONMENT | dict(env), cwd=Path("/"))
        return self._entered(ended)

    def _enter(self, network: bool, *settings: str) -> list[str]:
        """The command line before that of the command itself; `settings` are the rest of enter.Setup."""
        own_network = [] if network else ["own_network=yes"]
        program = [sys.executable, "-I", "-S", str(_SCRIPTS / "enter.py"), *self._overlay, *own_network, *settings]
        return [*NAMESPACE, *([] if network else ["--net"]), *program, "--"]

    def _entered(self, ended: Exit) -> Exit:
        """What the command ended with.

        :raises IsolationFailure: enter.py did not get as far as the command.
        """
        if ended.ok:
            return ended
        if not self._failure.exists():  # enter.py makes it first of all.
            if ended.limit is None:
                raise IsolationFailure(f"no namespace could be made: {ended}; the end of the build's log says why")
        elif why := self._failure.read_text(encoding="utf-8", errors="replace"):
            raise IsolationFailure(f"the root of the build could not be set up: {why}")
        return ended
