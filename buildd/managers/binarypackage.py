"""The build type `binarypackage`: binary packages from a source package, by sbuild."""

import errno
import re
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from buildd import apt, depwait, sbuild
from buildd.config import BuilddConfig
from buildd.control import ControlError
from buildd.isolation import BrokenChroot, Isolation, LimitReached, Root
from buildd.isolation.layers import Layer, LayerKey
from buildd.managers.base import BuildRequest, BuildResult, InThread
from buildd.managers.plan import Plan, make_plan
from buildd.managers.rootfiles import DEPENDENCY_DSC, PREPARE, root_files
from buildd.managers.sbuild_files import SOURCE, START, lay_out, results
from buildd.process import Children, Exit, Limit, Reactor
from buildd.protocol import BuildStatus, Sha1

_OUTPUT_MAX = 1 << 20  # Bytes of apt's words that are looked at.
_AVAILABLE_MAX = 64 << 20
# Programs fail for want of space before the last byte is used, as a file of theirs does not fit, and what they wrote of
# it is often removed by then. No builder works well with so little.
_FREE_MIN = 64 << 20
_IDS_MAX = 65533  # Below nobody's, and of those that a build has.
_PREPARED = re.compile(r"([a-z0-9-]+) ([0-9]{1,5}):([0-9]{1,5})\n", re.ASCII)

_log = Logger()

Step = Callable[[], Awaitable[BuildResult | None]]  # None: go on with the next.


