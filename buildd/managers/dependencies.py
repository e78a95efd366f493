"""The build-dependencies of a build: a layer, made once for each set of packages on a chroot brought up to date."""

from collections.abc import Sequence

from buildd import apt, depwait, dpkg
from buildd.isolation.layers import LayerKey, layer_key, layer_note
from buildd.managers.base import BuildResult
from buildd.managers.building import Building, Kept
from buildd.managers.rootfiles import DEPENDENCY_DSC, FIT
from buildd.protocol import BuildStatus, Cause
from buildd.relations import show_relations

_AVAILABLE_MAX = 64 << 20
_RESOLVED_MAX = 16 << 20  # A package takes 250 bytes.


async def install(build: Building) -> BuildResult | None:
    """Have a root with the build-dependencies in place."""
    packages = await _resolve(build)
    if isinstance(packages, BuildResult):
        return packages
    # Packages that must go are not among those that come.
    key = layer_key("installed", build.prepared.layer_key, *packages, show_relations(build.plan.unwanted))
    async with build.host.isolation.turn(key):
        if (layer := await build.find(key)) is not None:
            build.request.log.say(f"The build-dependencies, {len(packages)} packages, are there from an earlier build.")
            build.open(layer, *build.below)
            return None
        if (ended := await _install(build)) is not None:
            return ended
        description = f"{len(packages)} packages, first for {build.plan.dsc.source}"
        await build.keep(key, layer_note("installed", build.prepared.state, description))
    return None


async def look_for_damage(build: Building) -> BuildResult | None:
    """See whether a chroot that no package could be built in was fit before its build-dependencies came, and only then.

    Their scripts are root there, and whoever wrote them must not have builders take themselves for broken.
    """
    fit = []
    for when, layers in (("without", build.below[1:]), ("with", build.below)):
        build.open(*layers)
        said = Kept(None)
        ended = await build.root.run(["sh", "-c", FIT, f"{when} build-dependencies"], network=None, output=said)
        if (stopped := build.stopped(ended)) is not None:
            return stopped
        fit.append(said.text() == f"{build.plan.arguments.arch_tag} {build.user_ids}\n")
    if fit != [True, False]:
        return None
    why = "a build-dependency has made the chroot unfit for any build"
    return build.end(BuildStatus.PACKAGEFAIL, why, cause=Cause.DEPENDENCY)


def prepare_question(build: Building) -> None:
    """Have in the root, in which nothing has run yet, what `question` needs."""
    build.root.put(DEPENDENCY_DSC, build.plan.dependency_dsc.encode())


def question(build: Building) -> tuple[str, ...]:
    """The command that says what would be installed."""
    return _build_dep(build, resolve=True)


def keep_answer(build: Building, said: str) -> None:
    """Remember what apt has said beside an upgrade, if it did; the root is to be a layer."""
    build.root.take_back(DEPENDENCY_DSC)
    if (packages := apt.answered_beside(said)) is not None:
        build.host.memos.keep(_asked(build), {"packages": packages})


def _asked(build: Building) -> LayerKey:
    """Under which the answer is remembered."""
    relations = map(show_relations, (build.plan.wanted, build.plan.unwanted))
    return layer_key("asked", build.prepared.layer_key, *relations)


async def _resolve(build: Building) -> Sequence[str] | BuildResult:
    """What apt would install now, each as NAME_VERSION_ARCHITECTURE; found out once for each set of relations."""
    asked = _asked(build)
    remembered = (build.host.memos.find(asked) or {}).get("packages")
    if isinstance(remembered, list):
        return [str(package) for package in remembered]
    prepare_question(build)
    said = Kept(build.request.log.write, _RESOLVED_MAX)
    ended = await build.root.run(question(build), network=None, output=said)
    if not ended.ok:
        return build.stopped(ended) or await _explain(build, said.text())
    if said.cut:
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot's apt-get wrote more than {_RESOLVED_MAX} bytes")
    try:
        packages = await build.host.in_thread(apt.resolved, said.text())
    except ValueError as exc:
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot's apt-get cannot be understood: {exc}")
    build.host.memos.keep(asked, {"packages": packages})
    return packages


async def _install(build: Building) -> BuildResult | None:
    """Install them in the root, or find out why that cannot be."""
    build.open(*build.below)  # In which nothing has run, as in the one where apt was asked what to install.
    prepare_question(build)
    ended, said = await build.apt(_build_dep(build))
    if ended.ok:
        build.root.take_back(DEPENDENCY_DSC)
        return None
    why = f"a build-dependency could not be installed: {ended}"
    unanswered = "an archive did not answer while build-dependencies were fetched"
    return build.apt_failed(ended, said, unanswered) or build.end(BuildStatus.PACKAGEFAIL, why, cause=Cause.DEPENDENCY)


def _build_dep(build: Building, *, resolve: bool = False) -> tuple[str, ...]:
    cross_for = dpkg.cross_for(build.plan.arguments)
    return apt.build_dep(f"/{DEPENDENCY_DSC}", cross_for=cross_for, resolve=resolve)


async def _explain(build: Building, explanation: str) -> BuildResult:
    """Dep-wait, when something is missing from the archives; else the package asks for what cannot be."""
    in_thread, arguments = build.host.in_thread, build.plan.arguments
    listed = Kept(None, _AVAILABLE_MAX)
    ended = await build.root.run(apt.DUMP_AVAILABLE, network=None, output=listed)
    if (stopped := build.stopped(ended)) is not None:
        return stopped
    if listed.cut:
        return build.end(
            BuildStatus.BUILDERFAIL, f"the archives have more packages than fit into {_AVAILABLE_MAX} bytes"
        )
    names = depwait.asked_for(build.plan.wanted, explanation)
    try:
        available = await in_thread(depwait.parse_available, listed.text(), arguments.arch_tag, names)
    except depwait.IncompleteList:
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot's apt-cache did not list what the archives have: {ended}")
    missing = await in_thread(depwait.missing, build.plan.wanted, available, dpkg.host_architecture(arguments))
    missing = missing or await in_thread(depwait.missing_further_down, explanation, available)
    if missing:
        whose = f" of a build for {cross_for}" if (cross_for := dpkg.cross_for(arguments)) else ""
        return build.end(BuildStatus.DEPFAIL, f"nothing satisfies the build-dependencies {missing}{whose}", missing)
    why = "the build-dependencies cannot be installed together"
    return build.end(BuildStatus.PACKAGEFAIL, why, cause=Cause.DEPENDENCY)
