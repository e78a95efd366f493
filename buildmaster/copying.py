"""Packages that go from suite to suite as they are, and out of suites: copied, promoted, deleted, as queries.

What is meant is always a version: its source, and all that was built of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, select

from buildmaster import builds, distributions, entering, publications, repositories
from buildmaster.lifecycle import ACTIVE, PENDING, BuildState, Event
from buildmaster.pockets import suite_name
from buildmaster.publications import LISTED, WANTED, Publication, Suite
from buildmaster.scoring import Pocket
from buildmaster.tables import archive, binary, build, series, series_architecture, stored_file


class NotThere(LookupError):
    """There is no such package or suite; the message says what there is."""


class CannotCopy(ValueError):
    """Packages cannot be in that suite; the message says why."""


@dataclass(frozen=True)
class Moved:
    """A version that was copied, promoted or deleted."""

    source: str
    version: str
    packages: int  # That were not there before, or were: with the source.


def find_suite(connection: Connection, archive_id: int, name: str) -> Suite:
    """The suite of an archive that apt calls so, whether there is anything in it or not.

    :raises NotThere: there can be none.
    """
    known = {
        suite_name(row.name, pocket): Suite(archive_id, row.id, pocket)
        for row in connection.execute(_SERIES, {"this": archive_id})
        for pocket in Pocket
    }
    if name not in known:
        raise NotThere(f"there is no suite {name!r}; there are: {', '.join(sorted(known))}")
    return known[name]


def find(
    connection: Connection, archive_id: int, name: str, where: Suite | None = None, version: str | None = None
) -> list[Publication]:
    """The newest version of a source in an archive, with all that was built of it, and is wanted there.

    :param where: the suite that it is in; None: whichever, but one.
    :param version: another version than the newest.
    :raises NotThere: it is not there, or in several suites.
    """
    there = [
        each
        for each in publications.named(connection, archive_id, name)
        if each.state in WANTED and where in (None, each.suite) and version in (None, each.source_version)
    ]
    if not there:
        what = name if version is None else f"{name} {version}"
        raise NotThere(f"{what} is not published there: `buildmaster archive packages` lists what is")
    if len({each.suite for each in there}) > 1:
        known = {each.suite: each.name for each in publications.suites_of(connection, archive_id)}
        suites = ", ".join(sorted({known.get(each.suite, "?") for each in there}))
        raise NotThere(f"{name} is in several suites, say which one: {suites}")
    newest = max((each.source_version for each in there), key=Version)
    return [each for each in there if each.source_version == newest]


def copy(connection: Connection, what: list[Publication], where: Suite, now: float) -> Moved:
    """Let a version be in another suite as well.

    :param what: as find() finds it; what has come of it since comes as well.
    :raises NotThere: somebody has just had it leave.
    :raises CannotCopy: it is held; its architectures are not there; so is a newer version.
    :raises PoolConflict: files of it have names that others have in that archive.
    """
    return _copy(connection, _as_it_is_now(connection, what), where, now)


def _copy(connection: Connection, what: list[Publication], where: Suite, now: float) -> Moved:
    if not all(each.state in LISTED for each in what):
        raise CannotCopy(f"{what[0].source} is held until all architectures are there: `buildmaster archive release`")
    known = {*distributions.architectures_of(connection, where.series_id), "all", "source"}
    if lacks := sorted({each.architecture for each in what} - known):
        raise CannotCopy(f"that series has no architecture {', '.join(lacks)}: nothing of {what[0].source} is copied")
    _must_be_new(connection, what[0], where)
    new = copy_to(connection, what, where, now)
    return Moved(what[0].source, what[0].source_version, new)


def _must_be_new(connection: Connection, what: Publication, where: Suite) -> None:
    """:raises CannotCopy: there are so many newer versions that this one would be gone as soon as it is there."""
    every = publications.named(connection, where.archive_id, what.source)
    there = [each for each in every if each.suite == where and each.binary_id is None and each.state in WANTED]
    if any(each.source_id == what.source_id for each in there):
        return
    newer = sorted(
        {each.version for each in there if Version(each.version) > Version(what.source_version)}, key=Version
    )
    if len(newer) > repositories.get(connection, where.archive_id).keep_versions:
        raise CannotCopy(
            f"{what.source} {newer[-1]} is there, which is newer than {what.source_version}: delete that one first"
        )


def copy_to(connection: Connection, what: Iterable[Publication], where: Suite, now: float) -> int:
    """Let packages be in another suite as well, as they are; what is there, or about to be, stays. Returns how many
    are new there.

    :raises PoolConflict: files of them have names that others have in that archive.
    """
    what = list(what)
    if any(each.suite.archive_id != where.archive_id for each in what):
        entering.must_be_free(entering.conflicts(connection, where.archive_id, _files_of(connection, what)))
    new = 0
    for each in what:
        there = [one for one in publications.of_source(connection, each.source_id) if one.binary_id == each.binary_id]
        if not any(one.suite == where and one.state in WANTED for one in there):
            publications.add(
                connection, where, now, component=each.component, source_id=each.source_id, binary_id=each.binary_id
            )
            new += 1
    return new


def _files_of(connection: Connection, what: Iterable[Publication]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in what:
        if each.binary_id is None:
            found |= {row.name: row.sha256 for row in connection.execute(entering.FILES, {"this": each.source_id})}
        else:
            row = connection.execute(_DEB, {"this": each.binary_id}).one()
            found[row.file_name] = row.sha256
    return found


def promote(connection: Connection, what: list[Publication], where: Suite, now: float) -> Moved:
    """Let a version be in another suite instead of where it is.

    :param what: as for copy().
    :raises NotThere: as copy() does.
    :raises CannotCopy: likewise; or builds of it go on, and what they make would be nowhere after that.
    :raises PoolConflict: likewise.
    """
    what = _as_it_is_now(connection, what)
    at_home = [source_id for source_id in {each.source_id for each in what} if publications.home(connection, source_id)]
    moved = _copy(connection, what, where, now)
    publications.leave(connection, [each.id for each in what if each.suite != where], "promoted", now)
    for source_id in at_home:
        if not publications.home(connection, source_id) and (names := _being_built(connection, source_id)):
            raise CannotCopy(
                f"{moved.source} {moved.version} is still being built for {', '.join(names)}; what that makes comes to "
                "its own archive and series: wait for it, cancel it (`buildmaster cancel`), or copy what there is"
            )
    return moved


def delete(connection: Connection, what: list[Publication], reason: str, now: float) -> Moved:
    """Have a version leave a suite. What is queued of it is not built, where it is in no other suite of its archive.

    :param what: as for copy().
    :raises NotThere: somebody else has just had it leave.
    """
    what = _as_it_is_now(connection, what)
    left = publications.leave(connection, [each.id for each in what], reason, now)
    for source_id in sorted({each.source_id for each in what}):
        if not publications.home(connection, source_id):
            _give_up_builds(connection, source_id, reason, now)
    return Moved(what[0].source, what[0].source_version, left)


def _being_built(connection: Connection, source_id: int) -> list[str]:
    """The architectures that there will be packages for, perhaps."""
    rows = connection.execute(_BUILDS, {"this": source_id}).all()
    return sorted({row.architecture for row in rows if BuildState(row.state) in PENDING | ACTIVE})


def _as_it_is_now(connection: Connection, what: list[Publication]) -> list[Publication]:
    """A version in a suite with all that has come of it since it was looked for: nobody else changes it any more."""
    places = {(each.source_id, each.suite) for each in what}
    sources = sorted({source_id for source_id, _ in places})
    publications.hold_sources(connection, sources)
    found = [
        each
        for source_id in sources
        for each in publications.of_source(connection, source_id)
        if each.state in WANTED and (source_id, each.suite) in places
    ]
    if not found:
        raise NotThere(f"{what[0].source} {what[0].source_version} has just left: look once more")
    return found


def _give_up_builds(connection: Connection, source_id: int, reason: str, now: float) -> None:
    for row in connection.execute(_BUILDS, {"this": source_id}).all():
        if BuildState(row.state) in PENDING:
            builds.record(connection, row.id, Event.SUPERSEDE, now, reason=f"its source was deleted: {reason}")


# Made once: to make a statement takes longer than to execute it.
_SERIES = (
    select(series.c.id, series.c.name)
    .join_from(series, archive, archive.c.distribution_id == series.c.distribution_id)
    .where(archive.c.id == bindparam("this"))
)
_DEB = (
    select(binary.c.file_name, stored_file.c.sha256)
    .join(stored_file, stored_file.c.id == binary.c.stored_file_id)
    .where(binary.c.id == bindparam("this"))
)
_BUILDS = (
    select(build.c.id, build.c.state, series_architecture.c.architecture)
    .join_from(build, series_architecture, series_architecture.c.id == build.c.series_architecture_id)
    .where(build.c.source_id == bindparam("this"), build.c.reproduces_id.is_(None))
    .order_by(build.c.id)
    .with_for_update(of=build)
)
