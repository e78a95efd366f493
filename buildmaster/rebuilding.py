"""Binary rebuilds: packages of a source that has not changed, built again under versions of their own; as queries.

All architectures of a source are rebuilt under one number, so that packages of it that ask for each other's version
have it. Packages for all architectures stay as they are: they have the version of their source, which others ask for by
its own name (dpkg's ${source:Version}).
"""

import re
from dataclasses import dataclass
from typing import Any

from debian.deb822 import Deb822
from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, select

from buildmaster import architectures, builds, chroots, distributions, publications, repositories
from buildmaster.publications import Suite
from buildmaster.scoring import Pocket
from buildmaster.tables import binary, build, publication, series_architecture, source
from buildmaster.wishes import Wishes, rebuilt

_NUMBER = re.compile(r"\+b(\d{1,4})$", re.ASCII)
_NAME = re.compile(r"\s*([a-z0-9][a-z0-9+.-]+)", re.ASCII)
_DEPENDS = ("Pre-Depends", "Depends")


class RebuildRefused(ValueError):
    """A source cannot be rebuilt; the message says why."""


@dataclass(frozen=True)
class Where:
    """The suite whose packages are rebuilt."""

    archive_id: int
    series_id: int
    pocket: Pocket


@dataclass(frozen=True)
class Why:
    """What the changelog of rebuilt packages says."""

    reason: str  # In a line.
    maintainer: str  # Who says so: NAME <ADDRESS>.


@dataclass(frozen=True)
class Rebuild:
    """A source that is rebuilt."""

    source: str
    version: str  # Its own.
    number: int  # What is made of it has +bNUMBER at the end of its version.
    build_ids: tuple[int, ...]


def rebuild(connection: Connection, where: Where, name: str, why: Why, now: float) -> Rebuild:
    """Put builds of a source into the queue, one for each architecture that it needs, as its last ones were.

    :param name: the source's; its newest version in the suite counts.
    :raises RebuildRefused: there is no such source, or nothing of it can be rebuilt.
    :raises WishesRefused: reason or maintainer are not what can stand in a changelog.
    """
    distributions.hold_archive(connection, where.archive_id)  # Numbers that are given at the same time.
    found = _newest(connection, where, name)
    places = _places(connection, where.series_id, found)
    if not places:
        raise RebuildRefused(
            f"{name} {found.version} makes packages for all architectures only, which have the version of their "
            "source: upload a new version of it"
            if found.architectures.split() == ["all"]
            else f"{name} {found.version} is for {found.architectures}, which this series has not"
        )
    for place in sorted(places):  # Before the builds, as who sets a chroot holds it.
        chroots.hold(connection, place)
    number = 1 + _highest(connection, found.id)
    ids = []
    for place in places:
        last = connection.execute(_LAST, {"source": found.id, "place": place}).first()
        wishes = rebuilt(Wishes.from_text(last.wishes if last else ""), number, why.reason, why.maintainer)
        ids.append(builds.add(connection, found.id, place, now, needs=last.tags if last else "", wishes=wishes))
    return Rebuild(name, found.version, number, tuple(ids))


def dependants(connection: Connection, where: Where, package: str) -> list[str]:
    """The sources of which a published package depends on this one, by name; the one that makes it is not among them.

    Reads what all packages of the suite say of themselves, if they have its name in it.
    """
    if not _NAME.fullmatch(package):
        return []
    these = {**vars(where), "pattern": f"%{package}%", "states": sorted(publications.LISTED)}
    found, makers = set(), set()
    for row in connection.execute(_SAYING, these):
        if row.package == package:
            makers.add(row.source)
        elif _asks_for(package, _dependencies(row.control)):
            found.add(row.source)
    return sorted(found - makers)


def build_dependants(connection: Connection, where: Where, package: str) -> list[str]:
    """The sources of a suite, in their newest versions, that build-depend on a package, by name."""
    newest: dict[str, Any] = {}
    for row in _sources(connection, where):
        if row.name not in newest or Version(newest[row.name].version) < Version(row.version):
            newest[row.name] = row
    return sorted(
        name
        for name, row in newest.items()
        if package in (row.relations or "") and _asks_for(package, _build_dependencies(row.relations))
    )


def _sources(connection: Connection, where: Where, name: str | None = None) -> list[Any]:
    """The rows of sources that are wanted in a suite, of this name or of all: where we publish it, by what is there,
    since sources are promoted."""
    published = repositories.find(connection, where.archive_id) is not None
    query = (_WANTED if published else _NOT_SUPERSEDED) if name is None else _NAMED[published]
    states = {"states": sorted(publications.WANTED)} if published else {}
    return list(connection.execute(query, {**vars(where), **states, **({} if name is None else {"name": name})}))


