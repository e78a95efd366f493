"""A farm: the database and the store of one farm, and the folder in which they are.

DIRECTORY/farm.sqlite   the database (and its -wal and -shm)
DIRECTORY/store/        files by SHA-256
DIRECTORY/logs/         BUILDID.log: the growing copies of the logs of running builds
DIRECTORY/master.lock   locked by the master as long as it runs
"""

import fcntl
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from twisted.internet.interfaces import IReactorFromThreads

from buildmaster import distributions
from buildmaster.database import Commits, Database
from buildmaster.scoring import Pocket
from buildmaster.store import Store, StoredFile
from buildmaster.store.local import LocalStore

P = ParamSpec("P")
T = TypeVar("T")


class NoFarm(Exception):
    """There is no farm in this directory: make one with `buildmaster init`."""

    def __init__(self, directory: Path) -> None:
        init = f"buildmaster --dir {shlex.quote(str(directory))} init"
        super().__init__(f"there is no farm in {directory}: make one with `{init}`")
        self.directory = directory


class MasterRuns(Exception):
    """Another master runs on this farm: there can be one on each."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"another master runs on the farm in {directory}")
        self.directory = directory


@contextmanager
def only_master(directory: Path) -> Iterator[None]:
    """Be the one master of the farm in a directory; that ends with the process at the latest.

    Comes before Farm.open(), so that no tables are changed under a master that runs.

    :raises NoFarm: there is none.
    :raises MasterRuns: another master, in this process or another, runs on it.
    """
    if not _database_path(directory).exists():
        raise NoFarm(directory)
    with (directory / "master.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MasterRuns(directory) from None
        yield


class Farm:
    """One farm's state. Blocking, for commands and tests; after start() awaitable as well, for the master."""

    def __init__(self, directory: Path) -> None:
        """Use open() or create()."""
        self.directory = directory
        self.logs = directory / "logs"
        self.store: Store = LocalStore(directory / "store")
        self.database = Database(f"sqlite:///{_database_path(directory)}")

    @classmethod
    def create(cls, directory: Path) -> "Farm":
        """Make a farm in a directory, or open the one that is there. The directory is made, for its owner only."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        farm = cls(directory)
        farm.logs.mkdir(exist_ok=True)
        farm.database.migrate()
        return farm

    @classmethod
    def open(cls, directory: Path) -> "Farm":
        """Open the farm in a directory; its tables are brought up to date.

        :raises NoFarm: there is none.
        """
        if not _database_path(directory).exists():
            raise NoFarm(directory)
        return cls.create(directory)

    def transaction(self) -> AbstractContextManager[Connection]:
        """A writing transaction: committed at the end, rolled back by an exception. Blocks."""
        return self.database.transaction()

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads: one moment's view, which keeps no writer waiting. Blocks."""
        return self.database.reading()

    def start(self, reactor: IReactorFromThreads) -> None:
        """Begin the writer's thread for transact() and read()."""
        self.database.start(reactor)

    async def transact(
        self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run function(connection, ...) in a writing transaction, in the writer's thread; after start()."""
        return await self.database.transact(function, *args, **kwargs)

    async def transact_about(
        self, builder_id: int, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same, for a transaction that concerns no other builder than this, beside the queue."""
        return await self.database.transact_about(builder_id, function, *args, **kwargs)

    async def read(self, function: "Callable[Concatenate[Connection, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run function(connection, ...), which only reads, in the writer's thread; after start()."""
        return await self.database.read(function, *args, **kwargs)

    def commits(self) -> Commits:
        """Something that tells of commits by others; close it."""
        return Commits(_database_path(self.directory))

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
        with self.transaction() as connection:
            place = distributions.ensure(connection, distribution, series, architecture)
            return distributions.set_chroot(connection, place, stored, path.name, time.time(), pocket=pocket)

    def add_file(self, path: Path) -> StoredFile:
        """Put a file into the store. Blocks.

        :raises OSError: the file cannot be read, or the store is full.
        """
        with path.open("rb") as stream:
            return self.store.add(iter(lambda: stream.read(1 << 20), b""))

    def pause(self) -> None:
        """End the writer's thread; start() may follow, with another reactor."""
        self.database.pause()

    def close(self) -> None:
        """End the writer's thread and all connections."""
        self.database.stop()


def _database_path(directory: Path) -> Path:
    return directory / "farm.sqlite"
