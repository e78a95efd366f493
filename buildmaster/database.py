"""The farm's database: connections, transactions, migrations.

SQLite as it must be used by several processes at once: WAL, every writing transaction begun with BEGIN IMMEDIATE (with
the default BEGIN, three processes recorded 1,641 claims for 1,500 jobs), a busy timeout, foreign keys on. Inside the
master all writing goes through one thread, so that the reactor never waits for a disk and writers never wait for each
other's locks.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, event, text
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

import buildmaster.migrations

BUSY_TIMEOUT_S = 30.0  # How long to wait for another process' transaction.

_MIGRATIONS = Path(buildmaster.migrations.__file__).parent

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """One farm's database. Blocking until start() is called, after which transact() may be awaited as well."""

    def __init__(self, url: str) -> None:
        """:param url: as SQLAlchemy takes it."""
        self.url = url
        self.engine = _sqlite_engine(url) if url.startswith("sqlite") else sqlalchemy.create_engine(url)
        # Called in the reactor's thread after each transact(); with the builder that it was about, if one alone.
        self.on_commit: Callable[[int | None], None] = lambda _: None
        self._reactor: IReactorFromThreads | None = None

    def migrate(self) -> None:
        """Bring the tables up to date, all or nothing. Harmless, and quick, when they are."""
        if self._revision() == _newest_revision():
            return
        import alembic.command  # noqa: PLC0415 - takes longer to import than most commands take to run.
        import alembic.config  # noqa: PLC0415

        config = alembic.config.Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self.transaction() as connection:
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    def _revision(self) -> str | None:
        """The newest migration that this database has seen."""
        with self.reading() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A writing transaction: committed at the end, rolled back by an exception. Blocks."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: one moment's view, which keeps no writer waiting. Blocks."""
        with self.engine.connect().execution_options(reads=True) as connection:
            yield connection

    def start(self, reactor: IReactorFromThreads) -> None:
        """Begin the writer's thread, which hands its results to this reactor."""
        self._reactor = reactor
        self._thread = ThreadPool(1, 1, name="database")
        self._thread.start()

    async def transact(
        self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run function(connection, ...) in a writing transaction, in the writer's thread; start() came before."""
        return await self._transact(None, lambda connection: function(connection, *args, **kwargs))

    async def transact_about(
        self, builder_id: int, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same, for a transaction that concerns no other builder than this; beside the queue."""
        return await self._transact(builder_id, lambda connection: function(connection, *args, **kwargs))

    async def _transact(self, about: int | None, function: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.transaction() as connection:
                return function(connection)

        result = await self._in_thread(run)
        self.on_commit(about)
        return result

    async def read(self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run function(connection, ...), which only reads, in the writer's thread; start() came before."""

        def run() -> T:
            with self.reading() as connection:
                return function(connection, *args, **kwargs)

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        if self._reactor is None:
            raise RuntimeError("the database's thread does not run: start() comes first, and stop() last")
        result: T = await deferToThreadPool(self._reactor, self._thread, run)
        return result

    def pause(self) -> None:
        """End the writer's thread once it has done what it was given; start() may follow, with another reactor."""
        if self._reactor is not None:
            self._reactor = None
            self._thread.stop()

    def stop(self) -> None:
        """End the writer's thread once it has done what it was given, and every connection."""
        self.pause()
        self.engine.dispose()


class Commits:
    """Tells whether another connection, of this process or another, has committed since the last look. SQLite only."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        self._version = self._now()

    def _now(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def seen(self) -> bool:
        """Whether there was a commit; costs microseconds, so the reactor's own thread may ask."""
        try:
            before, self._version = self._version, self._now()
        except sqlite3.OperationalError:  # Locked just now: whoever locks it will commit.
            return True
        return before != self._version

    def close(self) -> None:
        self._connection.close()


def _newest_revision() -> str:
    """The name of the last migration: that of its module, up to the underscore."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _sqlite_engine(url: str) -> Engine:
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})

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
