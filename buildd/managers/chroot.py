"""The chroot of a build, prepared and brought up to date: once for each state of its archives."""

import re

from buildd import apt, dpkg
from buildd.isolation import BrokenChroot, LimitReached
from buildd.isolation.layers import layer_note
from buildd.managers.base import BuildResult
from buildd.managers.building import Building, Kept
from buildd.managers.rootfiles import PREPARE, root_files
from buildd.protocol import BuildStatus

_IDS_MAX = 65533  # Below nobody's, and of those that a build has.
_PREPARED = re.compile(r"([a-z0-9-]+) ([0-9]{1,5}):([0-9]{1,5})\n", re.ASCII)


async def unpack(build: Building) -> BuildResult | None:
    """Unpack the chroot, unless it was before, and open a fresh root on it."""
    try:
        await build.unpack()
    except BrokenChroot as exc:
        return build.end(BuildStatus.CHROOTFAIL, str(exc))
    except LimitReached as exc:
        return build.stopped(exc.ended)
    updated = await build.find(build.plan.updated_key)
    build.open([updated] if updated else [])
    return None


async def prepare(build: Building) -> BuildResult | None:
    """Put sources.list, keys, users and the like in place; see that the chroot works at all."""
    files = await build.host.in_thread(root_files, build.plan, build.host.config)
    said = Kept(None)
    arguments = ["sh", "-c", PREPARE, "prepare", "replace" if build.plan.arguments.archives else "keep"]
    ended = await build.root.run(arguments, network=False, stdin=files, output=said)
    if not ended.ok:
        return build.stopped(ended) or build.end(
            BuildStatus.CHROOTFAIL, f"the chroot is damaged: preparing it ended with {ended}"
        )
    if (found := _PREPARED.fullmatch(said.text())) is None:
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot is damaged: preparing it printed {said.text()[:80]!r}")
    architecture, uid, gid = found.groups()
    if architecture != build.plan.arguments.arch_tag:
        wanted = build.plan.arguments.arch_tag
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot is for {architecture[:80]!r}, the build for {wanted!r}")
    if not all(0 < int(number) <= _IDS_MAX for number in (uid, gid)):
        user = f"{dpkg.BUILD_USER} with uid {uid} and gid {gid}"
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot has a user {user}, which no build may have")
    build.user_ids = f"{int(uid)}:{int(gid)}"
    return None


async def update(build: Building) -> BuildResult | None:
    """Fetch the archives' package lists; a layer made of other lists than these has had its time."""
    if (ended := await _apt(build, apt.UPDATE, "the package lists could not be fetched")) is not None:
        return ended
    build.state = await _state_of_archives(build)
    if build.below and build.below[0].state != build.state:
        build.open([])
        return await prepare(build) or await update(build)
    return None


async def upgrade(build: Building) -> BuildResult | None:
    """Bring the chroot's packages up to date, once for each state of the archives."""
    if build.below:
        return None
    key = build.plan.updated_key
    async with build.host.isolation.turn(key):
        updated = await build.find(key)
        if updated is not None and updated.state == build.state:
            build.open([updated])
            return await prepare(build)
        if (ended := await _apt(build, apt.UPGRADE, "the chroot could not be brought up to date")) is not None:
            return ended
        description = f"{build.plan.arguments.suite} on chroot {build.request.chroot_sha1[:12]}"
        await build.keep(key, layer_note("updated", build.state, description))
    return None


async def _state_of_archives(build: Building) -> str:
    """A digest of all that apt knows of its archives."""
    said = Kept(None)
    ended = await build.root.run(apt.STATE, network=False, output=said)
    return said.text().strip() if ended.ok else f"unknown in {build.request.build_id}: {ended}"


async def _apt(build: Building, command: tuple[str, ...], failure: str) -> BuildResult | None:
    """Run apt on the chroot; a failure is an archive's that does not answer, or else the chroot's."""
    ended, said = await build.apt(command)
    if ended.ok:
        return None
    if (stopped := build.stopped(ended)) is not None:
        return stopped
    if apt.had_no_space(said):
        return build.disk_is_full()
    if apt.did_not_answer(said):
        return build.end(BuildStatus.GIVENBACK, f"{failure}: an archive did not answer")
    return build.end(BuildStatus.CHROOTFAIL, f"{failure}: {command[0]} ended with {ended}")