class BinaryPackageManager:
    """Builds packages in roots that an isolation backend makes."""

    def __init__(
        self,
        config: BuilddConfig,
        isolation: Isolation,
        reactor: Reactor,
        in_thread: InThread = deferToThread,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._host = _Host(config, isolation, reactor, in_thread, free_bytes)

    def check(self, request: BuildRequest) -> Plan:
        """See BuildManager.check."""
        return make_plan(request, self._host.config.architecture)

    async def build(self, request: BuildRequest, plan: object) -> BuildResult:
        """See BuildManager.build. The stages in order; what each needs undone goes with the build's namespaces.

        What a build leaves on disk is below its directory: `remove` takes it away. Mounts are in the namespaces of the
        command that runs, and processes in its pid namespace: both end with it, however it ends.
        """
        assert isinstance(plan, Plan)
        build = _Build(request, plan, self._host)
        stages: tuple[tuple[str, Step], ...] = (
            ("unpack chroot", build.unpack),
            ("prepare chroot", build.prepare),
            ("update package lists", build.update),
            ("upgrade chroot", build.upgrade),
            ("install build-dependencies", build.install),
            ("build", build.build),
            ("gather results", build.gather),
        )
        for name, step in stages:
            request.begin(name)
            request.log.say(f"\n=== {name} ===")
            result = await build.run(step)
            if result is not None:
                return result
        raise AssertionError("the last stage gives a result")

    async def remove(self, directory: Path) -> None:
        """See BuildManager.remove."""
        await self._host.isolation.remove(directory)

    async def recover(self, builds: Path, used: frozenset[Sha1]) -> None:
        """See BuildManager.recover."""
        await self._host.isolation.recover(used)
        for left in builds.iterdir():
            try:
                await self._host.isolation.remove(left)
            except OSError as exc:  # It costs space, and the next start tries again.
                _log.warn("{left}, of an earlier build, cannot be removed: {error}", left=left, error=exc)


@dataclass(frozen=True)
class _Host:
    """What builds have in common."""

    config: BuilddConfig
    isolation: Isolation
    reactor: Reactor
    in_thread: InThread
    free_bytes: Callable[[Path], int]


class _Build:
    """One build and its stages; each gives a result when the build ends with it."""

    def __init__(self, request: BuildRequest, plan: Plan, host: _Host) -> None:
        self._request = request
        self._plan = plan
        self._host = host
        self._isolation = host.isolation
        self._log = request.log
        self._log.scrub = plan.arguments.archive_private
        if plan.arguments.build_url:
            self._log.say(plan.arguments.build_url)
        self._children = Children(host.reactor, request.log, host.config.timeout_s, host.config.silence_s)
        self._state = ""  # Of the archives, once their lists are there.
        self._user_ids = ""  # "uid:gid" of the build user in the root.
        self._below: list[Layer] = []  # The layers under the root, the topmost first.
        self._roots = 0  # How many were opened.
        self._root: Root

    async def run(self, step: Step) -> BuildResult | None:
        """Run a stage. For whatever reason it seems to fail, a full disk explains it better."""
        try:
            result = await step()
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return self._disk_is_full()
        if result is None or result.status is BuildStatus.OK:
            return result
        return self._disk_is_full() if self._host.free_bytes(self._request.directory) < _FREE_MIN else result

    def _disk_is_full(self) -> BuildResult:
        return self._end(BuildStatus.BUILDERFAIL, "the builder's disk is full")

    async def unpack(self) -> BuildResult | None:
        """Unpack the chroot, unless it was before, and open a fresh root on it."""
        try:
            await self._isolation.unpack(self._request.chroot, self._request.chroot_sha1, self._children)
        except BrokenChroot as exc:
            return self._end(BuildStatus.CHROOTFAIL, str(exc))
        except LimitReached as exc:
            return self._stopped(exc.ended)
        updated = self._isolation.find(self._plan.updated_key)
        self._open([updated] if updated else [])
        return None

    async def prepare(self) -> BuildResult | None:
        """Put sources.list, keys, users and the like in place; see that the chroot works at all."""
        files = await self._host.in_thread(root_files, self._plan, self._host.config)
        said = _Kept(None)
        arguments = ["sh", "-c", PREPARE, "prepare", "replace" if self._plan.arguments.archives else "keep"]
        ended = await self._root.run(arguments, network=False, stdin=files, output=said)
        if not ended.ok:
            return self._stopped(ended) or self._end(
                BuildStatus.CHROOTFAIL, f"the chroot is damaged: preparing it ended with {ended}"
            )
        if (found := _PREPARED.fullmatch(said.text())) is None:
            return self._end(
                BuildStatus.CHROOTFAIL, f"the chroot is damaged: preparing it printed {said.text()[:80]!r}"
            )
        architecture, uid, gid = found.groups()
        if architecture != self._plan.arguments.arch_tag:
            wanted = self._plan.arguments.arch_tag
            return self._end(
                BuildStatus.CHROOTFAIL, f"the chroot is for {architecture[:80]!r}, the build for {wanted!r}"
            )
        if not all(0 < int(number) <= _IDS_MAX for number in (uid, gid)):
            user = f"{sbuild.BUILD_USER} with uid {uid} and gid {gid}"
            return self._end(BuildStatus.CHROOTFAIL, f"the chroot has a user {user}, which no build may have")
        self._user_ids = f"{int(uid)}:{int(gid)}"
        return None

    async def update(self) -> BuildResult | None:
        """Fetch the archives' package lists; a layer made of other lists than these has had its time."""
        if (ended := await self._apt_on_chroot(apt.UPDATE, "the package lists could not be fetched")) is not None:
            return ended
        self._state = await self._state_of_archives()
        if self._below and self._below[0].note != self._state:
            self._open([])
            return await self.prepare() or await self.update()
        return None

    async def upgrade(self) -> BuildResult | None:
        """Bring the chroot's packages up to date, once for each state of the archives."""
        if not self._below:
            if (
                ended := await self._apt_on_chroot(apt.UPGRADE, "the chroot could not be brought up to date")
            ) is not None:
                return ended
            await self._keep(self._plan.updated_key)
        return None

    async def install(self) -> BuildResult | None:
        """Install the build-dependencies, once for each set of them and state of the archives."""
        key = self._plan.installed_key(self._state)
        installed = self._isolation.find(key)
        if installed is not None:
            self._log.say("The build-dependencies are there, from an earlier build.")
            self._open([installed, *self._below])
            return await self.prepare()
        if (ended := await self._install_build_dependencies()) is not None:
            return ended
        await self._keep(key)
        return None

    async def _install_build_dependencies(self) -> BuildResult | None:
        """Install them, or find out why that cannot be."""
        ended, said = await self._apt(apt.build_dep(DEPENDENCY_DSC))
        if ended.ok:
            return None
        if (stopped := self._stopped(ended)) is not None:
            return stopped
        if apt.had_no_space(said):
            return self._disk_is_full()
        explanation = _Kept(None)
        simulation = apt.build_dep(DEPENDENCY_DSC, simulate=True)
        simulated = await self._root.run(simulation, network=False, output=explanation)
        if not simulated.ok:
            return self._stopped(simulated) or await self._explain_dependencies(explanation.text())
        if apt.did_not_answer(said):
            return self._end(BuildStatus.GIVENBACK, "an archive did not answer while build-dependencies were fetched")
        return self._end(BuildStatus.PACKAGEFAIL, f"a build-dependency could not be installed: {ended}")

    async def build(self) -> BuildResult | None:
        """Have sbuild build the package."""
        out, laid_out = self._request.directory / "out", self._request.directory / "sbuild"
        out.mkdir()
        files, root = self._request.files, self._root.path
        await self._host.in_thread(lay_out, laid_out, self._plan, files, root, self._host.config)
        command = sbuild.command(self._plan.arguments, str(laid_out / SOURCE / self._plan.dsc_name))
        start = ["sh", str(laid_out / START), str(laid_out), self._user_ids]
        ended = await self._root.run_beside([*start, *command], env={}, cwd=out, visible=[laid_out, out])
        if (stopped := self._stopped(ended)) is not None:
            return stopped
        verdict = sbuild.verdict(ended.code, self._log.tail(sbuild.SUMMARY_BYTES).decode(errors="replace"))
        return None if verdict.status is BuildStatus.OK else self._end(verdict.status, verdict.reason)

    async def gather(self) -> BuildResult:
        """Take the files that the .changes names, each checked against it, and leave everything else."""
        try:
            files = await self._host.in_thread(results, self._request.directory / "out")
        except (ControlError, OSError) as exc:
            return self._end(BuildStatus.BUILDERFAIL, f"sbuild's results cannot be used: {exc}")
        return BuildResult(BuildStatus.OK, "built", files)

    def _open(self, below: list[Layer]) -> None:
        """Go on in a fresh root on these layers; what was changed in the one before is forgotten."""
        self._below = below
        self._roots += 1
        directory = self._request.directory / f"root-{self._roots}"
        self._root = self._isolation.open(self._request.chroot_sha1, below, directory, self._children)

    async def _keep(self, key: LayerKey) -> None:
        """Make a layer of what was changed in the root, and go on in a fresh one on top."""
        self._open([await self._isolation.keep(key, self._root, self._state), *self._below])

    async def _state_of_archives(self) -> str:
        """A digest of all that apt knows of its archives."""
        said = _Kept(None)
        ended = await self._root.run(apt.STATE, network=False, output=said)
        return said.text().strip() if ended.ok else f"unknown in {self._request.build_id}: {ended}"

    async def _apt(self, command: tuple[str, ...]) -> tuple[Exit, str]:
        """Run apt in the root, with network and what credentials there are; how it ended, and its words."""
        said = _Kept(self._log.write)
        stdin = self._plan.auth_conf.encode()
        ended = await self._root.run(apt.with_credentials(command), network=True, stdin=stdin, output=said)
        return ended, said.text()

    async def _apt_on_chroot(self, command: tuple[str, ...], failure: str) -> BuildResult | None:
        """Run apt on the chroot; a failure is an archive's that does not answer, or else the chroot's."""
        ended, said = await self._apt(command)
        if ended.ok:
            return None
        if (stopped := self._stopped(ended)) is not None:
            return stopped
        if apt.had_no_space(said):
            return self._disk_is_full()
        if apt.did_not_answer(said):
            return self._end(BuildStatus.GIVENBACK, f"{failure}: an archive did not answer")
        return self._end(BuildStatus.CHROOTFAIL, f"{failure}: {command[0]} ended with {ended}")

    async def _explain_dependencies(self, explanation: str) -> BuildResult:
        """Dep-wait, when something is missing from the archives; else the package asks for what cannot be."""
        listed = _Kept(None, _AVAILABLE_MAX)
        ended = await self._root.run(apt.DUMP_AVAILABLE, network=False, output=listed)
        if (stopped := self._stopped(ended)) is not None:
            return stopped
        if listed.cut:
            return self._end(
                BuildStatus.BUILDERFAIL, f"the archives have more packages than fit into {_AVAILABLE_MAX} bytes"
            )
        try:
            available = await self._host.in_thread(depwait.parse_available, listed.text())
        except depwait.IncompleteList:
            return self._end(
                BuildStatus.CHROOTFAIL, f"the chroot's apt-cache did not list what the archives have: {ended}"
            )
        missing = await self._host.in_thread(depwait.missing, self._plan.wanted, available)
        missing = missing or await self._host.in_thread(depwait.missing_further_down, explanation, available)
        if missing:
            return self._end(BuildStatus.DEPFAIL, f"nothing satisfies the build-dependencies {missing}", missing)
        return self._end(BuildStatus.PACKAGEFAIL, "the build-dependencies cannot be installed together")

    def _stopped(self, ended: Exit) -> BuildResult | None:
        """The result of a build that ran into one of its limits."""
        if ended.limit is None:
            return None
        status = BuildStatus.BUILDERFAIL if ended.limit is Limit.LOG_ERROR else BuildStatus.PACKAGEFAIL
        return self._end(status, f"the build was ended: {ended.limit}")

    def _end(self, status: BuildStatus, reason: str, dependencies: str = "") -> BuildResult:
        self._log.say(f"\n{status}: {reason}")
        return BuildResult(status, reason, dependencies=dependencies)


class _Kept:
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
