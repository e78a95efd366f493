"""Builds that repeat others, as queries: put into the queue, and compared with what they repeat.

Such a build is a row like any other, so that it is dispatched, followed and recovered as all are. It comes last, is
superseded by nothing, nobody is told when it fails, and its results are published nowhere.
"""

from dataclasses import dataclass, replace

from sqlalchemy import Connection, select, update

from buildd.control import Buildinfo
from buildmaster import (
    attesting,
    builds,
    chroots,
    distributions,
    giving,
    listings,
    offered,
    repeating,
    retention,
    snapshots,
)
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.repeating import Circumstances, Differs
from buildmaster.scoring import Pocket
from buildmaster.tables import build, build_queue, builder, source
from buildmaster.wishes import Wishes

SCORE = -1_000_000  # Whatever else waits comes first.


class CannotRepeat(ValueError):
    """A build cannot be repeated; the message says why."""


@dataclass(frozen=True)
class How:
    """How a build is to be repeated."""

    builder: str | None = None  # Whose next build it is to be; None: anybody's.
    # Of sources.list, in place of those of its archive as that is now; whether build-dependencies are there is for its
    # builder to tell then.
    lines: tuple[str, ...] = ()
    newest: bool = False  # Packages in the newest versions that there are, not those of the first time.


USUAL = How()


@dataclass(frozen=True)
class Outcome:
    """What came of repeating a build."""

    original: int
    reproduction: int
    same: list[str]  # Names of files.
    differing: list[Differs]
    otherwise: list[str]  # As repeating.otherwise() has it.

    @property
    def is_reproduced(self) -> bool:
        """Whether all that was built is the same, and there is something."""
        return bool(self.same) and not self.differing


def order(farm: Farm, build_id: int, now: float, how: How = USUAL) -> int:
    """Put a build into the queue that repeats another one: the same source, as it was to be done then, in the same
    chroot if the store still has it, with our archives as they were if there are such snapshots, the packages that its
    .buildinfo names in those versions where they are to be had, and preferably on another builder. Blocks. Returns its
    id.

    :raises NoSuchBuild: there is none.
    :raises CannotRepeat: it has not ended well, or repeats another one itself.
    :raises SourceForgotten: there is nothing left to build it from.
    :raises NoSuchBuilder: there is none of this name.
    :raises GiveRefused: that builder cannot have it.
    """
    buildinfo = attesting.buildinfo_of(farm, build_id)
    return farm.write(_order, build_id, buildinfo, now, how)


def of(connection: Connection, build_id: int) -> list[int]:
    """The builds that repeat a build."""
    query = select(build.c.id).where(build.c.reproduces_id == build_id).order_by(build.c.id)
    return list(connection.execute(query).scalars())


def others(connection: Connection, build_id: int) -> list[str]:
    """The builders in service that could have a build, as far as their kind goes, but for the one that had it."""
    original = listings.one_build(connection, build_id)
    assert original is not None
    query = select(builder.c.name).where(
        builder.c.enabled, builder.c.architecture == original.architecture, builder.c.name != (original.builder or "")
    )
    return list(connection.execute(query.order_by(builder.c.name)).scalars())


def outcome(farm: Farm, reproduction_id: int) -> Outcome:
    """What came of a build that repeats another, and has ended well. Blocks."""
    with farm.reading() as connection:
        reproduction = listings.one_build(connection, reproduction_id)
        assert reproduction is not None
        assert reproduction.reproduces is not None
        original = listings.one_build(connection, reproduction.reproduces)
        assert original is not None
        was, now = (attesting.made_by(connection, each.id) for each in (original, reproduction))
    same, differing = repeating.compare(was, now)
    before, after = (
        Circumstances(each.builder or "", each.chroot_sha256, attesting.buildinfo_of(farm, each.id))
        for each in (original, reproduction)
    )
    return Outcome(original.id, reproduction.id, same, differing, list(repeating.otherwise(before, after)))


def _order(connection: Connection, build_id: int, buildinfo: Buildinfo | None, now: float, how: How) -> int:
    row = builds.find(connection, build_id)
    if row.reproduces_id is not None:
        raise CannotRepeat(f"build {build_id} repeats build {row.reproduces_id}: repeat that one")
    if row.state != BuildState.BUILT:
        raise CannotRepeat(f"build {build_id} is {row.state}: what is built can be repeated")
    chroots.hold(connection, row.series_architecture_id)  # In the order in which others do.
    retention.hold_source(connection, row.source_id)
    kept = {} if how.lines else _snapshots(connection, row)
    wishes = replace(
        Wishes.from_text(row.wishes),
        source_date_epoch=buildinfo.source_date_epoch if buildinfo else None,
        versions=repeating.versions(buildinfo) if buildinfo and not how.newest else (),
        archive_lines=how.lines,
        snapshots=kept,
    )
    ordered = builds.add(
        connection,
        row.source_id,
        row.series_architecture_id,
        now,
        arch_indep=row.arch_indep,
        needs=row.tags,
        wishes=wishes,
        repeats=builds.Repetition(build_id, row.chroot_sha256, SCORE),
    )
    # As if it had lost it: so the build is left to others while there is one that could have it at once.
    entry = update(build_queue).where(build_queue.c.build_id == ordered)
    looked = {"looked_at": now} if how.lines or kept else {}
    connection.execute(entry.values(lost_by_id=row.builder_id, **looked))
    if how.builder is not None:
        giving.give(connection, ordered, how.builder)
    return ordered


def _snapshots(connection: Connection, row: builds.AnyRow) -> dict[str, str]:
    """Those of the archives that a build takes packages from which have what these had when it began: names by
    DISTRIBUTION/NAME."""
    archive_id = connection.execute(select(source.c.archive_id).where(source.c.id == row.source_id)).scalar_one()
    usual = offered.sources(connection, archive_id, row.series_name, Pocket(row.pocket))
    found = {}
    for name in {suite.archive for suite in usual.suites}:
        lender = distributions.find_archive(connection, *name.split("/"))
        if (kept := snapshots.as_at(connection, lender, row.started_at)) is not None:
            found[name] = kept.name
    return found
