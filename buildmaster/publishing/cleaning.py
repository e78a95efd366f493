"""Files leave an archive's pool when no index has named them for so long that no client asks for them any more.

What a package had is retired as soon as it is looked at after it has left, and removed when the time is over. Nothing
of that is kept but in the pool and in the rows: whoever dies anywhere does it again.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from buildmaster import attesting, repositories, retention
from buildmaster.goods import Goods
from buildmaster.publishing.pool import Pool
from buildmaster.publishing.publication import Press

GRACE_S = 86400.0  # Clients should have updated once in that time.


@dataclass(frozen=True)
class Cleaned:
    """What was done."""

    files: tuple[str, ...]  # That were removed.
    packages: int  # That have left for good.
    forgotten: int = 0  # Packages that the farm has no more.


def archives(press: Press) -> list[int]:
    """The archives that have something to clean, by their ids. Blocks."""
    with press.farm.reading() as connection:
        due = set(retention.archives(connection, press.now()))
        every = repositories.every(connection)
    return sorted(due.union(each.archive_id for each in every if Pool(press.directory / each.words).is_leaving()))


def clean(press: Press, archive_id: int, grace_s: float = GRACE_S, forget_s: float | None = None) -> Cleaned:
    """Remove the files that nobody needs from an archive's pool, and forget the packages that left it long ago: of
    these nothing refers to the store's files any more. Blocks.

    :param grace_s: so long after they have left; longer, where indices are valid for longer.
    :param forget_s: so long after they have left; None: as the archive says.
    :raises Busy: it is being published.
    :raises RepositoryRefused: we do not publish it.
    :raises OSError: the disk is broken.
    """
    now = press.now()
    with press.turn(archive_id) as folder:  # What is placed meanwhile would be retired.
        cleaned = _clean(press, archive_id, folder, now, grace_s)
    return replace(cleaned, forgotten=_Forgetting(press, archive_id, now, forget_s).run())


@dataclass(frozen=True)
class _Forgetting:
    """Forgets what left an archive long ago. Statements of where packages come from are made before these go, as they
    are made of these."""

    press: Press
    archive_id: int
    now: float
    forget_s: float | None
    stated: dict[int, bool] = field(default_factory=dict)  # By builds.

    def run(self) -> int:
        """Binary packages first, then the sources of which there is none left. Returns how many."""
        terms = self.archive_id, self.now, self.forget_s
        farm = self.press.farm
        with farm.reading() as connection:
            ids = retention.forgettable(connection, *terms)
            builds = retention.builds_of(connection, ids)
        binaries = [each for each in ids if each not in builds or self._is_stated(builds[each])]
        forgotten = sum(farm.write(retention.forget, each, *terms[1:]) for each in binaries)
        with farm.reading() as connection:
            made = {
                each: retention.builds_from(connection, each)
                for each in retention.forgettable_sources(connection, *terms)
            }
        sources = [each for each, ids in made.items() if all(map(self._is_stated, ids))]
        return forgotten + sum(farm.write(retention.forget_source, each, *terms[1:]) for each in sources)

    def _is_stated(self, build_id: int) -> bool:
        if build_id not in self.stated:
            self.stated[build_id] = _is_stated(self.press, build_id)
        return self.stated[build_id]


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
