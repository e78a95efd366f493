"""Who may upload to an archive, as queries."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from buildmaster import rows
from buildmaster.tables import upload, uploader


class NoSuchUploader(LookupError):
    """An archive has no such uploader, or several that could be meant; the message says which there are."""


@dataclass(frozen=True)
class Certificate:
    """An OpenPGP certificate, looked at."""

    fingerprint: str  # Upper-case hex.
    name: str  # Its first user id, for people.
    address: str  # The mail address in its user ids; "": there is none.
    text: str  # All of it, armoured.


@dataclass(frozen=True)
class Uploader:
    """Somebody who may upload."""

    id: int
    fingerprint: str
    name: str
    certificate: str
    created_at: float


def add(connection: Connection, archive_id: int, certificate: Certificate, now: float) -> bool:
    """Let who has a certificate's key upload to an archive. False: it was there, and is what is given now, which may be
    good for longer."""
    values = {"fingerprint": certificate.fingerprint, "name": certificate.name, "certificate": certificate.text}
    if rows.add(connection, uploader, {"archive_id": archive_id, **values, "created_at": now}) is not None:
        return True
    this = (uploader.c.archive_id == archive_id) & (uploader.c.fingerprint == certificate.fingerprint)
    connection.execute(update(uploader).where(this).values(**values))
    return False


def remove(connection: Connection, archive_id: int, words: str) -> Uploader:
    """Let somebody upload no more. What was uploaded stays.

    :param words: the end of the fingerprint, or all of it; or a part of the name.
    :raises NoSuchUploader: none is meant, or several are.
    """
    wanted = words.replace(" ", "").upper()
    all_of_them = every(connection, archive_id)
    found = [each for each in all_of_them if len(wanted) >= 8 and each.fingerprint.endswith(wanted)]
    found = found or [each for each in all_of_them if words.lower() in each.name.lower()]
    if len(found) != 1:
        there = ", ".join(f"{each.fingerprint} ({each.name})" for each in found or all_of_them) or "none"
        raise NoSuchUploader(f"{words!r} is {'more than one' if found else 'no'} uploader of it; there are: {there}")
    connection.execute(update(upload).where(upload.c.uploader_id == found[0].id).values(uploader_id=None))
    connection.execute(delete(uploader).where(uploader.c.id == found[0].id))
    return found[0]


def every(connection: Connection, archive_id: int) -> list[Uploader]:
    """All uploaders of an archive, in the order in which they were added."""
    names = list(Uploader.__dataclass_fields__)
    query = select(*(uploader.c[name] for name in names)).where(uploader.c.archive_id == archive_id)
    return [Uploader(*row) for row in connection.execute(query.order_by(uploader.c.id))]
