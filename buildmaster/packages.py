"""Source packages: accepted from a .dsc, whole or not at all, with the builds that they need."""

import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, select

from buildd.control import ControlError, Dsc, ListedFile, parse_dsc
from buildd.protocol import FileName
from buildmaster import (
    architectures,
    builds,
    chroots,
    depwaits,
    distributions,
    entering,
    files,
    publications,
    superseding,
)
from buildmaster.farm import Farm
from buildmaster.scoring import Pocket
from buildmaster.store import Sha256, Store, StoredFile
from buildmaster.superseding import Superseded
from buildmaster.tables import series, series_architecture, source, source_binary, source_file, stored_file
from buildmaster.wishes import NONE, Wishes

_CHUNK = 1 << 20
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,254}", re.ASCII)


class SourceRefused(Exception):
    """A source package is not accepted; the message says why. Nothing of it is recorded."""


@dataclass(frozen=True)
class Accepted:
    """A source package that was accepted."""

    source_id: int
    name: str
    version: str
    build_ids: tuple[int, ...]
    superseded: Superseded  # What it took the place of.


@dataclass(frozen=True)
class _Source:
    """A source package whose files are in the store, and are what its .dsc promises."""

    dsc: Dsc
    dsc_name: str
    files: Mapping[FileName, StoredFile]  # With the .dsc.


def accept(
    farm: Farm,
    dsc_path: Path,
    now: float,
    *,
    distribution: str,
    series_name: str,
    archive_name: str = distributions.PRIMARY,
    component: str = "main",
    urgency: str = "medium",
    pocket: Pocket = Pocket.RELEASE,
    only: frozenset[str] | None = None,
    rebuild: bool = False,
    needs: str = "",
    wishes: Wishes = NONE,
    also: Callable[[Connection, int], None] = lambda connection, source_id: None,
) -> Accepted:
    """Store a source package, and put one build for each architecture that it needs into the queue. Blocks.

    It takes the place of older versions in the same archive, series and pocket: see superseding.py.

    :param dsc_path: the .dsc; the files that it names are beside it.
    :param only: build on these architectures only; None: on all that it needs.
    :param needs: the resource tags that its builds need, as tags.parse() gives them.
    :param wishes: how these are to be done.
    :param rebuild: when this very source is here already, build it once more instead of refusing it; and publish it
        once more, if it was deleted and nothing newer is there.
    :param also: is called with the source's id at the end of the transaction that all is recorded in.
    :raises SourceRefused: the .dsc or a file of it is bad or missing, another source of this name and version is there,
        or nothing here can build it.
    :raises NoSuchSeries: there is no such series or archive.
    :raises TagsRefused: the tags are too many, with those of the archive.
    :raises OSError: a file cannot be read, or the store is full.
    """
    with farm.reading() as connection:  # Before the work of storing it.
        distributions.find_series(connection, distribution, series_name)
        distributions.find_archive(connection, distribution, archive_name)
    stored = _store(farm.store, dsc_path)

    def record(connection: Connection) -> Accepted:
        series_id = distributions.find_series(connection, distribution, series_name)
        archive_id = distributions.find_archive(connection, distribution, archive_name)
        distributions.hold_archive(connection, archive_id)  # Versions that come at the same time must see each other.
        place_words = f"{distribution} {series_name}"
        needed = _needed(connection, series_id, stored, only, place_words, profiles=wishes.profiles)
        for place in sorted(place for place, _ in needed):  # Before the builds, as who sets a chroot holds it.
            chroots.hold(connection, place)
        superseded = Superseded()
        source_id = _known(connection, archive_id, series_id, stored, pocket=pocket, rebuild=rebuild)
        if source_id is None:
            words = {"component": component, "urgency": urgency, "pocket": pocket}
            source_id = _record(connection, archive_id, series_id, stored, now, **words)
            _publish(connection, source_id, now)
            superseded = superseding.take_place(connection, source_id, now)
        elif not _is_published(connection, source_id, stored.dsc):  # It was deleted.
            _publish(connection, source_id, now)
        build_ids = tuple(
            builds.add(connection, source_id, place, now, arch_indep=arch_indep, needs=needs, wishes=wishes)
            for place, arch_indep in needed
        )
        also(connection, source_id)
        return Accepted(source_id, stored.dsc.source, stored.dsc.version, build_ids, superseded)

    return farm.write(record)


