"""Builds that a person gives to a builder by name: it takes them before anything else, in manual mode too."""

from sqlalchemy import Connection, select, update

from buildmaster import builders
from buildmaster.builders import Vitals
from buildmaster.tables import build_queue, builder


class GiveRefused(ValueError):
    """A build cannot be given to a builder; the message says why."""


def give(connection: Connection, build_id: int, name: str) -> None:
    """Let a builder have a build next. Its tags do not matter, and whether it has lost the build before; until it takes
    the build, another may.

    :raises NoSuchBuilder: there is none of this name.
    :raises GiveRefused: the build does not wait for a builder, or for another kind of builder.
    """
    vitals = builders.find(connection, name)
    if not vitals.enabled:
        raise GiveRefused(f"builder {name!r} is disabled")
    if trouble := _trouble(connection, build_id, vitals):
        raise GiveRefused(f"build {build_id} {trouble}")
    connection.execute(update(builder).where(builder.c.id == vitals.id).values(given_build_id=build_id))


def take(connection: Connection, vitals: Vitals) -> int | None:
    """The build that a builder was given, which it is given no more; None: none that it may have.

    :param vitals: as this transaction has them, which has locked the builder.
    """
    if vitals.given is None:
        return None
    connection.execute(update(builder).where(builder.c.id == vitals.id).values(given_build_id=None))
    return None if _trouble(connection, vitals.given, vitals) else vitals.given


def _trouble(connection: Connection, build_id: int, vitals: Vitals) -> str:
    """Why a builder cannot have a build."""
    queue = build_queue.c
    query = select(queue.architecture, queue.virtualised).where(queue.build_id == build_id, queue.builder_id.is_(None))
    row = connection.execute(query).first()
    if row is None:
        return "is not waiting for a builder"
    if row.architecture != vitals.architecture:
        return f"is for {row.architecture}, and {vitals.name} for {vitals.architecture}"
    if row.virtualised != vitals.virtualised:
        return f"is for builders that are {'' if row.virtualised else 'not '}virtualised"
    return ""
