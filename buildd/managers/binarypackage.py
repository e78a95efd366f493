"""The build type `binarypackage`: binary packages from a source package, by sbuild."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet.threads import deferToThread

from buildd import apt, depwait, sbuild
from buildd.config import BuilddConfig
from buildd.control import ControlError, check_file, parse_changes
from buildd.isolation import BrokenChroot, Isolation, Root
from buildd.isolation.layers import Layer, LayerKey
from buildd.managers.base import BuildRequest, BuildResult
from buildd.managers.plan import Plan, make_plan
from buildd.managers.rootfiles import DEPENDENCY_DSC, PREPARE, root_files
from buildd.process import Children, Exit, Limit, Reactor
from buildd.protocol import BuildStatus, FileName, Sha1, parse_file_name

_SCRIPTS = Path(__file__).parent
_OUTPUT_MAX = 1 << 20  # Bytes of apt's words that are looked at.
_AVAILABLE_MAX = 64 << 20

Step = Callable[[], Awaitable[BuildResult | None]]  # None: go on with the next.


class BinaryPackageManager:
    """Builds packages in roots that an isolation backend makes."""

    def __init__(self, config: BuilddConfig, isolation: Isolation, reactor: Reactor) -> None:
        self._config = config
        self._isolation = isolation
        self._reactor = reactor

    def check(self, request: BuildRequest) -> Plan:
        """See BuildManager.check."""
        return make_plan(request, self._config.architecture)

    async def build(self, request: BuildRequest, plan: object) -> BuildResult:
        """See BuildManager.build. The stages in order; what each needs undone goes with the build's namespaces.

        What a build leaves on disk is below its directory: `remove` takes it away. Mounts are in the namespaces of the
        command that runs, and processes in its pid namespace: both end with it, however it ends.
        """
        assert isinstance(plan, Plan)
        build = _Build(request, plan, self._config, self._isolation, self._reactor)
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
            result = await step()
            if result is not None:
                return result
        raise AssertionError("the last stage gives a result")

    async def remove(self, directory: Path) -> None:
        """See BuildManager.remove."""
        await self._isolation.remove(directory)

    async def recover(self, builds: Path, used: frozenset[Sha1]) -> None:
        """See BuildManager.recover."""
        await self._isolation.recover(used)
        for left in builds.iterdir():
            await self._isolation.remove(left)


class _Build:
    """One build and its stages; each gives a result when the build ends with it."""

    def __init__(
        self, request: BuildRequest, plan: Plan, config: BuilddConfig, isolation: Isolation, reactor: Reactor
    ) -> None:
        self._request = request
        self._plan = plan
        self._config = config
        self._isolation = isolation
        self._log = request.log
        self._log.scrub = plan.arguments.archive_private
        if plan.arguments.build_url:
            self._log.say(plan.arguments.build_url)
        self._children = Children(reactor, request.log, config.timeout_s, config.silence_s)
        self._state = ""  # Of the archives, once their lists are there.
        self._user_ids = ""  # "uid:gid" of the build user in the root.
        self._below: list[Layer] = []  # The layers under the root, the topmost first.
        self._roots = 0  # How many were opened.
        self._root: Root

    async def unpack(self) -> BuildResult | None:
        """Unpack the chroot, unless it was before, and open a fresh root on it."""
        try:
            await self._isolation.unpack(self._request.chroot, self._request.chroot_sha1, self._children, self._log)
        except BrokenChroot as exc:
            return self._end(BuildStatus.CHROOTFAIL, str(exc))
        updated = self._isolation.find(self._plan.updated_key)
        self._open([updated] if updated else [])
        return None

    async def prepare(self) -> BuildResult | None:
        """Put sources.list, keys, users and the like in place; see that the chroot works at all."""
        files = await deferToThread(root_files, self._plan, self._config)
        said = _Kept(None)
        arguments = ["sh", "-c", PREPARE, "prepare", "replace" if self._plan.arguments.archives else "keep"]
        ended = await self._root.run(arguments, network=False, stdin=files, output=said)
        if not ended.ok:
            return self._stopped(ended) or self._end(
                BuildStatus.CHROOTFAIL, f"the chroot is damaged: preparing it ended with {ended}"
            )
        architecture, _, self._user_ids = said.text().strip().partition(" ")
        if architecture != self._plan.arguments.arch_tag:
            return self._end(
                BuildStatus.CHROOTFAIL,
                f"the chroot is for {architecture[:80]!r}, the build for {self._plan.arguments.arch_tag!r}",
            )
        return None

    async def update(self) -> BuildResult | None:
        """Fetch the archives' package lists; a layer made of other lists than these has had its time."""
        if (ended := await self._apt(apt.UPDATE, "the package lists could not be fetched")) is not None:
            return ended
        self._state = await self._state_of_archives()
        if self._below and self._below[0].note != self._state:
            self._open([])
            return await self.prepare() or await self.update()
        return None

    async def upgrade(self) -> BuildResult | None:
        """Bring the chroot's packages up to date, once for each state of the archives."""
        if not self._below:
            if (ended := await self._apt(apt.UPGRADE, "the chroot could not be brought up to date")) is not None:
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
        said = _Kept(self._log.write)
        ended = await self._root.run(apt.build_dep(DEPENDENCY_DSC), network=True, output=said)
        if ended.ok:
            return None
        if (stopped := self._stopped(ended)) is not None:
            return stopped
        simulated = await self._root.run(
            apt.build_dep(DEPENDENCY_DSC, simulate=True), network=False, output=_Kept(None)
        )
        if not simulated.ok:
            return self._stopped(simulated) or await self._explain_dependencies(said.text())
        if apt.did_not_answer(said.text()):
            return self._end(BuildStatus.GIVENBACK, "an archive did not answer while build-dependencies were fetched")
        return self._end(BuildStatus.PACKAGEFAIL, f"a build-dependency could not be installed: {ended}")

    async def build(self) -> BuildResult | None:
        """Have sbuild build the package."""
        directory = self._request.directory
        out = directory / "out"
        out.mkdir()
        script = await deferToThread(self._lay_out_sbuild, directory / "sbuild")
        dsc = str(directory / "sbuild" / "source" / self._plan.dsc_name)
        command = sbuild.command(self._plan.arguments, dsc)
        ended = await self._root.run_beside(
            ["sh", str(script), str(directory / "sbuild"), self._user_ids, *command],
            env={},
            cwd=out,
            visible=[out, directory / "sbuild"],
        )
        if (stopped := self._stopped(ended)) is not None:
            return stopped
        verdict = sbuild.verdict(ended.code, self._log.tail(sbuild.SUMMARY_BYTES).decode(errors="replace"))
        return None if verdict.status is BuildStatus.OK else self._end(verdict.status, verdict.reason)

    async def gather(self) -> BuildResult:
        """Take the files that the .changes names, each checked against it, and leave everything else."""
        try:
            files = await deferToThread(_results, self._request.directory / "out")
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

    async def _apt(self, command: tuple[str, ...], failure: str) -> BuildResult | None:
        """Run apt on the chroot; a failure is an archive's that does not answer, or else the chroot's."""
        said = _Kept(self._log.write)
        ended = await self._root.run(command, network=True, output=said)
        if ended.ok:
            return None
        if apt.did_not_answer(said.text()):
            return self._stopped(ended) or self._end(BuildStatus.GIVENBACK, f"{failure}: an archive did not answer")
        return self._stopped(ended) or self._end(BuildStatus.CHROOTFAIL, f"{failure}: {command[0]} ended with {ended}")

    async def _explain_dependencies(self, explanation: str) -> BuildResult:
        """Dep-wait, when something is missing from the archives; else the package asks for what cannot be."""
        available_lines = _Kept(None, _AVAILABLE_MAX)
        await self._root.run(apt.DUMP_AVAILABLE, network=False, output=available_lines)
        available = await deferToThread(depwait.parse_available, available_lines.text().splitlines())
        missing = await deferToThread(depwait.missing, self._plan.wanted, available)
        missing = missing or await deferToThread(depwait.missing_further_down, explanation, available)
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

    def _lay_out_sbuild(self, directory: Path) -> Path:
        """Write what sbuild and schroot need below `directory`; returns the script that starts them. Blocks."""
        source = directory / "source"
        (directory / "schroot" / "chroot.d").mkdir(parents=True)
        (directory / "schroot" / "debfarm").mkdir()
        (directory / "home").mkdir()
        source.mkdir()
        for name, path in self._request.files.items():
            _place(path, source / name)
        environment = sbuild.build_environment(self._plan.arguments, self._config.jobs)
        (directory / "sbuildrc").write_text(sbuild.configuration(environment, self._config.silence_s))
        definition = sbuild.schroot_definition(str(self._root.path))
        (directory / "schroot" / "chroot.d" / "build").write_text(definition)
        for empty in ("schroot.conf", "debfarm/fstab", "debfarm/copyfiles", "debfarm/nssdatabases"):
            (directory / "schroot" / empty).touch()
        # A copy: a build must not be able to write where this program is.
        return Path(shutil.copy(_SCRIPTS / "sbuild.sh", directory))


