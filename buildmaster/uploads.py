"""What was uploaded, and what became of it, as queries; and what an archive has that an upload must agree with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from debian.debian_support import Version
from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, or_, select, update

from buildmaster import builds, notifications, publications, repositories
from buildmaster.lifecycle import ACTIVE, PENDING, BuildState, Event
from buildmaster.publications import WANTED
from buildmaster.scoring import Pocket
from buildmaster.tables import (
    archive,
    binary,
    build,
    distribution,
    publication,
    series,
    series_architecture,
    source,
    source_file,
    stored_file,
    upload,
    uploader,
)

# Of those that nobody known signed, the newest so many are remembered: anybody can make some.
_STRANGERS_KEPT = 1000


@dataclass(frozen=True)
class Uploaded:
    """An upload, for people to look at."""

    id: int
    distribution: str
    archive: str
    name: str  # Of the .changes file.
    sha256: str
    uploader: str  # "": nobody known.
    source: str  # Of an accepted one: "hello 1.0".
    faults: tuple[str, ...]  # (): it was accepted.
    created_at: float


@dataclass(frozen=True)
class Place:
    """An archive that is uploaded to."""

    archive_id: int
    distribution: str
    name: str
    series: frozenset[str]
    binaries: bool  # Uploads of binary packages are accepted.

    @property
    def words(self) -> str:
        """What it is called."""
        return f"{self.distribution}/{self.name}"


@dataclass(frozen=True)
class Had:
    """What an archive has, or had, of a source package."""

    newest: Mapping[tuple[str, Pocket], str]  # By series and pocket, the newest version there.
    known: Mapping[str, frozenset[str]]  # By version, the SHA-256 of its .dsc.
    files: Mapping[str, tuple[int, str]]  # Of the names that were asked for: size and SHA-256.


def find_place(connection: Connection, distribution_name: str, archive_name: str) -> Place | None:
    """An archive that somebody may upload to; None: there is none of that name."""
    return _place(connection, _PLACES.where(distribution.c.name == distribution_name, archive.c.name == archive_name))


def place_of(connection: Connection, archive_id: int) -> Place | None:
    """The same, by its id."""
    return _place(connection, _PLACES.where(archive.c.id == archive_id))


def _place(connection: Connection, query: Select[Any]) -> Place | None:
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    names = connection.execute(select(series.c.name).where(series.c.distribution_id == row.distribution_id)).scalars()
    repository = repositories.find(connection, row.id)
    binaries = repository is not None and repository.binaries
    return Place(row.id, row.distribution, row.name, frozenset(names), binaries)


_PLACES = select(archive, distribution.c.name.label("distribution")).join_from(archive, distribution)


def had(connection: Connection, archive_id: int, source_name: str, names: Collection[str]) -> Had:
    """What an archive has of a source package.

    :param names: of the files that are of interest.
    """
    known: dict[str, set[str]] = {}
    newest: dict[tuple[str, Pocket], str] = {}
    dscs = source_file.c.source_id == source.c.id, source_file.c.name == source.c.dsc
    joined = source.join(series, series.c.id == source.c.series_id).outerjoin(source_file, dscs[0] & dscs[1])
    joined = joined.outerjoin(stored_file, stored_file.c.id == source_file.c.stored_file_id)
    columns = source.c.archive_id, source.c.version, source.c.pocket, source.c.superseded_at, series.c.name
    query = (
        select(*columns, stored_file.c.sha256)
        .select_from(joined)
        .where(source.c.name == source_name, _is_in(archive_id))
    )
    published = repositories.find(connection, archive_id) is not None
    for row in connection.execute(query):
        known.setdefault(row.version, set()).add(row.sha256 or "")
        if not published and row.archive_id == archive_id and row.superseded_at is None:
            _note(newest, (row.name, Pocket(row.pocket)), row.version)
    if published:
        names_of = {row.id: row.name for row in connection.execute(select(series.c.id, series.c.name))}
        for each in publications.named(connection, archive_id, source_name):
            if each.binary_id is None and each.state in WANTED:
                _note(newest, (names_of[each.suite.series_id], each.suite.pocket), each.version)
    digests = {version: frozenset(found) for version, found in known.items()}
    return Had(newest, digests, _files(connection, archive_id, names))


def _note(newest: dict[tuple[str, Pocket], str], where: tuple[str, Pocket], version: str) -> None:
    if where not in newest or Version(version) > Version(newest[where]):
        newest[where] = version


def _is_in(archive_id: int) -> ColumnElement[bool]:
    """Whether an archive has a source package, or had it: of its own, or copied to it."""
    copied = exists().where(publication.c.source_id == source.c.id, publication.c.archive_id == archive_id)
    return or_(source.c.archive_id == archive_id, copied)


def _files(connection: Connection, archive_id: int, names: Collection[str]) -> dict[str, tuple[int, str]]:
    """Files of an archive's sources and binary packages, by name."""
    stored = source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id)
    stored = stored.join(source, source.c.id == source_file.c.source_id)
    columns = stored_file.c.size, stored_file.c.sha256
    sources = (
        select(source_file.c.name, *columns)
        .select_from(stored)
        .where(source_file.c.name.in_(names), _is_in(archive_id))
    )
    in_pool = publication.c.state != publications.State.REMOVED
    debs = select(binary.c.file_name.label("name"), *columns).where(
        binary.c.stored_file_id == stored_file.c.id,
        binary.c.name.in_({name.partition("_")[0] for name in names}),  # By which they are found.
        binary.c.file_name.in_(names),
        exists().where(publication.c.binary_id == binary.c.id, publication.c.archive_id == archive_id, in_pool),
    )
    return {row.name: (row.size, row.sha256) for query in (sources, debs) for row in connection.execute(query)}


