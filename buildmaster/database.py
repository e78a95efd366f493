"""The farm's database: transactions, migrations, and the threads that they run in.

On SQLite all writing of a master goes through one thread, so that the reactor never waits for a disk and writers never
wait for each other's locks. On PostgreSQL there are several.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy
from sqlalchemy import URL, Connection, select, text
from sqlalchemy.exc import DBAPIError
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

import buildmaster.migrations
from buildmaster import commits, engines
from buildmaster.commits import Commits, PostgresqlCommits, SqliteCommits

_MIGRATIONS = Path(buildmaster.migrations.__file__).parent
_MIGRATIONS_TURN = 0x6D6967  # The advisory lock of who migrates, on PostgreSQL;
_MAKING_TURN = 0x6D616B  # and of who makes a farm of a backup.

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseLost(Exception):
    """The farm's database cannot be reached, and nothing was committed; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the farm's database cannot be reached: {why}")


class CommitUncertain(DatabaseLost):
    """The connection to the farm's database was lost during a commit: nobody knows whether all of it was done, or
    nothing."""

    def __init__(self, why: str) -> None:
        super().__init__(f"lost while it committed, so look whether that was done: {why}")


def is_trouble(error: Exception) -> bool:
    """Whether something failed because the database cannot be used now; once more, later, it may do."""
    return isinstance(error, DatabaseLost) or engines.is_at_its_end(error)


class NotEmpty(Exception):
    """There is a farm in this database already: a backup is restored to where none is, or to an empty one."""

    def __init__(self) -> None:
        super().__init__(" ".join(str(self.__doc__).split()))


