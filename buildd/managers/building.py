"""A package build under way: its request and plan, its root, and how it ends. What all stages have in common."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from buildd import apt
from buildd.archives import Changed, Snapshot
from buildd.causes import limit_cause
from buildd.config import BuilddConfig
from buildd.disk_use import Disk
from buildd.isolation import Isolation, Root
from buildd.isolation.layers import Layer, LayerKey
from buildd.managers.base import BuildRequest, BuildResult, InThread
from buildd.managers.memos import Memos
from buildd.managers.plan import Plan
from buildd.process import Children, Exit, Reactor
from buildd.protocol import BuildStatus, Cause
from buildd.reach import Reach

_OUTPUT_MAX = 1 << 20  # Bytes of apt's words that are looked at.


@dataclass(frozen=True)
class Host:
    """What builds have in common."""

    config: BuilddConfig
    isolation: Isolation
    memos: Memos
    reactor: Reactor
    in_thread: InThread
    changed: Callable[[Snapshot, str, float], Awaitable[Changed]]  # See ArchiveWatch.changed.
    disk: Callable[[Path], Disk] = Disk.of


@dataclass(frozen=True)
class Prepared:
    """A chroot that was prepared and brought up to date."""

    layer_key: LayerKey
    state: str  # Of its archives then: a digest of all that apt knew of them,
    snapshot: str  # and what to ask them by, as archives.Snapshot writes it.
    archives: list[str]  # Their URLs.
    user_ids: str  # "uid:gid" of the build user.


@dataclass
class Building:
    """One build, while it runs."""

    request: BuildRequest
    plan: Plan
    host: Host
    children: Children
    below: tuple[Layer, ...] = ()  # The layers between root and chroot, the topmost first.
    archives: list[str] = field(default_factory=list)  # Their URLs, which is all that apt may reach.
    _base: Layer | None = None  # The chroot as it was unpacked.
    _prepared: Prepared | None = None
    _held: list[Layer] = field(default_factory=list)  # Nobody takes them away before release().
    _roots: int = 0  # How many were opened.
    _root: Root | None = None

    @property
    def root(self) -> Root:
        """Where the build goes on; there is one once the chroot is unpacked."""
        assert self._root is not None
        return self._root

    @property
    def prepared(self) -> Prepared:
        """What the root is on, once it is brought up to date."""
        assert self._prepared is not None
        return self._prepared

    @prepared.setter
    def prepared(self, prepared: Prepared) -> None:
        self._prepared = prepared

    @property
    def user_ids(self) -> str:
        """ "uid:gid" of the build user in the root."""
        return self.prepared.user_ids

    @property
    def network(self) -> Reach | None:
        """What the package may reach while it is built; None: nothing."""
        hosts = self.host.config.network_hosts
        return Reach.of_hosts(hosts) if hosts else None

    def begin(self, stage: str) -> None:
        """Tell everybody that this is what goes on now."""
        self.request.begin(stage)
        self.request.log.say(f"\n=== {stage} ===")

    async def unpack(self) -> None:
        """Have the chroot below all else, see Isolation.unpack."""
        request = self.request
        self._base = await self.host.isolation.unpack(request.chroot, request.chroot_sha1, self.children)
        self._held.append(self._base)

    async def find(self, key: LayerKey) -> Layer | None:
        """A layer, if it is there; nobody takes it away while this build lasts."""
        layer = await self.host.isolation.find(key)
        if layer is not None:
            self._held.append(layer)
        return layer

    def open(self, *layers: Layer) -> None:
        """Go on in a fresh root on these layers, the topmost first; what was changed in the one before is forgotten."""
        assert self._base is not None
        self.below = layers
        self._roots += 1
        directory = self.request.directory / f"root-{self._roots}"
        self._root = self.host.isolation.open([*layers, self._base], directory, self.children)

    async def keep(self, key: LayerKey, note: str) -> Layer:
        """Make a layer of what was changed in the root, and go on in a fresh one on top."""
        layer = await self.host.isolation.keep(key, self.root, note)
        self._held.append(layer)
        self.open(layer, *self.below)
        return layer

    def release(self) -> None:
        """The build is over: its layers are anybody's."""
        for layer in self._held:
            layer.release()

    async def apt(self, command: tuple[str, ...], question: tuple[str, ...] = ()) -> tuple[Exit, str]:
        """Run apt in the root, with the archives in reach and what credentials there are; how it ended, its words.

        :param question: a command to be run beside it, see apt.beside.
        """
        said, reach = Kept(self.request.log.write), Reach.of(self.archives)
        command = apt.with_credentials(command)
        if question:
            command = apt.beside(command, question)
        ended = await self.root.run(command, network=reach, stdin=self.plan.auth_conf.encode(), output=said)
        return ended, said.text()

    def apt_failed(self, ended: Exit, said: str, unanswered: str) -> BuildResult | None:
        """The result of a build for which apt failed, when that is nothing that apt was asked for; None: it is.

        :param said: its words.
        :param unanswered: the reason, when an archive did not answer.
        """
        if (stopped := self.stopped(ended)) is not None:
            return stopped
        if apt.had_no_space(said):
            return self.disk_is_full()
        if apt.did_not_answer(said):
            return self.end(BuildStatus.GIVENBACK, unanswered)
        return None

    def stopped(self, ended: Exit) -> BuildResult | None:
        """The result of a build that ran into one of its limits."""
        if ended.limit is None:
            return None
        status = BuildStatus.BUILDERFAIL if ended.limit.blames_builder else BuildStatus.PACKAGEFAIL
        return self.end(status, f"the build was ended: {ended}", cause=limit_cause(ended.limit))

    def disk_is_full(self) -> BuildResult:
        """The result of a build for which there is no room."""
        return self.end(BuildStatus.BUILDERFAIL, "the builder's disk is full", cause=Cause.DISK)

    def end(self, status: BuildStatus, reason: str, dependencies: str = "", cause: Cause | None = None) -> BuildResult:
        """A result, written to the log as well.

        :param cause: where it is known here; else status and log tell, see causes.py.
        """
        self.request.log.say(f"\n{status}: {reason}")
        return BuildResult(status, reason, dependencies=dependencies, cause=cause)


class Kept:
    """Takes a child's output: passes it on, and keeps its beginning."""

    def __init__(self, onward: Callable[[bytes], None] | None, limit: int = _OUTPUT_MAX) -> None:
        self._onward = onward
        self._kept = bytearray()
        self.cut = False  # There was more.
        self._limit = limit

    def __call__(self, data: bytes) -> None:
        if self._onward is not None:
            self._onward(data)
        room = self._limit - len(self._kept)
        self._kept += data[:room]
        self.cut = self.cut or len(data) > room

    def text(self) -> str:
        """What was kept, as far as it is UTF-8."""
        return self._kept.decode(errors="replace")