def check_buildable(connection: Connection, distribution: str, series_name: str, dsc_name: str, dsc: Dsc) -> None:
    """Look whether a source package, once accepted, would be built on anything.

    :raises SourceRefused: it would not.
    :raises NoSuchSeries: there is no such series.
    """
    series_id = distributions.find_series(connection, distribution, series_name)
    _needed(connection, series_id, _Source(dsc, dsc_name, {}), None, f"{distribution} {series_name}")


def _store(store: Store, dsc_path: Path) -> _Source:
    """Put a source package's files into the store, each compared with what the .dsc promises of it."""
    try:
        _must_be_regular(dsc_path, dsc_path.stat())  # A fifo would be waited for, without an end.
        dsc = parse_dsc(dsc_path)
        stored = {FileName(dsc_path.name): _store_file(store, dsc_path, None)}
        for listed in dsc.files:
            stored[listed.name] = _store_file(store, dsc_path.parent / listed.name, listed)
    except ControlError as error:
        raise SourceRefused(str(error)) from error
    except FileNotFoundError as error:
        raise SourceRefused(f"{dsc_path.name}: {error.filename} is not there") from error
    return _Source(dsc, dsc_path.name, stored)


def _store_file(store: Store, path: Path, promised: ListedFile | None) -> StoredFile:
    writer = store.writer()
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            _must_be_regular(path, os.fstat(stream.fileno()))
            while chunk := stream.read(_CHUNK):
                writer.write(chunk)
                if promised is not None and writer.size > promised.size:
                    break
        if promised is not None:
            _compare(promised, writer.size, writer.sha256, writer.sha1)
        return writer.commit()
    finally:
        writer.discard()


def _must_be_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SourceRefused(f"{path.name} is not a regular file")


def _compare(promised: ListedFile, size: int, sha256: Sha256, sha1: str) -> None:
    if size != promised.size:
        raise SourceRefused(f"{promised.name} has not the {promised.size} bytes that the .dsc promises")
    if sha256 != promised.sha256 or promised.sha1 not in (None, sha1):
        raise SourceRefused(f"{promised.name} has not the digests that the .dsc promises")


def _needed(
    connection: Connection,
    series_id: int,
    stored: _Source,
    only: frozenset[str] | None,
    place: str,
    *,
    profiles: Collection[str] = (),
) -> list[tuple[int, bool]]:
    """The builds that a source needs: id of the series' architecture, and whether arch:all packages are built there."""
    rows = connection.execute(_ARCHITECTURES, {"this": series_id}).all()
    available = {row.architecture: row.id for row in rows}
    nominated = connection.execute(_NOMINATED, {"this": series_id}).scalar()
    indep = stored.dsc.field("Build-Indep-Architecture")
    words = architectures.wanted(stored.dsc.architectures, stored.dsc.field("Package-List"), profiles)
    needed = architectures.needed_builds(words, list(available), nominated, indep)
    if only is not None:
        needed = [one for one in needed if one.architecture in only]
    if not needed:
        wants = " ".join(words) or "nothing"
        has = " ".join(sorted(available)) or "none"
        asked = "" if only is None else f"; asked for was: {' '.join(sorted(only))}"
        raise SourceRefused(f"{stored.dsc_name} builds on {wants}, but the architectures of {place} are: {has}{asked}")
    if only is None and "all" in words and not any(one.arch_indep for one in needed):
        raise SourceRefused(
            f"{stored.dsc_name} wants its packages for all architectures built on {indep}, which {place} has not: "
            "choose with --architecture what is to be built without them"
        )
    return [(available[one.architecture], one.arch_indep) for one in needed]


