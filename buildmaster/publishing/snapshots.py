"""Archives as they were at a time: a folder that is an archive of its own, of hard links.

So a snapshot costs names, and no content but what has left the archive since. Neither publications nor the pool's
sweeping matter to it.
"""

import calendar
import contextlib
import os
import re
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from buildmaster.publishing import files
from buildmaster.publishing.generation import BY_HASH, RELEASES
from buildmaster.publishing.tree import STATE, SuiteTree

_NAME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_FORMAT: Final = "%Y%m%dT%H%M%SZ"


def name_at(moment: float) -> str:
    """What a snapshot of a moment (Unix time) is called."""
    return time.strftime(_FORMAT, time.gmtime(moment))


def on_disk(archive: Path) -> dict[str, float]:
    """The snapshots that there are of an archive, by name, and when they were taken."""
    there = {}
    for name in filter(_NAME.fullmatch, files.names(archive / "snapshot")):  # Others are somebody else's.
        with contextlib.suppress(ValueError):  # No day has 25 hours.
            there[name] = float(calendar.timegm(time.strptime(name, _FORMAT)))
    return there


def take_snapshot(archive: Path, name: str) -> None:
    """Keep all suites of an archive as they are now, and the pool's files, below snapshot/NAME.

    There is all of it or nothing; one that exists is left as it is. Nobody publishes meanwhile.

    :param name: 20261122T120000Z
    :raises ValueError: the name is none.
    :raises TreeDamaged: what was kept of a suite is.
    :raises OSError: the disk is full or broken; nothing is left that anybody sees.
    """
    target, beside = _places(archive, name)
    if target.exists():
        return
    with ExitStack() as turns:
        suites = sorted(files.names(archive / STATE / "suites"))
        turns.enter_context(files.locked(archive / STATE / "snapshots.lock"))
        for suite in suites:
            turns.enter_context(files.locked(archive / STATE / "suites" / suite / "lock", shared=True))
        turns.enter_context(files.locked(archive / STATE / "pool.lock", shared=True))
        shutil.rmtree(beside.parent, ignore_errors=True)  # Of one who died.
        beside.mkdir(parents=True)
        for suite in suites:
            _link_suite(archive, suite, beside / "dists" / suite)
        if (archive / "pool").exists():
            _link_all(archive / "pool", beside / "pool")
        files.sync(
            [beside, *files.make(target.parent)]
        )  # With which the file system keeps all the names below, made before.
        beside.rename(target)
        files.sync([target.parent])


def remove_snapshot(archive: Path, name: str) -> None:
    """Remove one; harmless when it is not there.

    :raises ValueError: the name is none.
    """
    target, beside = _places(archive, name)
    with files.locked(archive / STATE / "snapshots.lock"):
        shutil.rmtree(beside.parent, ignore_errors=True)
        if target.exists():
            beside.parent.mkdir(parents=True, exist_ok=True)
            target.rename(beside)
            shutil.rmtree(beside)


def _places(archive: Path, name: str) -> tuple[Path, Path]:
    """Where a snapshot is, and where it is while it is made or removed."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a snapshot, as 20261122T120000Z is: {name[:80]!r}")
    return archive / "snapshot" / name, archive / STATE / "snapshots" / name


def _link_suite(archive: Path, suite: str, target: Path) -> None:
    """A suite, with its files by digest in folders of its own."""
    manifest = SuiteTree(archive, suite).manifest()
    if manifest is None:
        return
    dists = (archive / "dists" / suite).resolve()
    target.mkdir(parents=True)
    for name in RELEASES:
        os.link(dists / name, target / name)
    for index, found in manifest.indices.items():
        for suffix, each in found.files.items():
            path = target / (index.path + suffix)
            by_hash = path.parent / BY_HASH / "SHA256"
            by_hash.mkdir(parents=True, exist_ok=True)
            os.link(dists / (index.path + suffix), path)
            if not (by_hash / each.sha256).exists():
                os.link(path, by_hash / each.sha256)


def _link_all(folder: Path, target: Path) -> None:
    """All of a folder, of whatever depth."""
    for each, _, names in os.walk(folder):
        here = target / Path(each).relative_to(folder)
        here.mkdir(parents=True)
        for name in names:
            os.link(Path(each, name), here / name)
