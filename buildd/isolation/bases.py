"""Bases: chroot tarballs, each unpacked once, as layers that the others lie upon."""

import sys
from pathlib import Path

from buildd.isolation import BrokenChroot, LimitReached
from buildd.isolation.chroot_tar import TOP
from buildd.isolation.layers import Layer, Layers, layer_key, layer_note
from buildd.isolation.namespaces import ENVIRONMENT, Namespaces
from buildd.process import Children
from buildd.protocol import Sha1

_UNPACK = (sys.executable, "-I", "-S", str(Path(__file__).with_name("chroot_tar.py")))


class Bases:
    """Unpacks chroots, and finds those that were unpacked."""

    def __init__(self, layers: Layers, namespaces: Namespaces) -> None:
        self._layers = layers
        self._namespaces = namespaces

    async def find(self, sha1: Sha1) -> Layer | None:
        """The chroot with this digest, if it was unpacked; to be released."""
        return await self._layers.find(layer_key("base", sha1))

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children) -> Layer:
        """See Isolation.unpack."""
        if (base := await self.find(sha1)) is not None:
            if self._layers.disk_is_short():
                await self._layers.make_room()
            return base
        key = layer_key("base", sha1)
        async with self._layers.turn(key):
            if (base := await self.find(sha1)) is not None:
                return base
            await self._layers.make_room(tarball.stat().st_size)
            async with self._layers.making() as making:
                tree = await self._unpack(tarball, making, children)
                return await self._layers.keep(key, tree, layer_note("base", sha1, f"chroot {sha1}"))

    async def _unpack(self, tarball: Path, making: Path, children: Children) -> Path:
        """The directory in `making` that became the root of the chroot."""
        tree, said = making / "tree", bytearray()
        tree.mkdir(mode=0o755)
        command = self._namespaces.command([*_UNPACK, str(tarball), str(tree)])
        ended = await children.run(command, env=ENVIRONMENT, cwd=making, output=said.extend)
        if ended.limit is not None:
            raise LimitReached(ended)
        if not ended.ok:
            why = said.decode(errors="replace").strip() if ended.code == 1 else ""
            raise BrokenChroot(why or f"the chroot tarball could not be unpacked: {ended}")
        wrapped = tree / TOP
        return wrapped if wrapped.is_dir() and not wrapped.is_symlink() else tree
