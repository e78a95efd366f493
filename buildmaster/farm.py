"""A farm: the database and the store of one farm, and where they are.

DIRECTORY/farm.sqlite   the database (and its -wal and -shm), where it is not a server's
DIRECTORY/store/        files by SHA-256, where they are not an S3 server's
DIRECTORY/spool/        what is on its way there; its files have no names
DIRECTORY/logs/         BUILDID.log: the growing copies of the logs of running builds
DIRECTORY/master.lock   locked by the master as long as it runs; so is NAME.lock beside a database NAME elsewhere
"""

import fcntl
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection
from twisted.internet.interfaces import IReactorFromThreads

from buildmaster import distributions, engines
from buildmaster.commits import Commits
from buildmaster.database import CommitUncertain, Database
from buildmaster.scoring import Pocket
from buildmaster.secrets import Secrets
from buildmaster.store import Store, StoredFile
from buildmaster.store.local import LocalStore
from buildmaster.store.s3 import Bucket, Credentials, S3Store

P = ParamSpec("P")
T = TypeVar("T")

_DATABASE = "farm.sqlite"


@dataclass(frozen=True)
class Places:
    """Where a farm is."""

    directory: Path
    database_url: str = ""  # As engines.parse_url() takes it; "": SQLite, in the directory.
    database_secret: str = ""  # The name of the secret that is its password; "": it asks for none.
    secrets: Path = Path("secrets")  # Relative: to the directory.
    bucket: Bucket | None = None  # Of an S3 server, with the files; None: a folder in the directory.

    @property
    def url(self) -> URL:
        """The database's URL, without a password.

        :raises engines.BadUrl: it is none.
        """
        if self.database_url:
            return engines.parse_url(self.database_url)
        return URL.create(engines.SQLITE, database=str(self.directory / _DATABASE))

    @property
    def file(self) -> Path | None:
        """The database, where it is a file of this machine's."""
        url = self.url
        return Path(str(url.database)) if url.get_backend_name() == engines.SQLITE else None

    @property
    def words(self) -> str:
        """Where the database is, for people."""
        if self.file is None:
            return f"the database {self.url.set(drivername=self.url.get_backend_name())}"
        return str(self.directory)

    def password(self) -> str:
        """The database's password.

        :raises SecretRefused: it cannot be used.
        """
        return Secrets(self.directory / self.secrets).read(self.database_secret)

    def store(self) -> Store:
        """The farm's files. Nothing is asked of a server, nor made on the disk, before it is used."""
        if self.bucket is None:
            return LocalStore(self.directory / "store")
        return S3Store(self.bucket, self._credentials, self.directory / "spool")

    def _credentials(self) -> Credentials:
        """:raises SecretRefused: one cannot be used."""
        secrets = Secrets(self.directory / self.secrets)
        return Credentials(secrets.read("s3-access-key"), secrets.read("s3-secret-key"))


class NoFarm(Exception):
    """There is no farm in this place: make one with `buildmaster init`."""

    def __init__(self, places: Places) -> None:
        how = f"`buildmaster --dir {shlex.quote(str(places.directory))} init`"
        if places.file is None:  # The configuration says so; where that is, nobody told us.
            how = "`buildmaster init`, with the same configuration"
        super().__init__(f"there is no farm in {places.words}: make one with {how}")
        self.places = places


