"""Isolations whose builds run on layers that are put together by overlayfs: all but how they are shut in.

Each build mounts an overlay on a chroot that was unpacked once, and on further layers, in a mount namespace of its own,
so no mount is ever seen outside and none can be left behind. Every command has a pid namespace: whatever it starts dies
with it, and with the daemon (prctl(2), PR_SET_PDEATHSIG).
"""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from buildd.buildlog import BuildLog
from buildd.disk_use import COUNT, Usage, parse_usage
from buildd.isolation import IsolationFailure, Proxy, Root
from buildd.isolation.bases import Bases
from buildd.isolation.layers import Budget, Layer, LayerKey, Layers
from buildd.isolation.mounted import Entry, MountedRoot, Way
from buildd.isolation.mounts import spread
from buildd.isolation.namespaces import ENVIRONMENT, Namespaces
from buildd.process import Children, Reactor, end_leftovers
from buildd.protocol import Sha1

_LAYERS_MAX = 24  # On top of each other.
_LAYERS_PATHS_MAX = 3000  # Bytes. mount(2) takes 4096 bytes of options; there are two more paths in them.
_PROBE_S = 60.0


class LayeredIsolation:
    """See Isolation."""

    way: Way

    def __init__(
        self,
        directory: Path,
        reactor: Reactor,
        layers: Path | None = None,
        budget: Budget | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """
        :param directory: the daemon's own; builds must be below it.
        :param layers: where layers are kept, on the same file system; None: below `directory`.
        :param budget: how much they may take.
        :param proxy: for what may reach the network.
        """
        from buildd.isolation.seccomp import program  # noqa: PLC0415  It takes a library that the doctor looks for.

        self._directory = directory
        self._reactor = reactor
        self._scratch = directory / "scratch"
        self._scratch.mkdir(mode=0o755, exist_ok=True)
        self._namespaces = Namespaces(self._scratch, reactor, self.way.namespace)
        self.layers = Layers(layers or directory / "layers", self._namespaces, reactor, budget or Budget())
        self.layers.directory.chmod(0o700)  # Setuid programs of builds are this user's there, or root's.
        self._entry = Entry(self.way, reactor, proxy, program())
        self._bases = Bases(self.layers, self._namespaces)

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children) -> Layer:
        """See Isolation.unpack."""
        return await self._bases.unpack(tarball, sha1, children)

    def open(self, layers: Sequence[Layer], directory: Path, children: Children) -> MountedRoot:
        """See Isolation.open."""
        if len(layers) > _LAYERS_MAX or sum(len(str(layer.tree)) + 1 for layer in layers) > _LAYERS_PATHS_MAX:
            what = f"{len(layers)} layers in {self.layers.directory} cannot be mounted together"
            raise IsolationFailure(f"{what}: choose a directory with a shorter path ([builder] layers)")
        return MountedRoot(self._entry, [layer.tree for layer in layers], directory, children)

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

    async def make_room(self) -> None:
        """See Isolation.make_room."""
        await self.layers.make_room()

    async def usage(self, directory: Path) -> Usage:
        """See Isolation.usage."""
        return parse_usage(await self._namespaces.run([*COUNT, str(directory)]))

    async def recover(self) -> None:
        """See Isolation.recover."""
        end_leftovers(self._directory / "builds")
        if self.layers.directory.stat().st_dev != self._directory.stat().st_dev:
            where = f"layers are kept in {self.layers.directory}, builds in {self._directory}"
            raise IsolationFailure(f"{where}: choose directories on one file system ([builder] layers)")
        await self._try_namespaces()
        for left in self._scratch.iterdir():
            await self.remove(left)
        await self._probe()
        for path in (self.layers.directory, self._directory / "builds"):
            # A chroot that was unpacked where one had been removed took 5 to 7 s instead of 0.8.
            spread(str(path))
        await self.layers.tidy()

    async def _try_namespaces(self) -> None:
        """See whether there is what everything else here needs.

        :raises IsolationFailure: programs are missing, or namespaces refused.
        """
        missing = [name for name in self.way.programs if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
        if missing:
            raise IsolationFailure(f"builds need programs that are not here: {', '.join(missing)}. {self.way.advice}")
        with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
            log = BuildLog(Path(scratch) / "log", 1 << 20)
            try:
                children = Children(self._reactor, log, _PROBE_S, _PROBE_S)
                if not (await children.run(self.way.trial, env=ENVIRONMENT, cwd=Path("/"))).ok:
                    said = log.tail().decode(errors="replace").strip()
                    raise IsolationFailure(f"no namespaces can be made here: {said}. {self.way.advice}")
            finally:
                log.close()

    async def _probe(self) -> None:
        """See whether builds can be shut in here, by doing so with an empty root.

        :raises IsolationFailure: they cannot.
        """
        scratch = Path(tempfile.mkdtemp(prefix="probe-", dir=self._scratch))
        log = BuildLog(scratch / "log", 1 << 20)
        try:
            (scratch / "empty").mkdir()
            children = Children(self._reactor, log, _PROBE_S, _PROBE_S)
            root = MountedRoot(self._entry, [scratch / "empty"], scratch / "root", children)
            inside = await root.run(["true"], network=None)  # There is no such program in an empty root.
            works = inside.code == self.way.missing_command
            if works and self.way.beside:
                works = (await root.run_beside(["true"], env={}, cwd=Path("/"), visible=[])).ok
            if not works:
                raise IsolationFailure(f"builds cannot be shut in here: {log.tail().decode(errors='replace').strip()}")
        except IsolationFailure as exc:
            raise IsolationFailure(f"{exc}. {self.way.advice}") from exc
        finally:
            log.close()
        await self.remove(scratch)
