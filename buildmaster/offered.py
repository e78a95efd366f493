"""Archives that the farm publishes, as readers see them, and what builds take packages from; as queries."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, literal, select, union_all

from buildmaster import distributions, pockets, rows
from buildmaster.apt_sources import Sources, Suite, joined
from buildmaster.pockets import suite_name
from buildmaster.publications import BESIDE
from buildmaster.scoring import Pocket
from buildmaster.tables import (
    archive,
    archive_dependency,
    archive_key,
    distribution,
    repository,
    series,
    suite,
)


@dataclass(frozen=True)
class Published:
    """An archive that the farm publishes."""

    id: int
    private: bool


def every(connection: Connection) -> dict[tuple[str, str], Published]:
    """The archives that the farm publishes, by names of distribution and archive."""
    return {(row.distribution, row.name): Published(row.id, row.private) for row in connection.execute(_EVERY)}


def suites(connection: Connection, archive_id: int) -> list[Suite]:
    """What an archive offers to apt: suites that were published, by name."""
    return [found for _, found in _suites(connection, [archive_id])]


def depend(connection: Connection, archive_id: int, on: int) -> None:
    """Let builds of an archive take packages from another one."""
    rows.add(connection, archive_dependency, {"archive_id": archive_id, "depends_on_id": on})


def depend_no_longer(connection: Connection, archive_id: int, on: int) -> None:
    """Let them do so no longer."""
    here = (archive_dependency.c.archive_id == archive_id, archive_dependency.c.depends_on_id == on)
    connection.execute(archive_dependency.delete().where(*here))


def dependencies(connection: Connection, archive_id: int) -> list[str]:
    """The archives that an archive's builds take packages from beside its own, as DISTRIBUTION/NAME."""
    found = connection.execute(_DEPENDED, {"archive": archive_id})
    return [f"{row.distribution}/{row.name}" for row in found]


def lenders(connection: Connection, archive_id: int) -> list[Any]:
    """The archives that an archive's builds take packages from, as rows, itself first: those that it depends on, and,
    where it has no lines of its own, the distribution's primary one."""
    found = connection.execute(_LENDERS, {"this": archive_id, "primary": distributions.PRIMARY}).all()
    own_lines = any(row.apt_lines for row in found if row.rank == _SELF)
    wanted = sorted((row for row in found if not own_lines or row.rank != _PRIMARY), key=lambda row: row.rank)
    return list({row.id: row for row in reversed(wanted)}.values())[::-1]


def sources(connection: Connection, archive_id: int, series_name: str, pocket: Pocket) -> Sources:
    """What builds of an archive take packages from; the chroot's own lines are not counted: see Sources.complete().

    Of each of its lenders: where we publish it, the suites of the pocket and of those that this one builds on; the
    lines of what it has elsewhere; and its keys.
    """
    archives = lenders(connection, archive_id)
    ours = [row.id for row in archives if row.published is not None]
    offered = _suites(connection, ours) if ours else []
    names = [suite_name(series_name, each) for each in pockets.path(pocket)]
    keys = _keys(connection, ours) if offered else {}
    return joined(
        Sources(
            tuple(suite for name in names for owner, suite in offered if owner == row.id and suite.name == name),
            tuple(row.apt_lines.replace("SERIES", series_name).splitlines()),
            (*row.trusted_keys.splitlines(), *keys.get(row.id, ())),
        )
        for row in archives
    )


def _suites(connection: Connection, archive_ids: Sequence[int]) -> list[tuple[int, Suite]]:
    """The suites of some archives that were published, with the archive of each, by name."""
    found = []
    for row in connection.execute(_SUITES, {"these": archive_ids}):
        name = suite_name(row.series, Pocket(row.pocket))
        components = tuple(each for each in row.components.split() if not each.endswith(BESIDE))
        found.append((row.archive_id, Suite(f"{row.distribution}/{row.archive}", name, components, row.private)))
    return sorted(found, key=lambda one: (one[0], one[1].name))


def _keys(connection: Connection, archive_ids: Sequence[int]) -> dict[int, list[str]]:
    """The keys that sign some archives, or will, as base64 of their certificates; not those that do so no more, which
    may have been replaced since others have them."""
    keys: dict[int, list[str]] = {}
    for row in connection.execute(_KEYS, {"these": archive_ids, "now": time.time()}):
        keys.setdefault(row.archive_id, []).append(base64.b64encode(row.certificate.encode()).decode())
    return keys


# Made once: to make a statement takes longer than to execute it.
_IN_DISTRIBUTION = archive.join(distribution, distribution.c.id == archive.c.distribution_id)
_EVERY = select(archive.c.id, archive.c.name, archive.c.private, distribution.c.name.label("distribution")).select_from(
    repository.join(_IN_DISTRIBUTION, archive.c.id == repository.c.archive_id)
)
_DEPENDED = (
    select(archive.c.name, distribution.c.name.label("distribution"))
    .select_from(_IN_DISTRIBUTION.join(archive_dependency, archive_dependency.c.depends_on_id == archive.c.id))
    .where(archive_dependency.c.archive_id == bindparam("archive"))
    .order_by(archive_dependency.c.id)
)
_SELF, _LENDS, _PRIMARY = range(3)


def _lender(rank: int, *conditions: Any, more: Any = None) -> Any:
    joined = archive.outerjoin(repository, repository.c.archive_id == archive.c.id)
    columns = (archive.c.id, archive.c.apt_lines, archive.c.trusted_keys, repository.c.archive_id.label("published"))
    tables = joined if more is None else joined.join(more, more.c.depends_on_id == archive.c.id)
    return select(*columns, literal(rank).label("rank")).select_from(tables).where(*conditions)


_OWN_DISTRIBUTION = select(archive.c.distribution_id).where(archive.c.id == bindparam("this")).scalar_subquery()
_LENDERS = union_all(
    _lender(_SELF, archive.c.id == bindparam("this")),
    _lender(_LENDS, archive_dependency.c.archive_id == bindparam("this"), more=archive_dependency),
    _lender(_PRIMARY, archive.c.distribution_id == _OWN_DISTRIBUTION, archive.c.name == bindparam("primary")),
)
_SUITES = (
    select(
        suite.c.archive_id,
        suite.c.pocket,
        suite.c.components,
        series.c.name.label("series"),
        archive.c.name.label("archive"),
        archive.c.private,
        distribution.c.name.label("distribution"),
    )
    .select_from(
        suite.join(series, series.c.id == suite.c.series_id).join(_IN_DISTRIBUTION, archive.c.id == suite.c.archive_id)
    )
    .where(suite.c.archive_id.in_(bindparam("these", expanding=True)), suite.c.generation > 0)
)
_KEYS = (
    select(archive_key.c.archive_id, archive_key.c.certificate)
    .where(
        archive_key.c.archive_id.in_(bindparam("these", expanding=True)),
        archive_key.c.signs_until.is_(None) | (archive_key.c.signs_until > bindparam("now")),
    )
    .order_by(archive_key.c.id)
)