class MasterRuns(Exception):
    """Another master runs on this farm: on SQLite there can be one on each."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"another master runs on the farm in {directory}")
        self.directory = directory


class FarmBusy(Exception):
    """A backup is restored to this place already, or a master runs there; two at once would spoil it."""

    def __init__(self, places: Places) -> None:
        super().__init__(f"another restore, or a master, is at work on {places.words}: wait for its end, or end it")
        self.places = places


@contextmanager
def only_master(where: Places | Path) -> Iterator[None]:
    """Be a master of a farm: on SQLite the only one, on PostgreSQL one of several, who may share a directory.

    Ends with the process at the latest. Comes before Farm.open(), so that no tables of SQLite's are changed under a
    master that runs.

    :raises NoFarm: there is none.
    :raises MasterRuns: another master, in this process or another, runs on it.
    """
    places = _places(where)
    if places.file is not None and not places.file.exists():
        raise NoFarm(places)
    places.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(places, fcntl.LOCK_EX if places.file else fcntl.LOCK_SH, MasterRuns(places.directory)):
        yield


@contextmanager
def only_maker(places: Places) -> Iterator[None]:
    """Be the only one who makes a farm in these places: no master runs there, and nobody else makes one.

    The directory is made; if it was not there, it is removed again, with all that is in it, when this ends by an error
    after which there is no farm for certain.
    The turn ends with the process at the latest.

    :raises FarmBusy: somebody else is at work there.
    """
    busy = FarmBusy(places)
    try:
        places.directory.mkdir(mode=0o700, parents=True)
        was_there = False
    except FileExistsError:
        was_there = True
    with _locked(places, fcntl.LOCK_EX, busy):
        database = _database(places)
        try:
            with database.turn_to_make(busy):
                yield
        except CommitUncertain:  # There may be a farm now.
            raise
        except BaseException:
            if not was_there:
                shutil.rmtree(places.directory, ignore_errors=True)
            raise
        finally:
            database.stop()


@contextmanager
def _locked(places: Places, how: int, busy: Exception) -> Iterator[None]:
    """Lock a farm's places.

    :raises busy: somebody else has; or had a moment ago, and has removed them.
    """
    with ExitStack() as streams:
        for lock in _locks(places):
            stream = streams.enter_context(lock.open("a"))
            try:
                fcntl.flock(stream, how | fcntl.LOCK_NB)
                still_there = os.path.samestat(os.fstat(stream.fileno()), lock.stat())
            except (BlockingIOError, FileNotFoundError):
                still_there = False
            if not still_there:
                raise busy
        yield


def _locks(places: Places) -> set[Path]:
    """The files that a master locks: one in its directory, and, of an SQLite database elsewhere, one beside that."""
    locks = {places.directory.resolve() / "master.lock"}
    if places.file is not None:
        file = places.file.resolve()
        locks.add(file.with_name("master.lock" if file.name == _DATABASE else f"{file.name}.lock"))
    return locks


def _database(places: Places) -> Database:
    return Database(places.url, places.password if places.database_secret else None)


def _exists(places: Places) -> bool:
    """Whether a farm was made there."""
    if places.file is not None:
        return places.file.exists()
    database = _database(places)
    try:
        return database.is_made()
    finally:
        database.stop()


def _places(where: Places | Path) -> Places:
    return Places(where) if isinstance(where, Path) else where


class Farm:
    """One farm's state. Blocking, for commands and tests; after start() awaitable as well, for the master."""

    def __init__(self, places: Places) -> None:
        """Use open() or create()."""
        self.places = places
        self.directory = places.directory
        self.logs = self.directory / "logs"
        self.store = places.store()
        self.database = _database(places)

    @classmethod
    def create(cls, where: Places | Path) -> "Farm":
        """Make a farm, or open the one that is there. The directory is made, for its owner only.

        :param where: a Path: all of it is in this directory.
        """
        places = _places(where)
        places.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        farm = cls(places)
        farm.logs.mkdir(exist_ok=True)
        farm.database.migrate()
        return farm

    @classmethod
    def open(cls, where: Places | Path) -> "Farm":
        """Open a farm; its tables are brought up to date. On PostgreSQL, its directory is made where it is not.

        :param where: a Path: all of it is in this directory.
        :raises NoFarm: there is none.
        """
        places = _places(where)
        if not _exists(places):
            raise NoFarm(places)
        return cls.create(places)

    @property
    def is_shared(self) -> bool:
        """Whether masters on several machines may be at work on it."""
        return self.places.file is None

    def transaction(self, *, told: bool = True) -> AbstractContextManager[Connection]:
        """A writing transaction: committed at the end, rolled back by an exception. Blocks; tried once.

        :param told: it is of interest to other processes.
        """
        return self.database.transaction(told=told)

    def write(self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run function(connection, ...) in a writing transaction, as transact() does, here and now: for commands.
        Blocks."""
        return self.database.write(function, *args, **kwargs)

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads: one moment's view, which keeps no writer waiting. Blocks."""
        return self.database.reading()

    def start(self, reactor: IReactorFromThreads) -> None:
        """Begin the database's threads for transact() and read()."""
        self.database.start(reactor)

    async def transact(
        self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run function(connection, ...) in a writing transaction, in one of the database's threads; after start()."""
        return await self.database.transact(function, *args, **kwargs)

    async def transact_about(
        self, builder_id: int, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same, for a transaction that concerns no other builder than this, beside the queue."""
        return await self.database.transact_about(builder_id, function, *args, **kwargs)

    async def read(self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run function(connection, ...), which only reads, in one of the database's threads; after start()."""
        return await self.database.read(function, *args, **kwargs)

    def commits(self, wake: Callable[[], None] = lambda: None, poll_s: float = 0.5) -> Commits:
        """Something that tells of commits by others; see Database.commits()."""
        return self.database.commits(wake, poll_s)

    def log_path(self, build_id: int) -> Path:
        """Where the log of a running build grows. The file may not exist."""
        return self.logs / f"{build_id}.log"

    def add_chroot(
        self, distribution: str, series: str, architecture: str, path: Path, *, pocket: Pocket = Pocket.RELEASE
    ) -> int:
        """Store a chroot tarball and give it to an architecture of a series, or to a pocket of it; these are added as
        needed. Blocks.

        :returns: how many builds that waited for it are in the queue now.
        :raises DistributionRefused: one of them can have no such name.
        :raises OSError: the file cannot be read, or the store is full.
        """
        stored = self.add_file(path)

        def add(connection: Connection) -> int:
            place = distributions.ensure(connection, distribution, series, architecture)
            return distributions.set_chroot(connection, place, stored, path.name, time.time(), pocket=pocket)

        return self.write(add)

    def add_file(self, path: Path) -> StoredFile:
        """Put a file into the store. Blocks.

        :raises OSError: the file cannot be read, or the store is full.
        """
        with path.open("rb") as stream:
            return self.store.add(iter(lambda: stream.read(1 << 20), b""))

    def pause(self) -> None:
        """End the database's threads; start() may follow, with another reactor."""
        self.database.pause()

    def close(self) -> None:
        """End the database's threads and all connections."""
        self.database.stop()
