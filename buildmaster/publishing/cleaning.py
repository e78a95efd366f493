"""Files leave an archive's pool when no index has named them for so long that no client asks for them any more.

What a package had is retired as soon as it is looked at after it has left, and removed when the time is over. Nothing
of that is kept but in the pool and in the rows: whoever dies anywhere does it again.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from buildmaster import attesting, repositories, retention
from buildmaster.goods import Goods
from buildmaster.publishing.pool import Pool
from buildmaster.publishing.publication import Press

GRACE_S = 86400.0  # Clients should have updated once in that time.
FORGET_S = 30 * 86400.0  # So long what left can be looked at, and had again.


@dataclass(frozen=True)
class Cleaned:
    """What was done."""

    files: tuple[str, ...]  # That were removed.
    packages: int  # That have left for good.
    forgotten: int = 0  # Packages that the farm has no more.


def archives(press: Press) -> list[int]:
    """The archives that have something to clean, by their ids. Blocks."""
    with press.farm.reading() as connection:
        due = set(retention.archives(connection, press.now() - FORGET_S))
        every = repositories.every(connection)
    return sorted(due.union(each.archive_id for each in every if Pool(press.directory / each.words).is_leaving()))


def clean(press: Press, archive_id: int, grace_s: float = GRACE_S, forget_s: float = FORGET_S) -> Cleaned:
    """Remove the files that nobody needs from an archive's pool, and forget the packages that left it long ago: of
    these nothing refers to the store's files any more. Blocks.

    :param grace_s: so long after they have left; longer, where indices are valid for longer.
    :param forget_s: likewise.
    :raises Busy: it is being published.
    :raises RepositoryRefused: we do not publish it.
    :raises OSError: the disk is broken.
    """
    now = press.now()
    with press.turn(archive_id) as folder:  # What is placed meanwhile would be retired.
        cleaned = _clean(press, archive_id, folder, now, grace_s)
    return replace(cleaned, forgotten=_forget(press, archive_id, now - forget_s))


def _forget(press: Press, archive_id: int, before: float) -> int:
    """Statements of where packages come from are made before these go, as they are made of these."""
    with press.farm.reading() as connection:
        ids = retention.forgettable(connection, archive_id, before)
        builds = retention.builds_of(connection, ids)
    stated: dict[int, bool] = {}
    for build_id in builds.values():
        if build_id not in stated:
            stated[build_id] = _is_stated(press, build_id)
    forgotten = [each for each in ids if each not in builds or stated[builds[each]]]
    for binary_id in forgotten:
        press.farm.write(retention.forget, binary_id)
    return len(forgotten)


def _is_stated(press: Press, build_id: int) -> bool:
    """Whether there is a statement about a build, or nothing to state."""
    try:
        attesting.ensure(press.farm, build_id)
    except attesting.NoKey:
        return False
    except attesting.NothingToState:
        return True
    return True


def _clean(press: Press, archive_id: int, folder: Path, now: float, grace_s: float) -> Cleaned:
    with press.farm.reading() as connection:
        repository = repositories.get(connection, archive_id)
        left = retention.gone(connection, archive_id)
        used = retention.in_use(connection, archive_id, {each.publication.source for each in left})
    before = now - max(grace_s, repository.valid_s)
    pool = Pool(folder)
    pool.retire(sorted({path for each in left for path in each.files} - used), now)
    files = pool.sweep(before)
    over = [each.publication.id for each in left if _is_over(each, before, used, folder)]
    press.farm.write(retention.removed, over)
    return Cleaned(tuple(files), len(over))


def _is_over(goods: Goods, before: float, used: set[str], folder: Path) -> bool:
    """Whether nothing of a package is there any more that is not others' as well."""
    left = goods.publication.gone_at or before
    return left <= before and not any((folder / path).exists() for path in goods.files if path not in used)
