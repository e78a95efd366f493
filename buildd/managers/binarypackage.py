"""The build type `binarypackage`: binary packages from a source package."""

import errno
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from twisted.logger import Logger

from buildd.control import ControlError
from buildd.disk_use import Usage
from buildd.isolation import LimitReached
from buildd.managers import chroot, dependencies
from buildd.managers.base import BuildRequest, BuildResult
from buildd.managers.building import Building, Host
from buildd.managers.direct import Direct
from buildd.managers.package_builder import PackageBuilder
from buildd.managers.plan import Plan, make_plan
from buildd.managers.rootfiles import CURRENTLY_BUILDING, currently_building
from buildd.managers.with_sbuild import WithSbuild
from buildd.process import Children
from buildd.protocol import BuildStatus, Cause, PackageBuilderName, ProtocolError

_PACKAGE_BUILDERS: Mapping[PackageBuilderName, PackageBuilder] = {
    PackageBuilderName.SBUILD: WithSbuild(),
    PackageBuilderName.DIRECT: Direct(),
}

_log = Logger()

Step = Callable[[Building], Awaitable[BuildResult | None]]  # None: go on with the next.


class BinaryPackageManager:
    """Builds packages in roots that an isolation backend makes."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, request: BuildRequest) -> Plan:
        """See BuildManager.check."""
        config = self._host.config
        plan = make_plan(request, config.architecture)
        if (builder := plan.arguments.package_builder) and builder not in config.isolation.package_builders:
            raise ProtocolError(f"package_builder: {builder} does not work here, where isolation is {config.isolation}")
        return plan

    async def build(self, request: BuildRequest, plan: object) -> BuildResult:
        """See BuildManager.build. The stages in order; what each needs undone goes with the build's namespaces.

        What a build leaves on disk is below its directory: `remove` takes it away. Mounts are in the namespaces of the
        command that runs, and processes in its pid namespace: both end with it, however it ends.
        """
        assert isinstance(plan, Plan)
        build = self._begin(request, plan)
        stages: tuple[tuple[str, Step], ...] = (
            ("unpack chroot", chroot.unpack),
            ("look for changes in the archives", chroot.bring_up_to_date),
            ("install build-dependencies", dependencies.install),
            ("build", _build),
            ("gather results", _gather),
        )
        try:
            for name, step in stages:
                build.begin(name)
                result = await _run(build, step)
                if result is not None:
                    return result
        finally:
            build.release()
        raise AssertionError("the last stage gives a result")

    def _begin(self, request: BuildRequest, plan: Plan) -> Building:
        request.log.scrub = plan.arguments.archive_private
        if plan.arguments.build_url:
            request.log.say(plan.arguments.build_url)
        limits = request.limits
        children = Children(self._host.reactor, request.log, limits.wall_s, limits.silence_s, request.guard)
        return Building(request, plan, self._host, children)

    async def remove(self, directory: Path) -> None:
        """See BuildManager.remove."""
        await self._host.isolation.remove(directory)

    async def usage(self, directory: Path) -> Usage:
        """See BuildManager.usage."""
        return await self._host.isolation.usage(directory)

    async def make_room(self) -> None:
        """See BuildManager.make_room."""
        await self._host.isolation.make_room()

    async def recover(self, builds: Path) -> None:
        """See BuildManager.recover."""
        await self._host.isolation.recover()
        for left in builds.iterdir():
            try:
                await self._host.isolation.remove(left)
            except OSError as exc:  # It costs space, and the next start tries again.
                _log.warn("{left}, of an earlier build, cannot be removed: {error}", left=left, error=exc)


async def _run(build: Building, step: Step) -> BuildResult | None:
    """Run a stage. For whatever reason it seems to fail, a full disk explains it better."""
    try:
        result = await step(build)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return build.disk_is_full()
    if result is None or result.status is BuildStatus.OK:
        return result
    return build.disk_is_full() if build.host.disk(build.request.directory).is_full else result


def _package_builder(build: Building) -> PackageBuilder:
    """The one that the build asks for, else the daemon's."""
    return _PACKAGE_BUILDERS[build.plan.arguments.package_builder or build.host.config.package_builder]


async def _build(build: Building) -> BuildResult | None:
    """Have the package built, by the package builder that was asked for."""
    build.root.put(CURRENTLY_BUILDING, currently_building(build.plan))
    try:
        verdict = await _package_builder(build).build(build)
    except LimitReached as exc:
        return build.stopped(exc.ended)
    if verdict.status is BuildStatus.OK:
        return None
    if verdict.status is not BuildStatus.PACKAGEFAIL and (damage := await dependencies.look_for_damage(build)):
        return damage
    return build.end(verdict.status, verdict.reason)


async def _gather(build: Building) -> BuildResult:
    """Take the files that the .changes names, each checked against it, and leave everything else."""
    try:
        files = await build.host.in_thread(_package_builder(build).results, build)
    except ControlError as exc:  # The package has written what it likes, until it was ended.
        why = f"the results of the build cannot be used: {exc}"
        return build.end(BuildStatus.PACKAGEFAIL, why, cause=Cause.PACKAGING)
    return BuildResult(BuildStatus.OK, "built", files)
