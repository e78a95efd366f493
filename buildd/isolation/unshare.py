"""Builds shut in by user namespaces: no root, no sudo, no daemon; unshare(1), newuidmap(1) and overlayfs do it.

The user that the daemon runs as is root of each namespace, and its 65,536 subordinate ids (subuid(5)) are the other
users there. A chroot is unpacked once, by its digest, into bases/; each build mounts an overlay on top, in a mount
namespace of its own, so no mount is ever seen outside and none can be left behind. Every command has a pid namespace:
whatever it starts dies with it, and with the daemon (setpriv --pdeathsig).
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from buildd.buildlog import BuildLog
from buildd.isolation import BrokenChroot, IsolationFailure, Root
from buildd.isolation.enter import NOT_ENTERED
from buildd.isolation.layers import Layer, LayerKey, Layers
from buildd.process import Children, Exit, Reactor
from buildd.protocol import Sha1

_SCRIPTS = Path(__file__).parent
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}
_NAMESPACE = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--user", "--map-auto", "--map-root-user", "--setgroups", "allow"),
    *("--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"),
)
_ADVICE = (
    "Install uidmap; give this user 65536 subordinate ids (usermod --add-subuids 100000-165535 --add-subgids"
    " 100000-165535 USER); allow users namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
)
_LAYERS_MAX = 32
_TIDYING_TIMEOUT_S = 600.0


class UnshareIsolation:
    """The isolation that needs nothing but subordinate ids."""

    def __init__(self, directory: Path, reactor: Reactor) -> None:
        """:param directory: the daemon's own; bases/ is kept below it, and builds must be, too."""
        self._directory = directory
        self._bases = directory / "bases"
        self._reactor = reactor
        self._bases.mkdir(mode=0o755, exist_ok=True)
        self._layers = Layers(directory / "layers")

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children, log: BuildLog) -> None:
        """See Isolation.unpack."""
        base = self._bases / sha1
        if base.is_dir():
            return
        left_out = await self._inspect(tarball, children)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=self._bases))
        try:
            partial.chmod(0o755)
            excluded = partial / "left-out"
            excluded.write_bytes(left_out)
            (partial / "tree").mkdir(mode=0o755)
            unpack = ("tar", "--extract", "--numeric-owner", "--preserve-permissions", "--file", str(tarball))
            below = (
                "--directory",
                str(partial / "tree"),
                "--anchored",
                "--no-wildcards",
                "--exclude-from",
                str(excluded),
            )
            ended = await children.run([*_NAMESPACE, *unpack, *below], env=_ENVIRONMENT, cwd=self._directory)
            if not ended.ok:
                raise BrokenChroot(f"the chroot tarball could not be unpacked: {ended}")
            partial.rename(base)
        finally:
            await self.remove(partial)

    def open(self, sha1: Sha1, layers: Sequence[Layer], directory: Path, children: Children) -> "UnshareRoot":
        """See Isolation.open."""
        tree = self._bases / sha1 / "tree"
        wrapped = tree / "chroot-autobuild"  # How Launchpad makes its chroots.
        lower = [*(layer.tree for layer in layers), wrapped if wrapped.is_dir() else tree]
        return UnshareRoot(lower, directory, children)

    def find(self, key: LayerKey) -> Layer | None:
        """See Isolation.find."""
        return self._layers.find(key)

    async def keep(self, key: LayerKey, root: Root, note: str) -> Layer:
        """See Isolation.keep."""
        for old in (key, *self._layers.least_used(_LAYERS_MAX - 1)):
            if (retired := self._layers.retire(old)) is not None:
                await self.remove(retired)
        return self._layers.keep(key, root.changes, note)

    async def remove(self, directory: Path) -> None:
        """See Isolation.remove. No mount can be below: those end with their namespace."""
        if not directory.is_relative_to(self._directory) or directory == self._directory:
            raise ValueError(f"{directory} is not below {self._directory}: not removed")
        if directory.is_dir():
            await self._tidy(["rm", "-rf", "--one-file-system", "--", str(directory)])

    async def recover(self, used: frozenset[Sha1]) -> None:
        """See Isolation.recover. Processes and mounts of an earlier daemon ended with it."""
        try:
            await self._tidy(["true"])
        except OSError as exc:
            raise IsolationFailure(f"builds cannot be shut in here: {exc}. {_ADVICE}") from exc
        unused = [base for base in self._bases.iterdir() if base.name not in used]
        for left in (*unused, *self._layers.debris()):
            await self.remove(left)

    async def _inspect(self, tarball: Path, children: Children) -> bytes:
        """Look the tarball over in a child, as that takes seconds. The members to leave out, one a line."""
        found = bytearray()
        argv = [*_NAMESPACE, sys.executable, "-I", str(_SCRIPTS / "chroot_tar.py"), str(tarball)]
        ended = await children.run(argv, env=_ENVIRONMENT, cwd=self._directory, output=found.extend)
        if not ended.ok:
            said = found.decode(errors="replace").strip()
            raise BrokenChroot(said if ended.code == 1 and said else f"the chroot tarball cannot be read: {ended}")
        return bytes(found)

    async def _tidy(self, argv: Sequence[str]) -> None:
        """Run one of the daemon's own commands as the root of the ids that builds have."""
        with tempfile.TemporaryDirectory(prefix="tidy-", dir=self._directory) as scratch:
            log = BuildLog(Path(scratch) / "log", 1 << 20)
            try:
                children = Children(self._reactor, log, _TIDYING_TIMEOUT_S, _TIDYING_TIMEOUT_S)
                ended = await children.run([*_NAMESPACE, *argv], env=_ENVIRONMENT, cwd=self._directory)
                if not ended.ok:
                    raise OSError(f"{' '.join(argv)}: {ended}: {log.tail().decode(errors='replace').strip()}")
            finally:
                log.close()


