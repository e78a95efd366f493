"""What a farm holds, for people to look at: the read-only questions of the command line and of the web.

Each function takes a connection and answers with frozen values; none changes anything. Times are Unix time in seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from buildd.protocol import Cause
from buildmaster.builders import Cleanliness
from buildmaster.builds import DESCRIBED
from buildmaster.lifecycle import ENDED, BuildState
from buildmaster.tables import (
    archive,
    build,
    build_file,
    build_queue,
    builder,
    distribution,
    master,
    series,
    series_architecture,
    source,
    source_file,
    stored_file,
)
from buildmaster.wishes import Wishes

# The reason says no more than that the package does not build.
_TOLD_BY_LOG = frozenset(
    {Cause.COMPILE, Cause.TESTS, Cause.PACKAGING, Cause.SOURCE, Cause.NETWORK_WANTED, Cause.SIGNAL}
)


@dataclass(frozen=True)
class File:
    """A file in the store, under the name that it has for a build or a source."""

    name: str
    size: int  # Bytes.
    sha256: str
    sha1: str


@dataclass(frozen=True)
class Build:
    """One build."""

    id: int
    source: str
    version: str
    distribution: str
    series: str
    architecture: str
    archive: str
    arch_indep: bool  # Builds the packages for all architectures as well.
    state: BuildState
    reason: str  # Why it is in that state, in words; may be "".
    dependencies: str  # What a dep-wait waits for.
    cause: str  # Why its last attempt failed, a protocol.Cause; "" when it did not, or its builder did not tell.
    error: str  # The lines of the log that tell so.
    builder: str | None  # That builds it, or was the last to.
    stage: str  # What the daemon is at; "" unless building.
    score: int | None  # None: not in the queue.
    failures: int
    tags: str  # What it needs of a builder, beside what its archive's builds do; see tags.py.
    wishes: Wishes  # How it is to be done.
    created_at: float
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    log_name: str  # "" until a log is in the store.
    log_sha256: str | None  # Of the log in the store, which is gzipped.
    source_id: int
    reproduces: int | None  # The build that this one repeats, for comparison only; None: none.
    chroot_sha256: str  # That its last builder was given; "": none was, or nobody recorded it.

    @property
    def why(self) -> str:
        """Why it is in its state, in a line: what it waits for, or the cause and how the first error begins where that
        tells more than the reason."""
        first = self.error.partition("\n")[0].strip() if self.cause in _TOLD_BY_LOG else ""
        told = self.dependencies or first or self.reason
        return f"{self.cause}: {told}" if self.cause else told

    @property
    def title(self) -> str:
        """What it builds, in words."""
        return f"{self.source} {self.version} in {self.series} for {self.architecture}"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it by itself, but for a wait that may be released."""
        return self.state in ENDED


@dataclass(frozen=True)
class Builder:
    """One builder."""

    id: int
    name: str
    url: str
    architecture: str
    state: str  # building, idle, cleaning, failing (its scans do) or disabled.
    reason: str  # Why it is disabled.
    manual: bool
    given: int | None  # The build that a person gave it, and that it will take next.
    virtualised: bool
    tags: str  # What it has for builds that ask for it; see tags.py.
    restricted_tags: str  # What it is kept for.
    vm_host: str  # That the command which resets it is told; "": none.
    build_id: int | None
    build_title: str  # Source and version; "" when it has none.
    stage: str
    version: str
    failures: int
    trouble: str  # Why its last scan failed; "": it did not.
    trouble_since: float | None
    master: str  # That holds it; "": none.


@dataclass(frozen=True)
class Place:
    """An architecture of a series: where builds happen."""

    distribution: str
    series: str
    architecture: str
    chroot_sha256: str | None  # None: nothing can be built there yet.
    nominated: bool  # Builds the packages for all architectures.


def places(connection: Connection) -> list[Place]:
    """Every architecture of every series."""
    columns = (distribution.c.name, series.c.name, series_architecture.c.architecture, stored_file.c.sha256)
    tables = (
        series_architecture.join(series, series.c.id == series_architecture.c.series_id)
        .join(distribution, distribution.c.id == series.c.distribution_id)
        .outerjoin(stored_file, stored_file.c.id == series_architecture.c.chroot_file_id)
    )
    query = select(*columns, series.c.nominated_architecture).select_from(tables).order_by(*columns[:3])
    return [Place(*row[:4], nominated=row[2] == row[4]) for row in connection.execute(query)]


def distributions(connection: Connection) -> list[str]:
    """Every distribution's name."""
    return list(connection.execute(select(distribution.c.name).order_by(distribution.c.name)).scalars())


