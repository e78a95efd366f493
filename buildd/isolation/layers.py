"""Layers: chroots as they were unpacked, and what was changed on top of them, put under builds by their key.

Several daemons of one user may share the directory. A layer is whole or absent: it comes into being by one rename, when
every process that wrote to it has ended, and goes by another. Who uses it holds a lock on it, so nobody takes it away;
the kernel gives back what a dead process held.

    KEY-1/tree      what goes under a build; the number grows when a layer is made anew
    KEY-1/about     what its maker knows of it; the lock of who uses it; the time of its last use
    KEY-1/seal      what it looks like, so that changes behind our back are noticed
    KEY-1/content   a digest of what its files contain, for `debfarm-buildd cache verify`
    KEY-1/durable   there once all of it is on the disk; without, it lasts until the machine is booted again
    KEY-1/changed   there once it was found to be changed: no further build is put on it
    locks/NAME      who makes the layer KEY, works in making-*, removes removing-* or makes room
    making-*        what is being made
    removing-*      what is being removed
"""

import contextlib
import errno
import json
import os
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from buildd.disk_use import Disk
from buildd.isolation.block_groups import make_directory
from buildd.isolation.locks import give_back, take
from buildd.isolation.stored import (
    LayerKey,
    Stored,
    boot_id,
    layer_key,
    layer_note,
    look_at,
    number_of,
    parsed,
    places_of,
    stored_in,
    write,
)

__all__ = ["Budget", "Layer", "LayerKey", "Layers", "OwnCommands", "layer_key", "layer_note"]

_DEBRIS = re.compile(r"(making|removing)-[0-9a-f]{16}(\.[0-9a-f]{8})?", re.ASCII)
_TURN_EVERY_S = (0.005, 0.1)  # At first, and after a while.
_TAKEN_EVERY_S, _TAKEN_S = 0.01, 1.0  # Who has a layer to himself takes it away at once, or has just looked.
_DURABLE_AFTER_S = 60.0  # By then the kernel has written most of it, and the build that made it has had the disk.
_BEHIND_BUILDS = ("nice", "-n", "5")  # A fraction of a second, which at the lowest priority can take minutes.
_IDLE = ("nice", "-n", "19", "ionice", "--class", "idle")
_SEAL = (sys.executable, "-I", "-S", str(Path(__file__).with_name("seal.py")))

_log = Logger()


