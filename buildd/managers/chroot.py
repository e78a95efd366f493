"""The chroot of a build, prepared and brought up to date: a layer, made once for each state of its archives."""

import hashlib
import re
import secrets
import time
from dataclasses import asdict, replace

from buildd import apt, dpkg
from buildd.archives import TELL, TOLD_MAX, Changed, Snapshot, UnknownArchives, parse
from buildd.dpkg import BUILD_USER
from buildd.isolation import BrokenChroot, LimitReached
from buildd.isolation.layers import LayerKey, layer_key, layer_note
from buildd.managers import dependencies
from buildd.managers.base import BuildResult
from buildd.managers.building import Building, Kept, Prepared
from buildd.managers.rootfiles import PREPARE, root_files
from buildd.process import Exit
from buildd.protocol import BuildStatus
from buildd.reach import Reach, Refused, archive_urls

_IDS_MAX = 65533  # Below nobody's, and of those that a build has.
_PREPARED = re.compile(r"([a-z0-9-]+) ([0-9]{1,5}):([0-9]{1,5})\n", re.ASCII)


async def unpack(build: Building) -> BuildResult | None:
    """Unpack the chroot, unless it was before."""
    try:
        await build.unpack()
    except BrokenChroot as exc:
        return build.end(BuildStatus.CHROOTFAIL, str(exc))
    except LimitReached as exc:
        return build.stopped(exc.ended)
    return None


async def bring_up_to_date(build: Building) -> BuildResult | None:
    """Have a root on the chroot as a dist-upgrade leaves it now; what was done for these archives is used again."""
    files = await build.host.in_thread(root_files, build.plan)
    foreign = dpkg.cross_for(build.plan.arguments)
    made_by = (PREPARE, *apt.UPDATE, *apt.UPGRADE)  # Another version of this program may do it otherwise.
    key = layer_key("prepared", build.request.chroot_sha1, hashlib.sha256(files).hexdigest(), foreign, *made_by)
    known, changed = await _look(build, key)
    if changed is not Changed.NO:
        async with build.host.isolation.turn(key):  # Only to make something: an archive may take seconds to answer.
            if _remembered(build, key) != known:  # Another build has just had its turn.
                known, changed = await _look(build, key)
            if changed is not Changed.NO:
                return await _renew(build, files, key, known, changed)
    build.request.log.say("The archives are as they were when the chroot was brought up to date.")
    return None


async def _look(build: Building, key: LayerKey) -> tuple[Prepared | None, Changed]:
    """What was made before, with the root on it, and what its archives say; None: there is nothing."""
    known = _remembered(build, key)
    layer = await build.find(known.layer_key) if known else None
    if known is None or layer is None:
        return None, Changed.UNKNOWN
    build.prepared, build.archives = known, known.archives
    build.open(layer)
    snapshot = Snapshot.from_json(known.snapshot)
    return known, await build.host.changed(snapshot, build.plan.auth_conf, time.time())


async def _renew(
    build: Building, files: bytes, key: LayerKey, known: Prepared | None, changed: Changed
) -> BuildResult | None:
    """Make it anew, unless apt finds that nothing has changed in archives that do not say."""
    if known is not None and changed is Changed.UNKNOWN and Snapshot.from_json(known.snapshot).is_dated:
        if (ended := await _update(build)) is not None:
            return ended
        state, snapshot = await _archives_now(build)
        if state == known.state:
            build.host.memos.keep(key, asdict(replace(known, snapshot=snapshot)))
            build.open(*build.below)
            return None
    # Not upon what there is: apt takes nothing older than what it has, though the archive may have gone back.
    build.open()
    return await _make(build, files, key)


async def _make(build: Building, files: bytes, key: LayerKey) -> BuildResult | None:
    """Prepare, update, upgrade, from the chroot as it was unpacked; keep that, and remember it under this key."""
    dependencies.prepare_question(build)
    user_ids = await _prepare(build, files)
    if isinstance(user_ids, BuildResult):
        return user_ids
    archives = list(archive_urls(build.plan.sources)) or await _own_archives(build)
    if isinstance(archives, BuildResult):
        return archives
    build.archives = archives
    if (ended := await _update(build)) is not None:
        return ended
    state, snapshot = await _archives_now(build)
    build.prepared = Prepared(layer_key("updated", key, state), state, snapshot, build.archives, user_ids)
    if (layer := await build.find(build.prepared.layer_key)) is not None:
        build.open(layer)  # Only what it was for had been forgotten.
    else:
        if (ended := await _upgrade(build)) is not None:
            return ended
        note = layer_note("updated", state, f"{build.plan.arguments.suite}, of {build.request.chroot_sha1}")
        await build.keep(build.prepared.layer_key, note)
    build.host.memos.keep(key, asdict(build.prepared))
    return None


