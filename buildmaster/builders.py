"""Builders, as queries: add, change, count their failures, and what a scan needs to know of each."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Connection, Update, bindparam, func, select, update

from buildd.protocol import BuildId, ProtocolError, parse_architecture, parse_file_name
from buildmaster import builds, rows, tags
from buildmaster.lifecycle import BuildState
from buildmaster.tables import archive, build, build_queue, builder

# Never an option of the command that it goes into.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}", re.ASCII)


class Cleanliness(StrEnum):
    """Whether a builder may be given a build."""

    CLEAN = "clean"  # Says IDLE, and nothing was sent to it since.
    DIRTY = "dirty"  # Something was, or may have been, sent to it. The scan cleans it.
    CLEANING = "cleaning"  # A reset goes on outside; whoever does it says when it is clean.


class NoSuchBuilder(LookupError):
    """There is no builder of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no builder is called {name!r}")
        self.name = name


class BuilderRefused(ValueError):
    """A builder cannot be added or changed so; the message says why."""


@dataclass(frozen=True)
class Job:
    """The build that a builder has, as its scan needs it."""

    build_id: int
    cookie: BuildId  # What the daemon must call it.
    title: str
    state: BuildState
    failures: int
    cancelled_at: float | None
    stage: str
    started_at: float
    expected_s: float  # How long it will take, as far as we know.
    limit_s: float  # How long it may take, by its archive; 0: that says nothing.


@dataclass(frozen=True)
class Vitals:
    """What a scan needs to know of a builder: its row, and its job if it has one."""

    id: int
    name: str
    url: str
    architecture: str
    virtualised: bool
    tags: str  # See tags.py.
    restricted_tags: str
    vm_host: str  # The machine that a virtualised one is on; see resetting.py.
    cleaning_since: float | None  # Since when its reset goes on, which somebody else ends.
    enabled: bool
    manual: bool
    given: int | None  # The build that a person gave it; see giving.py.
    cleanliness: Cleanliness
    failures: int
    version: str
    master_id: int | None  # The master that holds it, if that one has a row still.
    job: Job | None
    # Why its last scan failed. Scans write it: that is nothing new to them.
    trouble: str = field(default="", compare=False)


def add(
    connection: Connection, name: str, url: str, architecture: str, now: float, *, virtualised: bool = False
) -> int:
    """Add a builder, enabled and not known to be clean. Returns its id.

    :param url: http://HOST:PORT, with or without a slash, /rpc or /rpc/ at its end.
    :raises BuilderRefused: the name or URL is taken, or one of them or the architecture is no such thing.
    """
    try:
        parse_file_name(name)
        parse_architecture(architecture)
    except ProtocolError as error:
        raise BuilderRefused(f"builder {name!r}: {error}") from error
    url = _tidy_url(url)
    taken = connection.execute(select(builder.c.name).where((builder.c.name == name) | (builder.c.url == url))).first()
    if taken is not None:
        raise BuilderRefused(f"there is a builder {taken.name!r} with this name or URL already")
    values = {"name": name, "url": url, "architecture": architecture, "virtualised": virtualised}
    values |= {"cleanliness": Cleanliness.DIRTY, "created_at": now}
    builder_id = rows.add(connection, builder, values)
    if builder_id is None:
        raise BuilderRefused(f"somebody has just added a builder with the name {name!r} or this URL")
    return builder_id


# What can be connected to. With another host or path each scan would end by an error of our own.
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\])(?::[0-9]+)?/(?:[\w.~/%+=,-]*/)?",
    re.ASCII,
)


def _can_be_asked(url: str) -> bool:
    try:
        return _URL.fullmatch(url) is not None and urlsplit(url).port != 0
    except ValueError:  # The port is too large, or the address none.
        return False


def _tidy_url(url: str) -> str:
    """A builder's URL as we keep it: with one slash at its end, and no rpc."""
    tidy = url.strip().rstrip("/").removesuffix("/rpc").rstrip("/") + "/"
    if not _can_be_asked(tidy):
        # Not quoted where it may have a password in it.
        told = "one with a user or a password: the protocol knows none" if "@" in tidy else repr(url)
        raise BuilderRefused(f"a builder's URL is http://HOST:PORT/, not {told}")
    return tidy


def find(connection: Connection, name: str) -> Vitals:
    """A builder by its name.

    :raises NoSuchBuilder: there is none.
    """
    for vitals in _vitals(connection, builder.c.name == name):
        return vitals
    raise NoSuchBuilder(name)