class _Kept:
    """Takes a child's output: passes it on, and keeps its beginning."""

    def __init__(self, onward: Callable[[bytes], None] | None, limit: int = _OUTPUT_MAX) -> None:
        self._onward = onward
        self._kept = bytearray()
        self._limit = limit

    def __call__(self, data: bytes) -> None:
        if self._onward is not None:
            self._onward(data)
        self._kept += data[: self._limit - len(self._kept)]

    def text(self) -> str:
        """What was kept, as far as it is UTF-8."""
        return self._kept.decode(errors="replace")


def _results(directory: Path) -> dict[FileName, Path]:
    """What the one .changes in a directory names, and the .changes; every file checked. Blocks.

    :raises ControlError: there is no such file, or it promises what is not there.
    """
    changes = [path for path in directory.glob("*.changes") if path.is_file() and not path.is_symlink()]
    if len(changes) != 1:
        raise ControlError(f"there are {len(changes)} .changes files instead of one")
    files: dict[FileName, Path] = {}
    for listed in parse_changes(changes[0]).files:
        check_file(directory / listed.name, listed)
        files[listed.name] = directory / listed.name
    files[parse_file_name(changes[0].name)] = changes[0]
    return files


def _place(path: Path, target: Path) -> None:
    """A second name for a file where that can be, else a copy."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