class UnshareRoot:
    """An overlay on an unpacked chroot, mounted anew in each command's own namespaces."""

    def __init__(self, lower: Sequence[Path], directory: Path, children: Children) -> None:
        """:param lower: what is below, the topmost first."""
        self.path = directory / "root"
        self.changes = directory / "upper"
        self._children = children
        self._overlay = {
            "root": str(self.path),
            "lower": [str(layer) for layer in lower],
            "upper": str(self.changes),
            "work": str(directory / "work"),
        }
        for path in (directory, self.path, self.changes, directory / "work"):
            path.mkdir(mode=0o755)

    async def run(
        self, argv: Sequence[str], *, network: bool, stdin: bytes = b"", output: Callable[[bytes], None] | None = None
    ) -> Exit:
        """See Root.run."""
        enter = self._enter(inside=True, own_network=not network)
        return _entered(
            await self._children.run([*enter, *argv], env=_ENVIRONMENT, cwd=Path("/"), stdin=stdin, output=output)
        )

    async def run_beside(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Exit:
        """See Root.run_beside."""
        enter = self._enter(inside=False, own_network=True)
        return _entered(await self._children.run([*enter, *argv], env=_ENVIRONMENT | dict(env), cwd=cwd))

    def _enter(self, *, inside: bool, own_network: bool) -> list[str]:
        """The command line before that of the command itself."""
        setup = json.dumps({**self._overlay, "inside": inside, "own_network": own_network})
        network = ["--net"] if own_network else []
        return [*_NAMESPACE, *network, sys.executable, "-I", "-S", str(_SCRIPTS / "enter.py"), setup]


def _entered(ended: Exit) -> Exit:
    """What the command ended with.

    :raises IsolationFailure: enter.py did not get as far as the command.
    """
    if ended.code == NOT_ENTERED:
        raise IsolationFailure("the root of the build could not be set up; the end of its log says why")
    return ended