@dataclass(frozen=True)
class Source:
    """A source package that an archive has, to which binary packages can come."""

    id: int
    suite: tuple[str, Pocket]


class BeingBuilt(Exception):
    """Packages cannot be taken, as the farm builds the same; the message says what to do."""


def find_source(connection: Connection, archive_id: int, name: str, version: str) -> list[Source]:
    """A source package that an archive has, in each suite that what is built of it comes to: not where it was deleted,
    nor where it was before it was promoted."""
    query = select(source.c.id, series.c.name).join_from(source, series)
    query = query.where(source.c.archive_id == archive_id, source.c.name == name, source.c.version == version)
    return [
        Source(row.id, (row.name, each.suite.pocket))
        for row in connection.execute(query).all()
        for each in publications.home(connection, row.id)
    ]


def architectures(connection: Connection, place: Place, series_name: str) -> frozenset[str]:
    """The architectures of a series of an archive's distribution."""
    joined = select(series_architecture.c.architecture).join_from(series_architecture, series)
    joined = joined.join(distribution, distribution.c.id == series.c.distribution_id)
    found = joined.where(distribution.c.name == place.distribution, series.c.name == series_name)
    return frozenset(connection.execute(found).scalars())


def spare_builds(connection: Connection, source_id: int, came: Collection[str], now: float) -> list[int]:
    """Have nothing built whose packages came. Returns the ids of the builds that are superseded by that.

    :param came: architectures, and perhaps `all`.
    :raises BeingBuilt: a builder has a build of these; or it would build packages that came beside others that did
        not.
    """
    query = select(build.c.id, build.c.state, build.c.arch_indep, series_architecture.c.architecture).join_from(
        build, series_architecture
    )
    theirs = query.where(build.c.source_id == source_id, build.c.reproduces_id.is_(None))
    spared = []
    for row in connection.execute(theirs.with_for_update(of=build)).all():
        state = BuildState(row.state)
        here, indep = row.architecture in came, "all" in came
        if state not in PENDING | ACTIVE or not (here or (row.arch_indep and indep)):
            continue
        if state in ACTIVE:
            raise BeingBuilt(f"{row.architecture} is being built by the farm: wait for build {row.id}, or cancel it")
        if (here or not _any(connection, source_id)) and (indep or not row.arch_indep):
            reason = "its packages were uploaded"
            builds.record(connection, row.id, Event.SUPERSEDE, now, reason=reason)
            spared.append(int(row.id))
        elif here:
            raise BeingBuilt(f"the packages for {row.architecture} came without those for all: upload them together")
        else:
            connection.execute(update(build).where(build.c.id == row.id).values(arch_indep=False))
    return spared


