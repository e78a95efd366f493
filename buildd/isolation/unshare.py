"""Builds shut in by user namespaces: no root, no sudo, no daemon; unshare(1), newuidmap(1) and overlayfs do it.

The user that the daemon runs as is root of each namespace, and its 65,536 subordinate ids (subuid(5)) are the other
users there. A chroot is unpacked once, by its digest, into bases/; each build mounts an overlay on top, in a mount
namespace of its own, so no mount is ever seen outside and none can be left behind. Every command has a pid namespace:
whatever it starts dies with it, and with the daemon (prctl(2), PR_SET_PDEATHSIG).
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.logger import Logger

from buildd.buildlog import BuildLog
from buildd.isolation import BrokenChroot, IsolationFailure, LimitReached, Root
from buildd.isolation.chroot_tar import TOP
from buildd.isolation.layers import Layer, LayerKey, Layers
from buildd.isolation.namespaces import ENVIRONMENT, NAMESPACE, Namespaces
from buildd.process import Children, Exit, Reactor, end_leftovers
from buildd.protocol import Sha1

_SCRIPTS = Path(__file__).parent
_PROGRAMS = ("setpriv", "unshare", "newuidmap", "mount", "pivot_root", "ip", "tar", "sbuild", "schroot")
_ADVICE = (
    "Install uidmap; give this user 65536 subordinate ids (usermod --add-subuids 100000-165535 --add-subgids"
    " 100000-165535 USER); allow users namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
)
_PARTIAL = "partial-"  # What is below bases/ and is none.
_LAYERS_MAX = 32
_BASES_MAX = 8
_PROBE_S = 60.0

_log = Logger()


class UnshareIsolation:
    """The isolation that needs nothing but subordinate ids."""

    def __init__(self, directory: Path, reactor: Reactor) -> None:
        """:param directory: the daemon's own; bases/ is kept below it, and builds must be, too."""
        self._directory = directory
        self._bases = directory / "bases"
        self._reactor = reactor
        self._namespaces = Namespaces(self._bases, reactor)
        self._bases.mkdir(mode=0o755, exist_ok=True)
        self._layers = Layers(directory / "layers")
        self._boot = directory / "boot"  # Of which boot bases and layers are.

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children) -> None:
        """See Isolation.unpack."""
        base = self._bases / sha1
        if base.is_dir():
            os.utime(base)
            return
        await self._make_room_for_base()
        left_out = await self._inspect(tarball, children)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._bases))
        partial.chmod(0o755)
        (partial / "left-out").write_bytes(left_out)
        (partial / "tree").mkdir(mode=0o755)
        unpack = ("tar", "--extract", "--numeric-owner", "--preserve-permissions", "--file", str(tarball))
        where = ("--directory", str(partial / "tree"))
        what = ("--anchored", "--no-wildcards", "--exclude-from", str(partial / "left-out"))
        command = self._namespaces.command([*unpack, *where, *what])
        ended = await children.run(command, env=ENVIRONMENT, cwd=self._directory)
        if not ended.ok:
            _check_limit(ended)
            raise BrokenChroot(f"the chroot tarball could not be unpacked: {ended}")
        partial.rename(base)

    async def _make_room_for_base(self) -> None:
        """Remove the bases used longest ago, and what was left of those that could not be unpacked."""
        bases = sorted(self._bases.iterdir(), key=lambda base: base.stat().st_mtime, reverse=True)
        whole = [base for base in bases if not base.name.startswith(_PARTIAL)]
        for old in (*whole[_BASES_MAX - 1 :], *(base for base in bases if base not in whole)):
            await self.remove(old)

    def open(self, sha1: Sha1, layers: Sequence[Layer], directory: Path, children: Children) -> "UnshareRoot":
        """See Isolation.open."""
        tree = self._bases / sha1 / "tree"
        wrapped = tree / TOP
        lower = wrapped if wrapped.is_dir() and not wrapped.is_symlink() else tree
        return UnshareRoot([*(layer.tree for layer in layers), lower], directory, children)

    def find(self, key: LayerKey) -> Layer | None:
        """See Isolation.find."""
        return self._layers.find(key)

    async def keep(self, key: LayerKey, root: Root, note: str) -> Layer:
        """See Isolation.keep."""
        for old in (key, *self._layers.least_used(_LAYERS_MAX - 1)):
            self._layers.retire(old)
        for debris in self._layers.debris():
            await self.remove(debris)
        return self._layers.keep(key, root.changes, note)

    async def remove(self, directory: Path) -> None:
        """See Isolation.remove. No mount can be below: those end with their namespace."""
        if not directory.is_relative_to(self._directory) or directory == self._directory:
            raise ValueError(f"{directory} is not below {self._directory}: not removed")
        if directory.is_dir():
            await self._namespaces.run(["rm", "-rf", "--one-file-system", "--", str(directory)])

    async def recover(self, used: frozenset[Sha1]) -> None:
        """See Isolation.recover."""
        end_leftovers(self._directory)
        await self._probe()
        kept = used if self._booted_since() else frozenset()
        layers = [] if kept else self._layers.least_used(0)
        for key in layers:
            self._layers.retire(key)
        for left in (*(base for base in self._bases.iterdir() if base.name not in kept), *self._layers.debris()):
            try:
                await self.remove(left)
            except OSError as exc:  # It costs space, and the next start tries again.
                _log.warn("{left} cannot be removed: {error}", left=left, error=exc)
        self._boot.write_text(_boot_id())

    def _booted_since(self) -> bool:
        """Whether the machine has run all the time since the bases and layers were made.

        They are not synced to the disk, as that takes seconds: after a power cut they may have holes.
        """
        return self._boot.exists() and self._boot.read_text() == _boot_id()

    async def _probe(self) -> None:
        """See whether builds can be shut in here, by doing so with an empty root.

        :raises IsolationFailure: they cannot.
        """
        missing = [name for name in _PROGRAMS if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
        if missing:
            raise IsolationFailure(f"builds need programs that are not here: {', '.join(missing)}. {_ADVICE}")
        scratch = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._bases))
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

    async def _inspect(self, tarball: Path, children: Children) -> bytes:
        """Look the tarball over in a child, as that takes seconds. The members to leave out, one a line."""
        found = bytearray()
        argv = [sys.executable, "-I", str(_SCRIPTS / "chroot_tar.py"), str(tarball)]
        command = self._namespaces.command(argv)
        ended = await children.run(command, env=ENVIRONMENT, cwd=self._directory, output=found.extend)
        if not ended.ok:
            _check_limit(ended)
            said = found.decode(errors="replace").strip()
            raise BrokenChroot(said if ended.code == 1 and said else f"the chroot tarball cannot be read: {ended}")
        return bytes(found)


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


def _check_limit(ended: Exit) -> None:
    """:raises LimitReached: we ended it."""
    if ended.limit is not None:
        raise LimitReached(ended)


def _boot_id() -> str:
    """Another one each time that the machine is booted (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
