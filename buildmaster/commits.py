"""Who else has committed to the farm's database: asked on SQLite, told by PostgreSQL.

On PostgreSQL every writing transaction ends with a NOTIFY, which is delivered when it commits. Where notifications do
not come through (a pooler between us and the server), as one that we send ourselves shows, a look at the server's
running transactions finds commits as well: those of its other databases too, which does no harm.
"""

import re
import sqlite3
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from buildmaster import engines
from buildmaster.secrets import SecretRefused

if TYPE_CHECKING:
    import psycopg

CHANNEL = "buildmaster_commits"
_TRY_AGAIN_S = 1.0
_LOOK_S = 0.05  # At most so often a server is asked, where notifications do not come through.
_VERSION = "data_version"  # Under which a connection to SQLite keeps it.


class CannotSee(Exception):
    """Commits by others cannot be seen just now; the message says why."""


class Commits(Protocol):
    """Tells whether another connection, of this process or another, has committed since the last look."""

    def seen(self) -> bool:
        """Whether there may have been a commit; costs microseconds, so the reactor's own thread may ask.

        :raises CannotSee: there is no telling; the next look will.
        """

    def by_others(self, connection: Connection) -> Collection[int] | None:
        """Which builders the commits were about that other processes have made since the last call: at the beginning of
        a transaction that reads, all that it sees. None: nobody knows which, or there was no call before."""

    def close(self) -> None:
        """Look no longer."""


class SqliteCommits:
    """See :class:`Commits`.

    SQLite tells each connection whether others have committed. The one that is asked how often seen() is called is none
    of those that write, so our own commits are seen as well; by_others() asks the one that it is given.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        self._version = self._now()

    def _now(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def seen(self) -> bool:
        try:
            before, self._version = self._version, self._now()
        except sqlite3.OperationalError:  # Locked just now: whoever locks it will commit.
            return True
        except sqlite3.Error as error:
            raise CannotSee(str(error)) from error
        return before != self._version

    def by_others(self, connection: Connection) -> Collection[int] | None:
        version = connection.exec_driver_sql("PRAGMA data_version").scalar()
        before = connection.info.get(_VERSION)
        connection.info[_VERSION] = version
        return () if version == before else None

    def close(self) -> None:
        self._connection.close()


def forget(connection: Connection) -> None:
    """What this connection commits now is news, too, though it may be the one that SqliteCommits asks the next time."""
    connection.info.pop(_VERSION, None)


class PostgresqlCommits:
    """See :class:`Commits`. A thread with a connection of its own listens."""

    def __init__(self, engine: Engine, own: str, wake: Callable[[], None], poll_s: float) -> None:
        """Returns when it listens, so that no later commit is missed.

        :param own: what our own notifications say, which are no news.
        :param wake: called in the thread when there is something to be seen.
        :raises CannotSee: it cannot listen.
        """
        self._engine = engine
        self._own = own
        self._wake = wake
        self._poll_s = max(poll_s, _LOOK_S)
        self._seen = False
        self._about: set[int] | None = None  # Builders, of commits by others; None: nobody knows which.
        self._lock = threading.Lock()  # Over these two.
        self._trouble: str | None = None
        self._ended = threading.Event()
        try:
            connection = self._connect()
        except (SQLAlchemyError, SecretRefused) as error:
            raise CannotSee(engines.words(error)) from error
        threading.Thread(target=self._run, args=(connection,), name="commits", daemon=True).start()

    def seen(self) -> bool:
        if self._trouble is not None:
            raise CannotSee(self._trouble)
        with self._lock:
            seen, self._seen = self._seen, False
        return seen

    def by_others(self, connection: Connection) -> Collection[int] | None:
        with self._lock:
            about, self._about = self._about, set()
        return about

    def close(self) -> None:
        """Look no longer. The thread notices soon."""
        self._ended.set()

    def _connect(self) -> Connection:
        """A connection that listens, and is not the pool's."""
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        return connection

    def _run(self, connection: Connection) -> None:
        import psycopg  # noqa: PLC0415 - who uses SQLite need not have it.

        while not self._ended.is_set():
            try:
                with connection:
                    self._listen(connection)
            except (SQLAlchemyError, SecretRefused, psycopg.Error) as error:
                self._trouble = engines.words(error)
                self._tell()
                again = self._connect_again()
                if again is None:
                    return
                connection = again

    def _connect_again(self) -> Connection | None:
        """Try until it works, or nobody looks any more. What was committed meanwhile nobody knows, so that something
        was is what is told."""
        while not self._ended.wait(_TRY_AGAIN_S):
            try:
                connection = self._connect()
            except (SQLAlchemyError, SecretRefused) as error:
                self._trouble = engines.words(error)
            else:
                self._trouble = None
                self._tell()
                return connection
        return None

    def _listen(self, connection: Connection) -> None:
        driver: psycopg.Connection[tuple[object, ...]] = connection.connection.dbapi_connection  # type: ignore
        with self._engine.begin() as another:
            another.execute(_NOTIFY, {"channel": CHANNEL, "payload": _HELLO})
        works, before = False, ""
        while not self._ended.is_set():
            told = [notice.payload for notice in driver.notifies(timeout=self._poll_s, stop_after=1)]
            works = works or bool(told)
            now = before if works else _running(connection)
            if now != before:
                self._tell()
            before = now
            for own, _, about in (payload.partition(" ") for payload in told):
                if own not in (self._own, _HELLO):
                    self._tell(int(about) if _ID.fullmatch(about) else None)

    def _tell(self, about: int | None = None) -> None:
        """Something is to be seen; about this builder, or nobody knows what about."""
        with self._lock:
            self._seen = True
            if about is None:
                self._about = None
            elif self._about is not None:
                self._about.add(about)
        if not self._ended.is_set():
            with suppress(RuntimeError):
                self._wake()


_ID = re.compile("[0-9]{1,18}")  # Other words are of another version of ours, or anybody's.
_HELLO = "hello"  # Sent to ourselves, to see whether notifications come through; no news.
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")
_NOTIFY_OF_CHANGES = text(f"{_NOTIFY} WHERE pg_current_xact_id_if_assigned() IS NOT NULL")


def notify(connection: Connection, own: str, about: int | None) -> None:
    """Have a writing transaction of PostgreSQL tell of itself when it commits; one that changed nothing does not.

    :param own: who makes it.
    :param about: the only builder that it concerns; None: nobody knows.
    """
    payload = own if about is None else f"{own} {about}"
    connection.execute(_NOTIFY_OF_CHANGES, {"channel": CHANNEL, "payload": payload})


def _running(connection: Connection) -> str:
    """Which transactions run, and which is the next: other words after each commit."""
    return str(connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar())
