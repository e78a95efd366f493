"""What is shown, beside an archive, of where its packages come from: .buildinfo files and signed statements.

buildinfo/h/hello/hello_2.10-3_amd64.buildinfo
provenance/SHA256.json     the signed statement about a build, by the SHA-256 of any of its results
provenance/key.pem         what that is signed with
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, exists, or_, select

from buildmaster import attesting
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.publications import State
from buildmaster.store import Sha256
from buildmaster.tables import archive, binary, build, build_file, distribution, publication, source, stored_file

FOLDERS = frozenset({"buildinfo", "provenance"})
_STATEMENT = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)


@dataclass(frozen=True)
class Served:
    """A document."""

    content_type: str
    content: bytes


def served(farm: Farm, distribution: str, archive: str, segments: Sequence[str]) -> Served | None:
    """What is there at a path below an archive; None: nothing. Blocks.

    :param segments: of the path below the archive, decoded; anybody's.
    :raises NoKey: a statement would have to be signed, and cannot be here.
    :raises OSError: the store cannot be used.
    """
    match tuple(segments):
        case ("provenance", "key.pem"):
            with farm.reading() as connection:
                key = attesting.current(connection)
            return Served("application/x-pem-file", key.pem.encode()) if key else None
        case ("provenance", name) if match := _STATEMENT.fullmatch(name):
            return _statement(farm, distribution, archive, match[1])
        case ("buildinfo", prefix, package, name) if prefix == _prefix(package) and name.endswith(".buildinfo"):
            return _buildinfo(farm, distribution, archive, package, name)
    return None


def _statement(farm: Farm, distribution: str, archive: str, sha256: str) -> Served | None:
    with farm.reading() as connection:
        build_id = connection.execute(
            _MAKER, {"distribution": distribution, "archive": archive, "sha256": sha256}
        ).scalar()
    if build_id is None:
        return None
    try:
        return Served("application/vnd.dsse+json", attesting.ensure(farm, build_id))
    except attesting.NothingToState:
        return None


def _buildinfo(farm: Farm, distribution: str, archive: str, package: str, name: str) -> Served | None:
    with farm.reading() as connection:
        wanted = {"distribution": distribution, "archive": archive, "package": package, "name": name}
        sha256 = connection.execute(_BUILDINFO, wanted).scalar()
    if sha256 is None:
        return None
    with farm.store.open(Sha256(sha256)) as stream:
        return Served("text/plain; charset=utf-8", stream.read())


def _prefix(package: str) -> str:
    """The folder that a source package's folder is in, as in a pool."""
    return package[:4] if package.startswith("lib") else package[:1]


_ARCHIVE = (
    select(archive.c.id)
    .join_from(archive, distribution)
    .where(distribution.c.name == bindparam("distribution"), archive.c.name == bindparam("archive"))
    .scalar_subquery()
)


def _has(*states: State) -> Any:
    """Whether the archive has packages of a build, in one of these states."""
    here = (publication.c.archive_id == _ARCHIVE, publication.c.state.in_(states), binary.c.build_id == build.c.id)
    of = publication.join(binary, binary.c.id == publication.c.binary_id)
    return exists(select(publication.c.id).select_from(of).where(*here).correlate(build))


# It was built for this archive, and is not held back; or its packages were copied there, not just others of its source.
_THERE = (
    build.c.state == BuildState.BUILT,
    build.c.reproduces_id.is_(None),
    or_(
        and_(source.c.archive_id == _ARCHIVE, ~_has(State.HELD)),
        _has(State.PENDING, State.PUBLISHED, State.LEAVING, State.GONE),
    ),
)
_MAKER = (
    select(build.c.id)
    .join(source, source.c.id == build.c.source_id)
    .where(build.c.id.in_(attesting.MAKERS), *_THERE)
    .order_by(build.c.id)
    .limit(1)
)
_BUILDINFO = (
    select(stored_file.c.sha256)
    .join(build_file, build_file.c.stored_file_id == stored_file.c.id)
    .join(build, build.c.id == build_file.c.build_id)
    .join(source, source.c.id == build.c.source_id)
    .where(source.c.name == bindparam("package"), build_file.c.name == bindparam("name"), *_THERE)
    .order_by(build.c.id.desc())
    .limit(1)
)