@dataclass(frozen=True)
class Layer:
    """A layer that is in use, and stays until `release`."""

    tree: Path
    note: str  # Its maker's, who knows what it means.
    _lock: IO[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def state(self) -> str:
        """Of the world when it was made; nothing when its note does not say."""
        return str(parsed(self.note).get("state", ""))

    def release(self) -> None:
        """It is not needed any more. Once is enough, and more does no harm."""
        if self._lock is not None:
            self._lock.close()


@dataclass(frozen=True)
class Budget:
    """How much layers may take."""

    limit_bytes: int = 1 << 60
    free_floor_bytes: int = 0  # What the disk must have left.


class OwnCommands(Protocol):
    """Runs commands as root of the ids that builds have; Namespaces does."""

    async def run(self, argv: Sequence[str]) -> bytes:
        """What it wrote to standard output.

        :raises OSError: it failed.
        """
        ...


class Layers:
    """The layers in one directory."""

    def __init__(
        self,
        directory: Path,
        commands: OwnCommands,
        reactor: IReactorTime,
        budget: Budget,
        now: Callable[[], float] = time.time,
    ) -> None:
        """:raises OSError: the directory cannot be made."""
        self.directory = directory
        self._commands = commands
        self._reactor = reactor
        self._budget = budget
        self._now = now
        self._locks = directory / "locks"
        self._seen_sound: set[str] = set()  # Names of places, looked at since this daemon began.
        self._looking = DeferredLock()
        self._durable_soon = False
        for path in (directory, self._locks):
            path.mkdir(mode=0o750, parents=True, exist_ok=True)  # What is in chroots is nobody else's business.

    async def find(self, key: LayerKey) -> Layer | None:
        """The layer with this key, if it is there and as it was; to be released. It counts as used now."""
        for place in places_of(self.directory, key):
            layer = await self._use(place)
            if layer is None:
                continue
            if await self._is_sound(place):
                os.utime(place / "about")
                self._settle(place)
                return layer
            layer.release()
            await self._drop(place)
        return None

    @contextlib.asynccontextmanager
    async def turn(self, key: LayerKey) -> AsyncIterator[None]:
        """Be the only one, of all daemons, that makes this layer. Look for it again then: another may have made it."""
        path = self._locks / key
        wait_s, longest_s = _TURN_EVERY_S
        while (lock := take(path, make=True)) is None:
            await deferLater(self._reactor, wait_s)
            wait_s = min(wait_s * 1.5, longest_s)
        try:
            yield
        finally:
            give_back(path, lock)

    @contextlib.asynccontextmanager
    async def making(self) -> AsyncIterator[Path]:
        """A directory to make something in, on the layers' file system; what is left in it goes, in its own time."""
        path, lock = self._begin("making")
        try:
            make_directory(path)
            yield path
        finally:
            _background(self._remove(path, lock))

    async def keep(self, key: LayerKey, tree: Path, note: str) -> Layer:
        """Make a layer of a directory, which moves, in place of the one that has this key; to be released.

        :param tree: on the same file system, and nobody's any more.
        :raises OSError: it cannot be; the directory is of no use any more.
        """
        path, lock = self._begin("making")
        held = None
        try:
            path.mkdir(mode=0o755)
            about = json.dumps({"note": note, "boot": boot_id(), "made": self._now()})
            (path / "about").write_text(about, encoding="utf-8")
            held = take(path / "about", shared=True)
            await self._move(tree, path / "tree")
            place = self._put(path, key)
        except BaseException:
            if held is not None:
                held.close()
            await self._remove(path, lock)
            raise
        give_back(self._locks / path.name, lock)
        known = parsed(note)
        what = f"{known.get('kind', '?')}, {known.get('description', '?')}"
        _log.info("layer {place}: kept: {what}", place=place.name, what=what)
        self._seen_sound.add(place.name)
        self._settle(place)
        return Layer(place / "tree", note, held)

    async def drop(self, stored: Stored) -> bool:
        """Remove a layer; False when it is in use, or gone."""
        return await self._drop(stored.place)

    async def verify(self, stored: Stored, *, content: bool = False) -> bool:
        """Whether a layer is as it was when it was sealed, if it was yet. One that is not, nobody finds any more.

        :param content: read all files, too.
        :raises OSError: it cannot be looked over now, which says nothing of the layer.
        """
        seal, place = stored.seal, stored.place
        changed = seal is not None and (await self._look_over(place)).get("digest") != seal["digest"]
        if content and stored.content is not None and not changed:
            changed = (await self._look_over(place, "--content")).get("content") != stored.content
        if changed:
            write(place / "changed", "")
        return not changed

    async def make_room(self, wanted_bytes: int = 0) -> None:
        """Remove layers that nobody uses, those used longest ago first, until the budget has room for so much more."""
        async with self.turn(LayerKey("room")):  # Who has waited for another finds it made, or makes more.
            for stored in sorted(self.stored(), key=lambda stored: stored.used):
                if self._missing_bytes(wanted_bytes) <= 0:
                    break
                if await self._drop(stored.place):
                    _log.info("layer {place}: made room", place=stored.place.name)
            if (missing := self._missing_bytes(wanted_bytes)) > 0:
                _log.warn("layers take {missing} bytes more than they may, as all are in use", missing=missing)

    def disk_is_short(self) -> bool:
        """Whether the disk has less left than it must, whoever took it. This is quickly told."""
        return self._short_bytes() > 0

    async def tidy(self) -> None:
        """Remove what was left half-made or half-removed, and what is of no use any more; settle what was not yet."""
        await self._clear()
        for stored in self.stored():
            self._settle(stored.place)

    async def _clear(self) -> None:
        for path in [path for path in self.directory.iterdir() if _DEBRIS.fullmatch(path.name)]:
            if (lock := take(self._lock_of(path), make=True)) is not None:
                await self._remove(path, lock)
        for stored in self.stored():
            places = places_of(self.directory, stored.key)  # None when others have removed it meanwhile.
            if places and (stored.place != places[0] or not (stored.durable or stored.of_this_boot)):
                await self._drop(stored.place)
        for path in self._locks.iterdir():
            if (lock := take(path)) is not None:
                give_back(path, lock)
        await self.make_room()

    def stored(self) -> list[Stored]:
        """All layers that are there now, those of which there is a newer one included."""
        return stored_in(self.directory)

    async def _use(self, place: Path) -> Layer | None:
        """Hold a layer; None when it is gone, or going."""
        for _ in range(int(_TAKEN_S / _TAKEN_EVERY_S)):
            lock = take(place / "about", shared=True)
            if lock is not None:
                about = parsed(lock.read().decode(errors="replace"))
                return Layer(place / "tree", str(about.get("note", "")), lock)
            if not place.exists():
                return None
            await deferLater(self._reactor, _TAKEN_EVERY_S)
        return None

    async def _is_sound(self, place: Path) -> bool:
        """Whether a layer is whole, looked over once in a daemon's life."""
        if (place / "changed").exists():
            return False
        async with self._looking:
            if place.name in self._seen_sound:
                return True
            stored = look_at(place)
            if not (stored.durable or stored.of_this_boot):
                _log.info("layer {place}: was not on the disk yet when the machine went down", place=place.name)
                return False
            try:
                sound = await self.verify(stored)
            except OSError as exc:  # The disk is full, say. That is no reason to remove layers.
                _log.warn("layer {place}: cannot be looked over: {error}", place=place.name, error=exc)
                return True
            if not sound:
                _log.warn("layer {place}: was changed behind our back, and is made anew", place=place.name)
                return False
            self._seen_sound.add(place.name)
            return True

    def _begin(self, what: str) -> tuple[Path, IO[bytes]]:
        """A path for something that is not a layer, and the lock that says that somebody is at it."""
        while True:
            path = self.directory / f"{what}-{secrets.token_hex(8)}"
            if (lock := take(self._locks / path.name, make=True)) is not None:
                return path, lock

    async def _move(self, tree: Path, target: Path) -> None:
        try:
            tree.rename(target)
        except PermissionError:  # A build may have given the root of its tree to another of its users.
            await self._commands.run(["mv", "-T", "--", str(tree), str(target)])

    def _put(self, path: Path, key: LayerKey) -> Path:
        """The one moment in which a layer comes into being."""
        number = max([number_of(place.name) for place in places_of(self.directory, key)], default=0)
        while True:
            number += 1
            try:
                return path.rename(self.directory / f"{key}-{number}")
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    async def _drop(self, place: Path) -> bool:
        held = take(place / "about", make=True)  # Where it has none, after a power cut, nobody can use it.
        if held is None:
            return False
        path, lock = self._begin("removing")
        try:
            place.rename(path)
        finally:
            held.close()
        await _to_its_end(self._remove(path, lock))
        return True

    async def _remove(self, path: Path, lock: IO[bytes]) -> None:
        """Remove what is no layer; what cannot be removed now is left for later."""
        try:
            if path.exists():
                await self._commands.run(["rm", "-rf", "--one-file-system", "--", str(path)])
        except OSError as exc:
            _log.warn("{path} cannot be removed: {error}", path=path, error=exc)
        finally:
            give_back(self._lock_of(path), lock)

    def _lock_of(self, path: Path) -> Path:
        """Of what is no layer; places that are tried for it (block_groups.py) have its lock."""
        return self._locks / path.name.partition(".")[0]

    def _missing_bytes(self, wanted_bytes: int) -> int:
        """How much the layers and the disk lack for so much more."""
        over = sum(stored.bytes for stored in self.stored()) + wanted_bytes - self._budget.limit_bytes
        return max(over, self._short_bytes() + wanted_bytes)

    def _short_bytes(self) -> int:
        return Disk.of(self.directory).short_bytes(self._budget.free_floor_bytes)

    async def _look_over(self, place: Path, *options: str, how: Sequence[str] = ()) -> Mapping[str, Any]:
        """What seal.py says of a layer."""
        return parsed((await self._commands.run([*how, *_SEAL, *options, str(place / "tree")])).decode())

    # --- in the background

    def _settle(self, place: Path) -> None:
        """Seal a layer and bring it to the disk, if that was not done, while builds go on."""
        if not (place / "seal").exists():
            _background(self._seal_and_tidy(place))
        if not ((place / "durable").exists() and (place / "content").exists()) and not self._durable_soon:
            self._durable_soon = True
            self._reactor.callLater(_DURABLE_AFTER_S, lambda: _background(self._make_durable()))

    async def _seal_and_tidy(self, place: Path) -> None:
        path = self._locks / f"seal-{place.name}"
        if (lock := take(path, make=True)) is None:
            return  # Another is at it.
        held = take(place / "about", shared=True)
        try:
            if held is not None:
                seal = await self._look_over(place, how=_BEHIND_BUILDS)
                if "digest" in seal:
                    write(place / "seal", json.dumps(seal))
        finally:
            give_back(path, lock)
            if held is not None:
                held.close()
        await self._clear()

    async def _make_durable(self) -> None:
        """Have the kernel write all that it still holds back; what was there before is on the disk then."""
        self._durable_soon = False
        with contextlib.ExitStack() as held:  # Or another could have the same name once all is written.
            written = []
            for stored in self.stored():
                waits = stored.seal and stored.of_this_boot and not stored.durable
                if waits and (lock := take(stored.place / "about", shared=True)) is not None:
                    held.enter_context(lock)
                    written.append(stored.place)
            await self._commands.run([*_IDLE, "sync", "--file-system", str(self.directory)])
            for place in written:
                write(place / "durable", "")
        for stored in self.stored():
            if stored.content is None and (lock := take(stored.place / "about", shared=True)) is not None:
                with lock:
                    content = await self._look_over(stored.place, "--content", how=_IDLE)
                    write(stored.place / "content", json.dumps(content))


def _to_its_end(work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
    """Fires when it is done; who does not wait any longer does not end it."""
    done: Deferred[None] = Deferred()
    Deferred.fromCoroutine(work).addCallbacks(done.callback, done.errback)
    return done


def _background(work: Coroutine[Deferred[Any], Any, None]) -> None:
    """It is of use only later; when it fails, there is a line in the log."""
    Deferred.fromCoroutine(work).addErrback(lambda why: _log.warn("layers: {error}", error=why.value))