class UnknownRevision(Exception):
    """What is to be restored was made by another version of debfarm, whose tables this one does not know."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"the tables are those of revision {revision[:40]!r}: made by a newer version of debfarm?")


class Database:
    """One farm's database. Blocking until start() is called, after which transact() may be awaited as well."""

    log = Logger()

    def __init__(self, url: URL, password: Callable[[], str] | None = None) -> None:
        """:param url: of engines.parse_url(), as is
        :param password: for engines.make_engine().
        """
        self.url = url
        self.engine = engines.make_engine(url, password)
        # Called in the reactor's thread after each transact(); with the builder that it was about, if one alone, and
        # what look() found of that at its end: None when it was not asked, or nobody knows what was committed.
        self.on_commit: Callable[[int | None, Any], None] = lambda _, __: None
        self.look: Callable[[Connection, int], Any] = lambda _, __: None
        self._on_server = url.get_backend_name() == engines.POSTGRESQL
        self._own = uuid.uuid4().hex  # What notifications of our own transact() say.
        self._reactor: IReactorFromThreads | None = None
        self._lost = False  # The last time that we used it.

    def is_made(self) -> bool:
        """Whether a farm was ever made in it."""
        return self._revision() is not None

    def migrate(self) -> None:
        """Bring the tables up to date, all or nothing. Harmless, and quick, when they are.

        Of several processes that want to, one does it, and the others wait for it.
        """
        if self._revision() == _newest_revision():
            return
        with self.transaction() as connection:
            if self._on_server:
                engines.wait_for_turn(connection, _MIGRATIONS_TURN)
            _upgrade(connection, "head")

    def _revision(self) -> str | None:
        """The newest migration that this database has seen."""
        with self.reading() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()

    def is_empty(self) -> bool:
        """Whether there is no row in it, whatever tables it may have."""
        with self.reading() as connection:
            return _is_empty(connection)

    @contextmanager
    def filling(self, revision: str) -> Iterator[Connection]:
        """A transaction on an empty database that has the tables of this revision, for somebody to fill; after that
        they are brought up to date. All or nothing.

        :raises UnknownRevision: it is newer than this version of ours.
        :raises NotEmpty: there is something in it.
        """
        if revision not in _revisions():
            raise UnknownRevision(revision)
        with self.transaction() as connection:
            if self._on_server:
                engines.wait_for_turn(connection, _MIGRATIONS_TURN)
            if not _is_empty(connection):
                raise NotEmpty
            old = sqlalchemy.MetaData()
            old.reflect(connection)
            old.drop_all(connection)
            _upgrade(connection, revision)
            yield connection
            _upgrade(connection, "head")

    @contextmanager
    def turn_to_make(self, busy: Exception) -> Iterator[None]:
        """Be the only one who makes a farm of a backup in it, as far as that is the database's to know: a file's
        directory is locked by who makes a farm.

        :raises busy: another does.
        """
        if not self._on_server:
            yield
            return
        alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with _telling(DatabaseLost), alone.connect() as connection:
            if not engines.try_turn(connection, _MAKING_TURN):
                raise busy
            yield

    @contextmanager
    def transaction(self, *, told: bool = True) -> Iterator[Connection]:
        """A writing transaction: committed at the end, rolled back by an exception. Blocks.

        :param told: others are to be told of it, where the database tells.
        :raises DatabaseLost: it could not be carried out, or
        :raises CommitUncertain: nobody knows.
        """
        with self._transaction("" if told else None) as connection:
            yield connection

    def write(self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run function(connection, ...) in a writing transaction, and once more as transact() does. Blocks.

        :raises DatabaseLost: it could not be carried out, or
        :raises CommitUncertain: nobody knows.
        """

        def run() -> T:
            with self.transaction() as connection:
                return function(connection, *args, **kwargs)

        return _persist(run)

    @contextmanager
    def _transaction(self, own: str | None, about: int | None = None) -> Iterator[Connection]:
        with _telling(DatabaseLost), self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
                if self._on_server and own is not None:
                    commits.notify(connection, own, about)
            except BaseException:
                transaction.rollback()
                raise
            if own != self._own:
                commits.forget(connection)
            with _telling(CommitUncertain):
                transaction.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: one moment's view, which keeps no writer waiting. Blocks.

        :raises DatabaseLost: it could not be carried out.
        """
        options: dict[str, Any] = engines.READING if self._on_server else {"reads": True}
        with _telling(DatabaseLost), self.engine.connect().execution_options(**options) as connection:
            yield connection

    def start(self, reactor: IReactorFromThreads) -> None:
        """Begin the threads, which hand their results to this reactor."""
        self._reactor = reactor
        self._threads = ThreadPool(1, engines.THREADS if self._on_server else 1, name="database")
        self._threads.start()

    async def transact(
        self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run function(connection, ...) in a writing transaction, in a thread; start() came before.

        Once more, from the start, when other transactions were in its way, or the connection was lost and nothing
        committed. So it does nothing but what its connection does.

        :raises DatabaseLost: it could not be carried out, or
        :raises CommitUncertain: nobody knows.
        """
        return await self._transact(None, lambda connection: function(connection, *args, **kwargs))

    async def transact_about(
        self, builder_id: int, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same, for a transaction that concerns no other builder than this; beside the queue."""
        return await self._transact(builder_id, lambda connection: function(connection, *args, **kwargs))

    async def _transact(self, about: int | None, function: Callable[[Connection], T]) -> T:
        reactor = self._started()

        def committed(seen: Any) -> None:
            # By the thread, since whoever wanted it may be cancelled meanwhile; before he hears of it, if he is not.
            reactor.callFromThread(lambda: self.on_commit(about, seen))

        def run() -> T:
            seen = None
            try:
                with self._transaction(self._own, about) as connection:
                    result = function(connection)
                    if about is not None:
                        seen = self.look(connection, about)
            except CommitUncertain:
                committed(None)
                raise
            committed(seen)
            return result

        return await self._in_thread(run)

    async def read(self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run function(connection, ...), which only reads, in a thread; start() came before.

        :raises DatabaseLost: it could not be carried out.
        """

        def run() -> T:
            with self.reading() as connection:
                return function(connection, *args, **kwargs)

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        try:
            result: T = await deferToThreadPool(self._started(), self._threads, _persist, run)
        except DatabaseLost as error:
            if not self._lost:
                self.log.error("{error}; trying again", error=error)
            self._lost = True
            raise
        if self._lost:
            self.log.info("the farm's database can be reached again")
        self._lost = False
        return result

    def _started(self) -> IReactorFromThreads:
        """The reactor, after start()."""
        if self._reactor is None:
            raise RuntimeError("the database's threads do not run: start() comes first, and stop() last")
        return self._reactor

    def commits(self, wake: Callable[[], None], poll_s: float) -> Commits:
        """Something that tells of commits by others; close it.

        :param wake: called in the reactor's thread, after start(), when there may be something to be seen; where the
            database tells, and need not be asked.
        :param poll_s: how often to look whether nothing was missed, where that is so.
        :raises CannotSee: the database cannot be reached.
        """
        if not self._on_server:
            return SqliteCommits(Path(str(self.url.database)))
        reactor = self._reactor
        tell = wake if reactor is None else lambda: reactor.callFromThread(wake)
        return PostgresqlCommits(self.engine, self._own, tell, poll_s)

    def pause(self) -> None:
        """End the threads once they have done what they were given; start() may follow, with another reactor."""
        if self._reactor is not None:
            self._reactor = None
            self._threads.stop()

    def stop(self) -> None:
        """End the threads once they have done what they were given, and every connection."""
        self.pause()
        self.engine.dispose()


def _persist(run: Callable[[], T]) -> T:
    """run(), and once more when that may help."""
    pauses = [0.0, 0.01, 0.03, 0.1, 0.3, 1.0]
    for pause_s in pauses:
        try:
            return run()
        except CommitUncertain:
            raise
        except (DatabaseLost, DBAPIError) as error:
            if not isinstance(error, DatabaseLost) and not engines.was_in_the_way(error):
                raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # Not in step with whom it was in the way of.
    return run()


@contextmanager
def _telling(lost: type[DatabaseLost]) -> Iterator[None]:
    """Tell of a lost connection as what it is."""
    try:
        yield
    except DBAPIError as error:
        if not engines.was_lost(error):
            raise
        raise lost(engines.words(error)) from error


def _upgrade(connection: Connection, revision: str) -> None:
    import alembic.command  # noqa: PLC0415 - takes longer to import than most commands take to run.
    import alembic.config  # noqa: PLC0415

    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, revision)


def _is_empty(connection: Connection) -> bool:
    names = set(sqlalchemy.inspect(connection).get_table_names()) - {"alembic_version"}
    tables = [sqlalchemy.table(name) for name in names]
    return all(connection.execute(select(1).select_from(table).limit(1)).first() is None for table in tables)


def _revisions() -> set[str]:
    """The names of all migrations: those of their modules, up to the underscore."""
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def _newest_revision() -> str:
    return max(_revisions())
