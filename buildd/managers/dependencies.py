"""The build-dependencies of a build: installed once for each set of them and state of the archives."""

from buildd import apt, depwait
from buildd.isolation.layers import layer_note
from buildd.managers.base import BuildResult
from buildd.managers.building import Building, Kept
from buildd.managers.chroot import prepare
from buildd.managers.rootfiles import DEPENDENCY_DSC
from buildd.protocol import BuildStatus

_AVAILABLE_MAX = 64 << 20


async def install(build: Building) -> BuildResult | None:
    """Put the build-dependencies in place."""
    key = build.plan.installed_key(build.state)
    async with build.host.isolation.turn(key):
        installed = await build.find(key)
        if installed is None:
            if (ended := await _install(build)) is not None:
                return ended
            source, suite = build.plan.dsc.source, build.plan.arguments.suite
            description = f"build-dependencies of {source} in {suite}"
            await build.keep(key, layer_note("installed", build.state, description))
            return None
    build.request.log.say("The build-dependencies are there, from an earlier build.")
    build.open([installed, *build.below])
    return await prepare(build)


async def _install(build: Building) -> BuildResult | None:
    """Install them, or find out why that cannot be."""
    ended, said = await build.apt(apt.build_dep(DEPENDENCY_DSC))
    if ended.ok:
        return None
    if (stopped := build.stopped(ended)) is not None:
        return stopped
    if apt.had_no_space(said):
        return build.disk_is_full()
    explanation = Kept(None)
    simulated = await build.root.run(apt.build_dep(DEPENDENCY_DSC, simulate=True), network=False, output=explanation)
    if not simulated.ok:
        return build.stopped(simulated) or await _explain(build, explanation.text())
    if apt.did_not_answer(said):
        return build.end(BuildStatus.GIVENBACK, "an archive did not answer while build-dependencies were fetched")
    return build.end(BuildStatus.PACKAGEFAIL, f"a build-dependency could not be installed: {ended}")


async def _explain(build: Building, explanation: str) -> BuildResult:
    """Dep-wait, when something is missing from the archives; else the package asks for what cannot be."""
    in_thread = build.host.in_thread
    listed = Kept(None, _AVAILABLE_MAX)
    ended = await build.root.run(apt.DUMP_AVAILABLE, network=False, output=listed)
    if (stopped := build.stopped(ended)) is not None:
        return stopped
    if listed.cut:
        return build.end(
            BuildStatus.BUILDERFAIL, f"the archives have more packages than fit into {_AVAILABLE_MAX} bytes"
        )
    try:
        available = await in_thread(depwait.parse_available, listed.text())
    except depwait.IncompleteList:
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot's apt-cache did not list what the archives have: {ended}")
    missing = await in_thread(depwait.missing, build.plan.wanted, available)
    missing = missing or await in_thread(depwait.missing_further_down, explanation, available)
    if missing:
        return build.end(BuildStatus.DEPFAIL, f"nothing satisfies the build-dependencies {missing}", missing)
    return build.end(BuildStatus.PACKAGEFAIL, "the build-dependencies cannot be installed together")