def _known(
    connection: Connection, archive_id: int, series_id: int, stored: _Source, *, pocket: Pocket, rebuild: bool
) -> int | None:
    """The id of this very source if it is here; it must be the same in every file and of that pocket, and wanted
    again."""
    name, version = stored.dsc.source, stored.dsc.version
    this = {"archive_id": archive_id, "series_id": series_id, "name": name, "version": version}
    known = connection.execute(_KNOWN, this).first()
    if known is None:
        return None
    if known.pocket != pocket:
        raise SourceRefused(f"{name} {version} is here already, in {known.pocket.lower()}: give yours a new version")
    if known.forgotten_at is not None:
        raise SourceRefused(f"{name} {version} was here, left, and was forgotten: give yours a new version")
    joined = source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id)
    query = select(source_file.c.name, stored_file.c.sha256).select_from(joined)
    there = {row.name: row.sha256 for row in connection.execute(query.where(source_file.c.source_id == known.id))}
    if there != {name: file.sha256 for name, file in stored.files.items()}:
        raise SourceRefused(f"another {name} {version} is here already, with other files: give yours a new version")
    if not rebuild:
        raise SourceRefused(f"{name} {version} is here already: `submit --rebuild` builds it once more")
    return int(known.id)


def _publish(connection: Connection, source_id: int, now: float) -> None:
    try:
        entering.add_source(connection, source_id, now)
    except entering.PoolConflict as error:
        raise SourceRefused(str(error)) from error


def _is_published(connection: Connection, source_id: int, dsc: Dsc) -> bool:
    """Whether a source is wanted where it was accepted for, or a newer one is there."""
    publications.hold_sources(connection, [source_id])
    if publications.home(connection, source_id):
        return True
    where = publications.origin(connection, source_id)
    return any(
        each.binary_id is None
        and each.suite == where
        and each.state in publications.WANTED
        and Version(each.version) > Version(dsc.version)
        for each in publications.named(connection, where.archive_id, dsc.source)
    )


def _record(connection: Connection, archive_id: int, series_id: int, stored: _Source, now: float, **words: str) -> int:
    """Write the rows of a source. `words`: component, urgency,
    pocket."""
    values = {"archive_id": archive_id, "series_id": series_id, "created_at": now, "dsc": stored.dsc_name}
    values |= {"name": stored.dsc.source, "version": stored.dsc.version, **words}
    values |= {"relations": depwaits.relations_of(stored.dsc)}
    values |= {"architectures": " ".join(stored.dsc.architectures)}
    source_id = int(connection.execute(_ADD, values).scalar_one())
    names = dict.fromkeys(name for name in stored.dsc.binaries if _PACKAGE.fullmatch(name))
    binaries = [{"source_id": source_id, "name": name} for name in names]
    if binaries:
        connection.execute(_ADD_BINARY, binaries)
    kept = files.keep_all(connection, stored.files, now)
    its = [{"source_id": source_id, "name": name, "stored_file_id": file_id} for name, file_id in kept.items()]
    connection.execute(_ADD_FILE, its)
    return source_id


# Made once: to make a statement takes longer than to execute it.
_ARCHITECTURES = (
    select(series_architecture)
    .where(series_architecture.c.series_id == bindparam("this"))
    .order_by(series_architecture.c.id)
)
_NOMINATED = select(series.c.nominated_architecture).where(series.c.id == bindparam("this"))
_KNOWN = (
    select(source.c.id, source.c.pocket, source.c.forgotten_at)
    .where(*(source.c[name] == bindparam(name) for name in ("archive_id", "series_id", "name", "version")))
    .with_for_update(key_share=True)  # Nobody forgets it meanwhile.
)
_ADD = source.insert().returning(source.c.id)
_ADD_BINARY, _ADD_FILE = source_binary.insert(), source_file.insert()