def builds(
    connection: Connection,
    *,
    states: Iterable[BuildState] = (),
    source_name: str = "",
    archive_id: int | None = None,
    ids: Iterable[int] | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[Build]:
    """Builds, the newest first.

    :param states: only these; none: all.
    :param archive_id: of this archive's sources only.
    :param ids: only these, as far as they exist; None: all.
    """
    query = builds_query().order_by(build.c.id.desc()).limit(limit).offset(offset)
    if wanted := [str(state) for state in states]:
        query = query.where(build.c.state.in_(wanted))
    if source_name:
        query = query.where(source.c.name == source_name)
    if archive_id is not None:
        query = query.where(source.c.archive_id == archive_id)
    if ids is not None:
        query = query.where(build.c.id.in_(list(ids)))
    return [build_of(row) for row in connection.execute(query)]


def one_build(connection: Connection, build_id: int) -> Build | None:
    """A build, or None when there is none of that number."""
    found = builds(connection, ids=[build_id])
    return found[0] if found else None


def results(connection: Connection, build_id: int) -> list[File]:
    """What a build made, by name."""
    query = _files(build_file).where(build_file.c.build_id == build_id).order_by(build_file.c.name)
    return [File(*row) for row in connection.execute(query)]


def source_files(connection: Connection, source_id: int) -> list[File]:
    """The files of a source package, by name."""
    query = _files(source_file).where(source_file.c.source_id == source_id).order_by(source_file.c.name)
    return [File(*row) for row in connection.execute(query)]


def builders(connection: Connection) -> list[Builder]:
    """Every builder, by name, with what it does."""
    query = (
        select(builder, build_queue.c.build_id, build_queue.c.stage, master.c.name.label("master"))
        .select_from(
            builder.outerjoin(build_queue, build_queue.c.builder_id == builder.c.id).outerjoin(
                master, master.c.id == builder.c.master_id
            )
        )
        .order_by(builder.c.name)
    )
    rows = connection.execute(query).all()
    having = builds(connection, ids=[row.build_id for row in rows if row.build_id])
    titles = {each.id: f"{each.source} {each.version}" for each in having}
    return [_builder(row, titles) for row in rows]


def builds_query() -> Select[Any]:
    """Builds, with the columns that build_of() takes."""
    tables = (
        DESCRIBED.outerjoin(builder, builder.c.id == build.c.builder_id)
        .outerjoin(build_queue, build_queue.c.build_id == build.c.id)
        .outerjoin(stored_file, stored_file.c.id == build.c.log_file_id)
    )
    return select(
        build,
        source.c.name.label("source"),
        source.c.version,
        distribution.c.name.label("distribution"),
        series.c.name.label("series"),
        series_architecture.c.architecture,
        archive.c.name.label("archive"),
        builder.c.name.label("builder"),
        build_queue.c.stage,
        build_queue.c.score,
        build_queue.c.queued_at,
        stored_file.c.sha256.label("log_sha256"),
    ).select_from(tables)


def build_of(row: Row[Any]) -> Build:
    """A row of builds_query()."""
    return Build(
        id=row.id,
        source=row.source,
        version=row.version,
        distribution=row.distribution,
        series=row.series,
        architecture=row.architecture,
        archive=row.archive,
        arch_indep=row.arch_indep,
        state=BuildState(row.state),
        reason=row.reason,
        dependencies=row.dependencies,
        cause=row.cause,
        error=row.error,
        builder=row.builder,
        stage=row.stage or "",
        score=row.score,
        failures=row.failures,
        tags=row.tags,
        wishes=Wishes.from_text(row.wishes),
        created_at=row.created_at,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        log_name=row.log_name,
        log_sha256=row.log_sha256,
        source_id=row.source_id,
        reproduces=row.reproduces_id,
        chroot_sha256=row.chroot_sha256,
    )


def _files(table: Any) -> Select[Any]:
    return select(table.c.name, stored_file.c.size, stored_file.c.sha256, stored_file.c.sha1).select_from(
        table.join(stored_file, stored_file.c.id == table.c.stored_file_id)
    )


def _builder(row: Row[Any], titles: dict[int, str]) -> Builder:
    if row.build_id:
        state = "building"
    elif not row.enabled:
        state = "disabled"
    elif row.trouble:
        state = "failing"
    else:
        state = "idle" if row.cleanliness == Cleanliness.CLEAN else "cleaning"
    return Builder(
        id=row.id,
        name=row.name,
        url=row.url,
        architecture=row.architecture,
        state=state,
        reason="" if row.enabled else row.disabled_reason,
        manual=row.manual,
        given=row.given_build_id,
        virtualised=row.virtualised,
        tags=row.tags,
        restricted_tags=row.restricted_tags,
        vm_host=row.vm_host,
        build_id=row.build_id,
        build_title=titles.get(row.build_id, ""),
        stage=row.stage or "",
        version=row.version,
        failures=row.failures,
        trouble=row.trouble,
        trouble_since=row.trouble_since,
        master=row.master or "",
    )
