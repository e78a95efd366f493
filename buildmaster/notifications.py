"""Who is to be told of what, as queries: rows that are written with the change of state that they tell of, and go once
that is told.

One row for each who is told, so that trouble with one tells no other twice.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from buildmaster.lifecycle import BuildState
from buildmaster.tables import archive, build, notification, source

# How a build must end on a builder for somebody to be told.
STATES = frozenset({BuildState.FAILED, BuildState.CHROOT_WAIT, BuildState.FAILED_UPLOAD})

ACCEPTED, REFUSED = "accepted", "refused"  # What became of an upload.

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,189}", re.ASCII)


class AddressRefused(ValueError):
    """Nobody can be told at such an address; the message names it."""


@dataclass(frozen=True)
class Due:
    """A notification that is to be sent."""

    id: int
    build_id: int | None  # Either this,
    upload_id: int | None  # or this.
    recipient: str
    state: str  # A BuildState's word; or ACCEPTED or REFUSED.
    reason: str
    cause: str
    error: str
    builder_id: int | None
    created_at: float
    attempts: int  # That failed, or never ended.
    done: str  # The ways in which it was sent already, with spaces.


def parse_addresses(words: Iterable[str]) -> str:
    """Addresses as an archive has them: with spaces between.

    :raises AddressRefused: one of them is none.
    """
    found = list(dict.fromkeys(words))
    for word in found:
        if not _ADDRESS.fullmatch(word):
            raise AddressRefused(f"{word!r} is no address, such as somebody@example.org")
    return " ".join(found)


def is_address(word: str) -> bool:
    """Whether somebody could be told there."""
    return _ADDRESS.fullmatch(word) is not None


def write(connection: Connection, build_id: int, now: float) -> None:
    """Have everybody told, whom its archive names, of the state that a build is in now."""
    joined = build.join(source, source.c.id == build.c.source_id).join(archive, archive.c.id == source.c.archive_id)
    query = select(build, archive.c.notify).select_from(joined).where(build.c.id == build_id)
    row = connection.execute(query).one()
    told = {name: getattr(row, name) for name in ("state", "reason", "cause", "error", "builder_id")}
    for recipient in row.notify.split():
        values = {"build_id": build_id, "recipient": recipient, "created_at": now, "not_before": now}
        connection.execute(notification.insert().values(**values, **told))


def write_upload(connection: Connection, upload_id: int, recipient: str, faults: Sequence[str], now: float) -> None:
    """Have somebody told what became of an upload."""
    values = {"upload_id": upload_id, "recipient": recipient, "created_at": now, "not_before": now}
    values |= {"state": REFUSED if faults else ACCEPTED, "reason": "", "cause": "", "error": "\n".join(faults)}
    connection.execute(notification.insert().values(**values))


def due(connection: Connection, now: float, limit: int) -> list[Due]:
    """What is to be sent now, the oldest first."""
    query = select(notification).where(notification.c.not_before <= now)
    rows = connection.execute(query.order_by(notification.c.not_before, notification.c.id).limit(limit))
    names = (*Due.__dataclass_fields__,)
    return [Due(**{name: getattr(row, name) for name in names}) for row in rows]


def claim(connection: Connection, one: Due, until: float) -> bool:
    """Take one, so that no other master sends it until then. False: another was quicker."""
    mine = (notification.c.id == one.id, notification.c.attempts == one.attempts)
    values = {"attempts": one.attempts + 1, "not_before": until}
    return connection.execute(update(notification).where(*mine).values(**values)).rowcount == 1


def went(connection: Connection, notification_id: int) -> None:
    """It is sent, or given up."""
    connection.execute(delete(notification).where(notification.c.id == notification_id))


def postpone(connection: Connection, notification_id: int, until: float, trouble: str, done: str) -> None:
    """It could not be sent, in all ways at least, and is to be tried again then."""
    values = {"not_before": until, "trouble": trouble, "done": done}
    connection.execute(update(notification).where(notification.c.id == notification_id).values(**values))