def enable(connection: Connection, name: str) -> None:
    """Let a builder build again, its failures forgotten; it is cleaned first."""
    forgotten = {"disabled_reason": "", "failures": 0, "trouble": "", "trouble_since": None}
    _change(connection, name, enabled=True, cleanliness=Cleanliness.DIRTY, **forgotten)


def disable(connection: Connection, name: str, reason: str) -> None:
    """Take a builder out of service. The build that it has is requeued by its scan."""
    _change(connection, name, enabled=False, disabled_reason=reason)


def set_manual(connection: Connection, name: str, manual: bool) -> None:
    """Keep a builder from getting builds, while it is still scanned; or no longer."""
    _change(connection, name, manual=manual)


def set_tags(connection: Connection, name: str, *, offered: Iterable[str], restricted: Iterable[str]) -> None:
    """Set what a builder has for builds that ask for it; and what it has for those alone that ask for all of it.

    :raises TagsRefused: one of these can be no tag.
    """
    _change(connection, name, tags=tags.parse(offered), restricted_tags=tags.parse(restricted))


def set_vm_host(connection: Connection, name: str, host: str) -> None:
    """Say on which host a virtualised builder is, for the command that resets it; "": none.

    :raises BuilderRefused: the host can have no such name.
    """
    if host and not _HOST.fullmatch(host):
        raise BuilderRefused(f"{host!r} is no name of a host")
    _change(connection, name, vm_host=host)


def begin_reset(connection: Connection, builder_id: int, now: float) -> None:
    """Record that a command is about to begin a reset: somebody may say that it is over before the command ends."""
    connection.execute(_dirty(builder_id).values(cleaning_since=now))


def was_reset(connection: Connection, builder_id: int, cleanliness: Cleanliness, now: float) -> None:
    """Record what a reset has led to, unless the builder was given to somebody meanwhile: CLEAN, or CLEANING, which is
    CLEAN as well when somebody has said so since begin_reset()."""
    said = _dirty(builder_id).where(builder.c.cleaning_since.is_(None))
    connection.execute(said.values(cleanliness=Cleanliness.CLEAN))
    since = now if cleanliness is Cleanliness.CLEANING else None  # The command may have waited long for its turn.
    connection.execute(_dirty(builder_id).values(cleanliness=cleanliness, cleaning_since=since))


def _dirty(builder_id: int) -> Update:
    return update(builder).where(builder.c.id == builder_id, builder.c.cleanliness == Cleanliness.DIRTY)


def say_cleaned(connection: Connection, name: str) -> None:
    """Record that the reset of a builder, which went on outside, is over.

    :raises BuilderRefused: none goes on.
    """
    # Held, or who looks between the two statements below while was_reset() is under way finds neither to be true.
    connection.execute(select(builder.c.id).where(builder.c.name == name).with_for_update())
    found = find(connection, name)
    row = update(builder).where(builder.c.id == found.id, builder.c.cleanliness == Cleanliness.CLEANING)
    if connection.execute(row.values(cleanliness=Cleanliness.CLEAN, cleaning_since=None)).rowcount:
        return
    # The command that began it has not ended: was_reset() will find this word.
    begun = _dirty(found.id).where(builder.c.cleaning_since.is_not(None))
    if not connection.execute(begun.values(cleaning_since=None)).rowcount:
        raise BuilderRefused(f"builder {name!r} is not being reset: it is {found.cleanliness}")


def _change(connection: Connection, name: str, **values: object) -> None:
    if not connection.execute(update(builder).where(builder.c.name == name).values(**values)).rowcount:
        raise NoSuchBuilder(name)


def by_id(connection: Connection, builder_id: int) -> Vitals | None:
    """A builder by its id; None: there is none any more."""
    row = connection.execute(_BY_ID, {"this": builder_id}).first()
    return None if row is None else _vitals_of(row)


def job_of(connection: Connection, builder_id: int) -> Job | None:
    """The build that a builder has."""
    found = by_id(connection, builder_id)
    return None if found is None else found.job


def vitals(connection: Connection, only: Collection[int] | None = None) -> dict[int, Vitals]:
    """Builders by their ids, for the master's snapshot: one query.

    :param only: the ids of those that are wanted; None: all.
    """
    conditions = () if only is None else (builder.c.id.in_(only),)
    return {row.id: row for row in _vitals(connection, *conditions)}


def _vitals(connection: Connection, *conditions: ColumnElement[bool]) -> list[Vitals]:
    return [_vitals_of(row) for row in connection.execute(_QUERY.where(*conditions))]


