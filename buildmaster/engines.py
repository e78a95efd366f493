"""How each kind of database is connected to: SQLite as several processes must use it, and PostgreSQL.

SQLite: WAL, every writing transaction begun with BEGIN IMMEDIATE (with the default BEGIN, three processes recorded
1,641 claims for 1,500 jobs), a busy timeout, foreign keys on.

PostgreSQL: READ COMMITTED for who writes, so that a row that was waited for is seen as it is then; REPEATABLE READ for
who only reads, so that a picture is of one moment. Nobody waits for ever: not for a statement, a lock, or a master that
hangs, or whose machine has gone, in the middle of a transaction.

What is logged of a statement has no values in it: they may be archives' passwords.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, QueuePool, event, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

POSTGRESQL = "postgresql"
SQLITE = "sqlite"
BUSY_TIMEOUT_S = 30.0  # How long to wait for another process' transaction on SQLite.
THREADS = 4  # Of a master that uses PostgreSQL; each has a connection.

_CONNECT_TIMEOUT_S = 10
# For each session. A transaction is milliseconds of statements with nothing between them: one that has stood still for
# 5 seconds belongs to a master that hangs, and others, who have its builders by then, need what it has locked.
_SESSION = {
    "statement_timeout": "60s",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "5s",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "10s",
}
# The same, by our own end.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}


class BadUrl(ValueError):
    """A URL is of no database that we can use. The message is the rest of that sentence, and quotes nothing of it."""


def parse_url(text: str) -> URL:
    """The URL of a database, as `[database] url` has it: postgresql://USER@HOST/NAME, or sqlite:////PATH.

    :raises BadUrl: it is none, or has a password in it, which belongs elsewhere.
    """
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port.
        raise BadUrl("is not a URL such as postgresql://debfarm@db.example.org/debfarm") from None
    if url.password is not None or any("password" in name.lower() for name in url.query):
        raise BadUrl("has a password in it: name a file of the secrets directory with password_secret instead")
    match url.get_backend_name(), url.database:
        case "postgresql", str():
            return url.set(drivername="postgresql+psycopg")
        case "sqlite", str(path) if Path(path).is_absolute() and not url.query:
            return url.set(drivername="sqlite")
        case "postgresql", _:
            raise BadUrl("does not name a database, as postgresql://debfarm@db.example.org/debfarm does")
        case "sqlite", _:
            raise BadUrl("does not give the full path of a file, as sqlite:////var/lib/farm.sqlite does")
    raise BadUrl("is neither postgresql://... nor sqlite:////...")


class NoDriver(Exception):
    """A farm whose database is PostgreSQL needs Debian's package python3-psycopg, or debfarm's extra `postgresql`."""

    def __init__(self) -> None:
        super().__init__(" ".join(str(self.__doc__).split()))


def make_engine(url: URL, password: Callable[[], str] | None = None) -> Engine:
    """An engine, which has not connected yet.

    :param url: of parse_url().
    :param password: asked at each connection, so that a new one takes no restart; None: the server asks for none.
    :raises NoDriver: psycopg, or the libpq that it needs, is not here.
    """
    if url.get_backend_name() == SQLITE:
        return _sqlite_engine(url)
    try:
        return _postgresql_engine(url, password)
    except ImportError as error:
        raise NoDriver from error


def _sqlite_engine(url: URL) -> Engine:
    arguments = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    # What one connection commits, another cannot tell from what other processes do; so the one used last is taken.
    engine = sqlalchemy.create_engine(
        url, connect_args=arguments, hide_parameters=True, poolclass=QueuePool, pool_use_lifo=True
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # We say BEGIN, not the driver, which says it late and never IMMEDIATE.
        for pragma in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: URL, password: Callable[[], str] | None) -> Engine:
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    named = {"application_name": "buildmaster", "connect_timeout": _CONNECT_TIMEOUT_S, "options": options}
    engine = sqlalchemy.create_engine(
        url,
        connect_args={**named, **_KEEPALIVES},
        hide_parameters=True,
        pool_size=THREADS,
        max_overflow=THREADS,  # For who uses it in threads of their own.
        isolation_level="READ COMMITTED",
    )

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, _positional: Any, arguments: dict[str, Any]) -> None:
        if password is not None:
            arguments["password"] = password()

    return engine


# Options of a connection to PostgreSQL that only reads.
READING = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def wait_for_turn(connection: Connection, turn: int) -> None:
    """Wait, however long it takes, until no other transaction of PostgreSQL's has this turn; it ends with our own."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    connection.execute(_HAVE_TURN, {"turn": turn})


def have_turn(connection: Connection, turn: int) -> None:
    """Let no other writing transaction have this turn before our own ends. SQLite has one at a time in any case."""
    if connection.dialect.name == "postgresql":
        connection.execute(_HAVE_TURN, {"turn": turn})


def try_turn(connection: Connection, turn: int) -> bool:
    """Have a turn, if no other connection to PostgreSQL has it, until this one is closed."""
    return bool(connection.execute(text("SELECT pg_try_advisory_lock(:turn)"), {"turn": turn}).scalar())


_HAVE_TURN = text("SELECT pg_advisory_xact_lock(:turn)")
_IN_THE_WAY = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected.
_AT_ITS_END = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY})
_STOOD_STILL = "25P03"  # idle_in_transaction_session_timeout: the session is ended, and nothing of it committed.


def words(error: BaseException) -> str:
    """What is wrong, in a line: the driver's words where it has any."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def was_in_the_way(error: DBAPIError) -> bool:
    """Whether a transaction failed only because of others at the same time: once more, it may do."""
    return getattr(error.orig, "sqlstate", None) in _IN_THE_WAY


def is_at_its_end(error: BaseException) -> bool:
    """Whether SQLite cannot write, by no fault of the statement's: the disk is full or broken, or somebody keeps the
    file locked for longer than is waited."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _AT_ITS_END


def was_lost(error: DBAPIError) -> bool:
    """Whether it was the connection to a server that failed, or could not be made."""
    if error.connection_invalidated:
        return True
    # libpq gives no code when it could not connect; a server that refuses us for now does, in some versions of psycopg.
    if type(error.orig).__module__.partition(".")[0] != "psycopg":
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state == _STOOD_STILL:
        return True
    return isinstance(error, OperationalError) and (state is None or (state[:2] in ("08", "57") and state != "57014"))
