"""What comes into the archives that we publish: sources that were accepted, packages that were built or uploaded.

The name of a file in an archive's pool stands for one content, for as long as the file is there: what would have
another one does not come in.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, exists, func, select

from buildd.protocol import FileName
from buildmaster import binaries, distributions, publications, repositories
from buildmaster.binaries import Deb
from buildmaster.lifecycle import BuildState
from buildmaster.publications import BESIDE, WANTED, State
from buildmaster.store import StoredFile
from buildmaster.tables import (
    binary,
    build,
    build_file,
    publication,
    series_architecture,
    source,
    source_file,
    stored_file,
)


class PoolConflict(Exception):
    """A file of this name, with other content, is in the archive already: give the package a new version. (A binary
    package of the same version: `buildmaster rebuild`.)"""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(sorted(names))
        super().__init__(
            f"in the archive already, with other content: {', '.join(self.names)}; give the package a new version"
        )


def add_source(connection: Connection, source_id: int, now: float) -> None:
    """Let a source that was just accepted be published where it was accepted for, if we publish that archive.

    :raises PoolConflict: files of it have names that others have there.
    """
    row = connection.execute(_SOURCE, {"this": source_id}).one()
    repository = repositories.find(connection, row.archive_id)
    if repository is None:
        return
    files = {each.name: each.sha256 for each in connection.execute(FILES, {"this": source_id})}
    must_be_free(conflicts(connection, row.archive_id, files))
    where = publications.origin(connection, source_id)
    hold = repositories.holds(connection, repository, row.name)
    deadline = now + repository.hold_deadline_s if hold and repository.hold_deadline_s else None
    this = {"component": row.component, "source_id": source_id}
    publications.add(connection, where, now, **this, held=hold, held_until=deadline)


def add_binaries(connection: Connection, source_id: int, build_id: int | None, debs: Sequence[Deb], now: float) -> None:
    """Let binary packages be published where their source is, in the archive that it was accepted for; held, where
    it is held. Where it is no more, they are not.

    :param build_id: None: they were uploaded.
    :raises PoolConflict: files of them have names that others have there.
    """
    publications.hold_sources(connection, [source_id])
    there = publications.home(connection, source_id)
    if not there or not debs:
        return
    must_be_free(conflicts(connection, there[0].suite.archive_id, {each.file_name: each.file.sha256 for each in debs}))
    ids = binaries.record(connection, source_id, build_id, debs, now)
    known = {
        (each.suite, each.binary_id) for each in publications.of_source(connection, source_id) if each.state in WANTED
    }
    for own in there:
        for binary_id, deb in zip(ids, debs, strict=True):
            if (own.suite, binary_id) not in known:
                this = {"source_id": source_id, "binary_id": binary_id}
                component = component_of(own.component, deb)
                publications.add(connection, own.suite, now, component=component, **this, held=own.state is State.HELD)


@dataclass(frozen=True)
class Ended:
    """A build of an archive that ended well, and of which nothing is in the archive."""

    build_id: int
    source_id: int
    source: str
    version: str
    architecture: str
    results: Mapping[FileName, StoredFile]


def add_earlier_sources(connection: Connection, archive_id: int, now: float) -> tuple[int, list[str]]:
    """Let sources be published that were accepted before their archive was: of each suite and name all that are newer
    than the newest one that was built for some architecture, and that one. Returns how many; and which cannot be, why.
    """
    distributions.hold_archive(connection, archive_id)  # Of two who do this at once the second finds nothing left.
    every: dict[tuple[int, str, str], list[Any]] = defaultdict(list)
    for row in connection.execute(_EARLIER, {"this": archive_id}):
        every[row.series_id, row.pocket, row.name].append(row)
    added, left = 0, []
    for versions in every.values():
        for row in sorted(versions, key=lambda each: Version(each.version), reverse=True):
            if not row.is_known:
                try:
                    with connection.begin_nested():
                        add_source(connection, row.id, now)
                    added += 1
                except PoolConflict as error:
                    left.append(f"{row.name} {row.version}: {error}")
            if row.is_built:
                break
    return added, left


def ended(connection: Connection, archive_id: int) -> list[Ended]:
    """The builds of what is wanted in its own archive that have ended well, and whose packages are not in it; the
    newest first, as of two that made the same package only one can be."""
    found: dict[int, Ended] = {}
    for row in connection.execute(_ENDED, {"this": archive_id, "wanted": sorted(WANTED)}):
        results = {row.file: StoredFile(row.sha256, row.sha1, row.size)}
        words = (row.source_id, row.source, row.version, row.architecture)
        before = found.get(row.id, Ended(row.id, *words, {}))
        found[row.id] = replace(before, results={**before.results, **results})
    return list(found.values())


def component_of(source_component: str, deb: Deb) -> str:
    """Where a binary package is, by the component that its source is in."""
    debug, installer = BESIDE
    return source_component + (installer if deb.udeb else debug if deb.debug else "")


def conflicts(connection: Connection, archive_id: int, files: Mapping[str, str]) -> list[str]:
    """Which of these names files in an archive's pool have that have other content.

    :param files: by name the SHA-256.
    """
    packages = sorted({name.partition("_")[0] for name in files})
    these = {"archive_id": archive_id, "names": list(files), "packages": packages}
    taken = [*connection.execute(_SOURCE_FILES_TAKEN, these), *connection.execute(_DEBS_TAKEN, these)]
    return sorted({row.name for row in taken if files[row.name] != row.sha256})


def must_be_free(names: Sequence[str]) -> None:
    """:raises PoolConflict: there are any, of what conflicts() finds."""
    if names:
        raise PoolConflict(names)


# Made once: to make a statement takes longer than to execute it.
_SOURCE = select(source).where(source.c.id == bindparam("this"))
_IS_ITS_BUILD = (
    (build.c.source_id == source.c.id) & (build.c.state == BuildState.BUILT) & build.c.reproduces_id.is_(None)
)
_EARLIER = select(
    source.c.id,
    source.c.series_id,
    source.c.pocket,
    source.c.name,
    source.c.version,
    exists().where(publication.c.source_id == source.c.id).label("is_known"),
    exists().where(_IS_ITS_BUILD).label("is_built"),
).where(source.c.archive_id == bindparam("this"), source.c.forgotten_at.is_(None), source.c.dsc != "")
_ENDED = (
    select(
        build.c.id,
        build.c.source_id,
        source.c.name.label("source"),
        source.c.version,
        series_architecture.c.architecture,
        build_file.c.name.label("file"),
        stored_file.c.sha256,
        stored_file.c.sha1,
        stored_file.c.size,
    )
    .select_from(
        source.join(build, _IS_ITS_BUILD)
        .join(series_architecture, series_architecture.c.id == build.c.series_architecture_id)
        .join(build_file, build_file.c.build_id == build.c.id)
        .join(stored_file, stored_file.c.id == build_file.c.stored_file_id)
    )
    .where(
        source.c.archive_id == bindparam("this"),
        exists().where(
            publication.c.source_id == source.c.id,
            publication.c.archive_id == source.c.archive_id,
            publication.c.binary_id.is_(None),
            publication.c.state.in_(bindparam("wanted", expanding=True)),
        ),
        ~exists().where(binary.c.build_id == build.c.id),
    )
    .order_by(build.c.id.desc(), build_file.c.id)
)
FILES = (
    select(source_file.c.name, stored_file.c.sha256)
    .join(stored_file, stored_file.c.id == source_file.c.stored_file_id)
    .where(source_file.c.source_id == bindparam("this"))
)
_IN_POOL = publication.c.state != State.REMOVED
_SOURCE_FILES_TAKEN = (
    select(source_file.c.name, stored_file.c.sha256)
    .select_from(
        source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id).join(
            publication, publication.c.source_id == source_file.c.source_id
        )
    )
    .where(
        source_file.c.name.in_(bindparam("names", expanding=True)),
        publication.c.archive_id == bindparam("archive_id"),
        func.coalesce(publication.c.binary_id, 0) == 0,  # Else SQLite takes the index of binary_id for all sources.
        _IN_POOL,
    )
)
_DEBS_TAKEN = (
    select(binary.c.file_name.label("name"), stored_file.c.sha256)
    .select_from(
        binary.join(stored_file, stored_file.c.id == binary.c.stored_file_id).join(
            publication, publication.c.binary_id == binary.c.id
        )
    )
    .where(
        binary.c.name.in_(bindparam("packages", expanding=True)),  # By which they are found.
        binary.c.file_name.in_(bindparam("names", expanding=True)),
        publication.c.archive_id == bindparam("archive_id"),
        _IN_POOL,
    )
)