def _newest(connection: Connection, where: Where, name: str) -> Any:
    """The row of the newest source of a name that is wanted in a suite."""
    rows = _sources(connection, where, name)
    if not rows:
        if version := _copied(connection, where, name):
            raise RebuildRefused(
                f"{name} {version} was copied to this archive: rebuild it in the one that it comes from, and copy that"
            )
        raise RebuildRefused(f"there is no source {name!r} in this archive, series and pocket")
    return max(rows, key=lambda row: Version(row.version))


def _copied(connection: Connection, where: Where, name: str) -> str:
    """The version of a source that is there, and belongs to another archive; "": there is none."""
    suite = Suite(where.archive_id, where.series_id, where.pocket)
    return next(
        (
            each.version
            for each in publications.named(connection, where.archive_id, name)
            if each.suite == suite and each.binary_id is None and each.state in publications.WANTED
        ),
        "",
    )


def _places(connection: Connection, series_id: int, found: Any) -> list[int]:
    """The architectures of the series that a source makes packages of their own for."""
    rows = connection.execute(_ARCHITECTURES, {"this": series_id}).all()
    words = [word for word in found.architectures.split() if word != "all"]
    needed = architectures.needed_builds(words, [row.architecture for row in rows], None)
    known = {row.architecture: row.id for row in rows}
    return [known[one.architecture] for one in needed]


def _highest(connection: Connection, source_id: int) -> int:
    """The highest number of a rebuild of a source, published or built or about to be; 0: there was none."""
    numbers = [Wishes.from_text(text).rebuild for text in connection.execute(_WISHES, {"source": source_id}).scalars()]
    for version in connection.execute(_VERSIONS, {"source": source_id}).scalars():
        match = _NUMBER.search(version)
        numbers += [int(match[1])] if match else []
    return max(numbers, default=0)


def _dependencies(control: str) -> str:
    fields = Deb822(control)
    return ", ".join(fields[name] for name in _DEPENDS if name in fields)


def _build_dependencies(relations: str) -> str:
    """The relations of a source row that ask for packages; see depwaits.relations_of()."""
    lines = (line.partition(": ") for line in relations.splitlines())
    return ", ".join(value for name, _, value in lines if name.startswith("Build-Depends"))


def _asks_for(package: str, relations: str) -> bool:
    """Whether a relationship names a package (Debian Policy 7.1), whatever its version, architecture and profile."""
    names = (_NAME.match(alternative) for alternative in re.split("[,|]", relations))
    return any(name is not None and name[1] == package for name in names)


# Made once: to make a statement takes longer than to execute it.
_HERE = tuple(source.c[name] == bindparam(name) for name in ("archive_id", "series_id", "pocket"))
_THERE = tuple(publication.c[name] == bindparam(name) for name in ("archive_id", "series_id", "pocket"))
_IN_STATES = publication.c.state.in_(bindparam("states", expanding=True))
_WANTED = (
    select(source)
    .join(publication, publication.c.source_id == source.c.id)
    .where(*_THERE, _IN_STATES, publication.c.binary_id.is_(None), source.c.archive_id == bindparam("archive_id"))
)
_NOT_SUPERSEDED = select(source).where(*_HERE, source.c.superseded_at.is_(None))
_OF_NAME = source.c.name == bindparam("name")
_NAMED = {True: _WANTED.where(_OF_NAME), False: _NOT_SUPERSEDED.where(_OF_NAME)}  # By whether we publish it.
_SAYING = (
    select(source.c.name.label("source"), binary.c.name.label("package"), binary.c.control)
    .select_from(
        publication.join(binary, binary.c.id == publication.c.binary_id).join(source, source.c.id == binary.c.source_id)
    )
    .where(*_THERE, _IN_STATES, binary.c.control.like(bindparam("pattern")))
)
_ARCHITECTURES = (
    select(series_architecture)
    .where(series_architecture.c.series_id == bindparam("this"))
    .order_by(series_architecture.c.id)
)
_LAST = (
    select(build.c.wishes, build.c.tags)
    .where(
        build.c.source_id == bindparam("source"),
        build.c.series_architecture_id == bindparam("place"),
        build.c.reproduces_id.is_(None),
    )
    .order_by(build.c.id.desc())
    .limit(1)
)
_WISHES = select(build.c.wishes).where(build.c.source_id == bindparam("source"), build.c.wishes != "")
_VERSIONS = select(binary.c.version).where(binary.c.source_id == bindparam("source")).distinct()
