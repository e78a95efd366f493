"""Who may read private archives, as queries: people, each by a token; builds, as long as they are built; ourselves.

A token is 256 bits of randomness, told once and kept as a digest: nothing slower than SHA-256 is needed to keep it from
being guessed. A build's password is made of a secret, of the build and of its attempt, and is kept nowhere: it is good
while that very attempt is on a builder.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, delete, select

from buildmaster import offered, rows
from buildmaster.apt_sources import Login
from buildmaster.lifecycle import BuildState
from buildmaster.tables import archive_reader, build, source

SECRET = "archive-credentials"  # Its name in the secrets directory.
FARM = "farm"  # The user that the master itself is, when it looks at build-dependencies.

_BUILD = re.compile(r"build-(\d{1,9})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class ReaderRefused(ValueError):
    """A user of a private archive cannot be added or removed so; the message says why."""


@dataclass(frozen=True)
class Reader:
    """Who may read an archive."""

    name: str
    created_at: float


@dataclass(frozen=True)
class Access:
    """Where our archives are, and what passwords for private ones are made of."""

    url: str = ""  # Without a slash at the end.
    secret: str = field(default="", repr=False)

    def of_build(self, build_id: int, builder_id: int, started_at: float) -> Login:
        """What an attempt to build reads them with; see of_build()."""
        return of_build(self.secret, build_id, builder_id, started_at)

    def of_farm(self) -> Login:
        """What the master itself reads them with."""
        return of_farm(self.secret)


NOWHERE = Access()  # We publish nothing.


def new_secret() -> str:
    """What passwords of builds are made of."""
    return secrets.token_hex(32)


def add(connection: Connection, archive_id: int, name: str, now: float) -> str:
    """Let somebody read an archive. Returns the token, which is told nowhere else.

    :raises ReaderRefused: there can be no such user, or there is one.
    """
    if not _NAME.fullmatch(name) or _BUILD.fullmatch(name) or name == FARM:
        raise ReaderRefused(f"{name!r} is no name for a user: letters, digits, dots and dashes, and not one of ours")
    token = secrets.token_urlsafe(32)
    values = {"archive_id": archive_id, "name": name, "token_sha256": _digest(token), "created_at": now}
    if rows.add(connection, archive_reader, values) is None:
        raise ReaderRefused(f"{name!r} may read it already; `archive access remove` first, for another token")
    return token


def remove(connection: Connection, archive_id: int, name: str) -> None:
    """Let somebody read an archive no longer, from now on.

    :raises ReaderRefused: there is no such user.
    """
    here = (archive_reader.c.archive_id == archive_id, archive_reader.c.name == name)
    if not connection.execute(delete(archive_reader).where(*here)).rowcount:
        raise ReaderRefused(f"there is no user {name!r}; `archive access list` has them")


def readers(connection: Connection, archive_id: int) -> list[Reader]:
    """Who may read an archive, by name."""
    query = select(archive_reader.c.name, archive_reader.c.created_at)
    rows = connection.execute(query.where(archive_reader.c.archive_id == archive_id).order_by(archive_reader.c.name))
    return [Reader(row.name, row.created_at) for row in rows]


def of_build(secret: str, build_id: int, builder_id: int, started_at: float) -> Login:
    """What an attempt to build reads private archives with.

    :param started_at: as its row has it.
    """
    return Login(f"build-{build_id}", _signed(secret, f"build {build_id} {builder_id} {started_at!r}"))


def of_farm(secret: str) -> Login:
    """What the master itself reads private archives with."""
    return Login(FARM, _signed(secret, FARM))


def may_read(connection: Connection, archive_id: int, login: Login, secret: str) -> bool:
    """Whether somebody may read a private archive now."""
    if login.user == FARM:
        return hmac.compare_digest(of_farm(secret).password.encode(), login.password.encode())
    if match := _BUILD.fullmatch(login.user):
        return _build_may(connection, archive_id, int(match[1]), login, secret)
    if not _NAME.fullmatch(login.user):  # Which PostgreSQL might not take at all.
        return False
    there = connection.execute(_TOKEN, {"archive": archive_id, "user": login.user}).scalar()
    return there is not None and hmac.compare_digest(there, _digest(login.password))


def _build_may(connection: Connection, archive_id: int, build_id: int, login: Login, secret: str) -> bool:
    """A build reads its own archive, and those that lend this one packages, while it is built."""
    row = connection.execute(_ATTEMPT, {"this": build_id}).first()
    if row is None or row.state != BuildState.BUILDING or row.builder_id is None or row.started_at is None:
        return False
    expected = of_build(secret, build_id, row.builder_id, row.started_at)
    if not hmac.compare_digest(expected.password.encode(), login.password.encode()):
        return False
    return any(lender.id == archive_id for lender in offered.lenders(connection, row.archive_id))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _signed(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


_TOKEN = select(archive_reader.c.token_sha256).where(
    archive_reader.c.archive_id == bindparam("archive"), archive_reader.c.name == bindparam("user")
)
_ATTEMPT = (
    select(build.c.state, build.c.builder_id, build.c.started_at, source.c.archive_id)
    .select_from(build.join(source, source.c.id == build.c.source_id))
    .where(build.c.id == bindparam("this"))
)