def _remembered(build: Building, key: LayerKey) -> Prepared | None:
    try:
        return Prepared(**build.host.memos.find(key) or {})  # type: ignore[arg-type]
    except TypeError:
        return None


async def _prepare(build: Building, files: bytes) -> BuildResult | str:
    """Put sources.list, keys, users and the like in place; see that the chroot works at all.

    :returns: "uid:gid" of the build user, when all is well.
    """
    build.begin("prepare chroot")
    said = Kept(None)
    arguments = ["sh", "-c", PREPARE, "prepare", "replace" if build.plan.arguments.archives else "keep"]
    arguments.append(dpkg.cross_for(build.plan.arguments))
    ended = await build.root.run(arguments, network=None, stdin=files, output=said)
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
        user = f"{BUILD_USER} with uid {uid} and gid {gid}"
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot has a user {user}, which no build may have")
    return f"{int(uid)}:{int(gid)}"


async def _own_archives(build: Building) -> list[str] | BuildResult:
    """The URLs of the archives that the chroot itself names."""
    said = Kept(None)
    ended = await build.root.run(apt.ARCHIVES, network=None, output=said)
    if (stopped := build.stopped(ended)) is not None:
        return stopped
    urls, why = apt.archive_roots(said.text()), "" if ended.ok else str(ended)
    try:
        Reach.of(urls)
    except Refused as exc:
        why = str(exc)
    if why:
        return build.end(BuildStatus.CHROOTFAIL, f"the chroot's own sources of packages cannot be used: {why}")
    return urls


async def _update(build: Building) -> BuildResult | None:
    """Fetch the archives' package lists."""
    build.begin("update package lists")
    ended, said = await build.apt(apt.UPDATE)
    return _apt_failed(build, ended, said, "the package lists could not be fetched")


async def _upgrade(build: Building) -> BuildResult | None:
    """Bring the chroot's packages up to date; as nothing is to be done mostly, ask meanwhile what is asked next."""
    build.begin("upgrade chroot")
    ended, said = await build.apt(apt.UPGRADE, dependencies.question(build))
    failed = _apt_failed(build, ended, said, "the chroot could not be brought up to date")
    if failed is None:
        dependencies.keep_answer(build, said)
    return failed


async def _archives_now(build: Building) -> tuple[str, str]:
    """The state of the archives whose lists apt has just fetched, and what to ask them by, the next time."""
    told = Kept(None, TOLD_MAX)
    ended = await build.root.run(TELL, network=None, output=told)
    snapshot = Snapshot()
    try:
        if ended.ok:
            snapshot = await build.host.in_thread(parse, told.text(), Reach.of(build.archives))
    except (UnknownArchives, Refused) as exc:
        build.request.log.say(f"Each build is going to fetch the package lists: {exc}")
    # Hashing the release files is as good as hashing all that they have the digests of, and 0.2 s faster.
    return snapshot.state or await _said(build, apt.STATE), snapshot.to_json()


async def _said(build: Building, command: tuple[str, ...]) -> str:
    """What a command in the root wrote, without network; when it failed, something that nothing is equal to."""
    said = Kept(None)
    ended = await build.root.run(command, network=None, output=said)
    return said.text().strip() if ended.ok else f"unknown {secrets.token_hex(8)}: {ended}"


def _apt_failed(build: Building, ended: Exit, said: str, failure: str) -> BuildResult | None:
    """What it means when apt failed: an archive does not answer, or else it is the chroot's. None: it did not."""
    if ended.ok and not apt.ignored_failures(said):
        return None
    return build.apt_failed(ended, said, f"{failure}: an archive did not answer") or build.end(
        BuildStatus.CHROOTFAIL, f"{failure}: apt-get ended with {ended}"
    )