_COLUMNS = (
    builder.c.id,
    builder.c.name,
    builder.c.url,
    builder.c.architecture.label("builder_architecture"),
    builder.c.virtualised,
    builder.c.tags,
    builder.c.restricted_tags,
    builder.c.vm_host,
    builder.c.cleaning_since,
    builder.c.enabled,
    builder.c.manual,
    builder.c.given_build_id,
    builder.c.cleanliness,
    builder.c.failures,
    builder.c.version,
    builder.c.trouble,
    builder.c.master_id,
    build.c.id.label("build_id"),
    build.c.state,
    build.c.failures.label("job_failures"),
    build.c.started_at,
    build_queue.c.cancelled_at,
    build_queue.c.stage,
    build_queue.c.expected_s,
    archive.c.build_timeout_s,
    *builds.DESCRIPTION,
)
_WITH_QUEUE = builder.outerjoin(build_queue, build_queue.c.builder_id == builder.c.id)
_WITH_BUILDS = _WITH_QUEUE.outerjoin(build, build.c.id == build_queue.c.build_id)
_QUERY = select(*_COLUMNS).select_from(builds.described(_WITH_BUILDS, outer=True)).order_by(builder.c.name)
_THIS = builder.c.id == bindparam("this")
_BY_ID, _CHANGE = _QUERY.where(_THIS), update(builder).where(_THIS)


def _vitals_of(row: builds.AnyRow) -> Vitals:
    return Vitals(
        id=row.id,
        name=row.name,
        url=row.url,
        architecture=row.builder_architecture,
        virtualised=row.virtualised,
        tags=row.tags,
        restricted_tags=row.restricted_tags,
        vm_host=row.vm_host,
        cleaning_since=row.cleaning_since,
        enabled=row.enabled,
        manual=row.manual,
        given=row.given_build_id,
        cleanliness=Cleanliness(row.cleanliness),
        failures=row.failures,
        version=row.version,
        trouble=row.trouble,
        master_id=row.master_id,
        job=None if row.build_id is None else _job_of(row),
    )


def _job_of(row: builds.AnyRow) -> Job:
    return Job(
        build_id=row.build_id,
        cookie=builds.cookie(row.build_id),
        title=builds.title_of(row),
        state=BuildState(row.state),
        failures=row.job_failures,
        cancelled_at=row.cancelled_at,
        stage=row.stage,
        started_at=row.started_at,
        expected_s=row.expected_s,
        limit_s=row.build_timeout_s,
    )


def set_cleanliness(connection: Connection, builder_id: int, cleanliness: Cleanliness, version: str = "") -> None:
    """Record what a scan found, and the daemon's version when it told one."""
    values: dict[str, object] = {"cleanliness": cleanliness, "cleaning_since": None}
    if version:
        values["version"] = version
    connection.execute(_CHANGE, {"this": builder_id, **values})


def set_trouble(connection: Connection, builder_id: int, trouble: str, now: float) -> None:
    """Remember why a builder's scan failed, and since when they do; "" for one that did not."""
    since = func.coalesce(builder.c.trouble_since, now) if trouble else None
    row = update(builder).where(builder.c.id == builder_id)
    connection.execute(row.values(trouble=trouble, trouble_since=since))


def count_failure(connection: Connection, builder_id: int) -> int:
    """Count one more failure in a row against a builder, and say how many there are now."""
    row = update(builder).where(builder.c.id == builder_id).values(failures=builder.c.failures + 1)
    return int(connection.execute(row.returning(builder.c.failures)).scalar_one())


def count_loss(connection: Connection, builder_id: int) -> int:
    """Count one more build that a builder has lost, and say how many there are since it last ended one properly."""
    row = update(builder).where(builder.c.id == builder_id).values(losses=builder.c.losses + 1)
    return int(connection.execute(row.returning(builder.c.losses)).scalar_one())


def has_lost(connection: Connection, builder_id: int) -> bool:
    """Whether a builder has lost a build since it last ended one properly."""
    return bool(connection.execute(select(builder.c.losses).where(builder.c.id == builder_id)).scalar())


def forgive(connection: Connection, builder_id: int) -> None:
    """Set a builder's count of failures to 0: the build was to blame."""
    connection.execute(update(builder).where(builder.c.id == builder_id).values(failures=0))


def did_well(connection: Connection, builder_id: int) -> None:
    """Forget what a builder has failed and lost: a build has ended properly there."""
    connection.execute(_CHANGE, {"this": builder_id, "failures": 0, "losses": 0})


def fail(connection: Connection, builder_id: int, reason: str) -> None:
    """Take a builder out of service because it failed too often, or is not shut in."""
    values = {"enabled": False, "disabled_reason": reason}
    connection.execute(update(builder).where(builder.c.id == builder_id).values(**values))