def _any(connection: Connection, source_id: int) -> bool:
    """Whether a source has packages that are not for all architectures."""
    words = connection.execute(select(source.c.architectures).where(source.c.id == source_id)).scalar_one()
    return bool(words.split() != ["all"])


def accepted_by(connection: Connection, sha256: str) -> str:
    """What the archive is called that accepted this very upload before; "": none did."""
    query = _UPLOADS.where(upload.c.sha256 == sha256, upload.c.faults == "")
    row = connection.execute(query.limit(1)).first()
    return "" if row is None else f"{row.distribution}/{row.archive}"


def was_refused(connection: Connection, archive_id: int, sha256: str, faults: Sequence[str], since: float) -> bool:
    """Whether this very upload was refused for the same reasons since then."""
    these = (upload.c.archive_id == archive_id, upload.c.sha256 == sha256, upload.c.faults == "\n".join(faults))
    return connection.execute(select(upload.c.id).where(*these, upload.c.created_at > since)).first() is not None


def record(
    connection: Connection,
    archive_id: int,
    name: str,
    sha256: str,
    now: float,
    *,
    uploader_id: int | None = None,
    source_id: int | None = None,
    faults: Sequence[str] = (),
    tell: str = "",
) -> int:
    """Write down what became of an upload. Returns its id.

    :param name: of the .changes.
    :param faults: each one line; none: it was accepted.
    :param tell: the address of who is told of it; "": nobody is.
    """
    values = {"archive_id": archive_id, "name": name[:255], "sha256": sha256, "uploader_id": uploader_id}
    values |= {"source_id": source_id, "faults": "\n".join(faults), "created_at": now}
    upload_id = int(connection.execute(upload.insert().returning(upload.c.id), values).scalar_one())
    if tell:
        notifications.write_upload(connection, upload_id, tell, faults, now)
    if uploader_id is None and faults:
        strangers = (upload.c.archive_id == archive_id) & upload.c.uploader_id.is_(None) & (upload.c.faults != "")
        kept = select(upload.c.id).where(strangers).order_by(upload.c.id.desc()).offset(_STRANGERS_KEPT).limit(1)
        oldest = connection.execute(kept).scalar()
        if oldest is not None:
            connection.execute(delete(upload).where(strangers, upload.c.id <= oldest))
    return upload_id


def find(connection: Connection, upload_id: int) -> Uploaded:
    """An upload."""
    return _uploaded(connection.execute(_UPLOADS.where(upload.c.id == upload_id)).one())


def every(connection: Connection, limit: int, archive_id: int | None = None) -> list[Uploaded]:
    """The newest uploads, the newest first."""
    query = _UPLOADS if archive_id is None else _UPLOADS.where(upload.c.archive_id == archive_id)
    return [_uploaded(row) for row in connection.execute(query.order_by(upload.c.id.desc()).limit(limit))]


def _uploaded(row: Any) -> Uploaded:
    return Uploaded(**dict(row._mapping) | {"faults": tuple(row.faults.splitlines())})


_UPLOADS = (
    select(
        upload.c.id,
        upload.c.name,
        upload.c.sha256,
        upload.c.faults,
        upload.c.created_at,
        archive.c.name.label("archive"),
        distribution.c.name.label("distribution"),
        func.coalesce(uploader.c.name, "").label("uploader"),
        func.coalesce(source.c.name + " " + source.c.version, "").label("source"),
    )
    .join_from(upload, archive, archive.c.id == upload.c.archive_id)
    .join(distribution, distribution.c.id == archive.c.distribution_id)
    .outerjoin(uploader, uploader.c.id == upload.c.uploader_id)
    .outerjoin(source, source.c.id == upload.c.source_id)
)
