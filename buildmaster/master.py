"""BuilddMaster: a farm's builders scanned on demand, by who has no reactor of his own: a script, a doctest."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger, STDLibLogObserver

from buildmaster import builders as farm_builders
from buildmaster import masters
from buildmaster.builder_http import BuilderHttp
from buildmaster.distro_series import DistroArchSeries
from buildmaster.farm import Farm, MasterRuns, only_master
from buildmaster.file_server import file_site
from buildmaster.leases import Leases, Tenure, Unshared
from buildmaster.scanner import Scanner
from buildmaster.snapshot import Snapshot
from buildmaster.workshop import WorkSettings, make_work

T = TypeVar("T")


class ReactorEnded(Exception):
    """The reactor that the builders were scanned on ended before the scan did: nobody knows how far that came."""

    def __init__(self) -> None:
        super().__init__("the reactor ended before the scan of the builders did; its own traceback is on stderr")


class BuilddMaster:
    """Scans builders when it is told to. Blocking; no reactor need run, and none is left running.

    Holds the farm's lock while it scans, as any master does.
    """

    def __init__(self, logger: logging.Logger, store: Farm, settings: WorkSettings | None = None) -> None:
        """:param logger: what happens to builder NAME is logged by its child `builders.NAME`.
        :param store: the farm: its database and the store of its files.
        """
        self._logger = logger
        self._farm = store
        self._settings = settings or WorkSettings()
        self._architectures: list[DistroArchSeries] = []
        self._builders: dict[int, str] = {}  # Id to name.

    def addDistroArchSeries(self, das: DistroArchSeries) -> None:
        """Make an architecture of a series known, for setupBuilders()."""
        if das not in self._architectures:
            self._architectures.append(das)

    def setupBuilders(self, das: DistroArchSeries) -> None:
        """Take on the builders that build for an architecture; those that are out of service too.

        :raises ValueError: the architecture is not known here: addDistroArchSeries() comes first.
        """
        if das not in self._architectures:
            raise ValueError(f"{das.architecturetag} of {das.distroseries.name} was not added")
        with self._farm.reading() as connection:
            for vitals in farm_builders.vitals(connection).values():
                if vitals.architecture == das.architecturetag:
                    self._builders[vitals.id] = vitals.name

    def scanActiveBuilders(self) -> None:
        """Scan each builder that was set up once: one step, as scanner.py tells. Blocks until all are done.

        :raises MasterRuns: a master runs on this farm, and does it.
        """
        with only_master(self._farm.places):
            self._refuse_company()
            _on_a_reactor(self._scan)

    def _refuse_company(self) -> None:
        with self._farm.reading() as connection:
            if self._farm.places.file is None and masters.is_anyone_heard(connection):
                raise MasterRuns(self._farm.directory)

    async def _scan(self, reactor: Any) -> None:
        self._farm.start(reactor)
        http = BuilderHttp(reactor)
        port = reactor.listenTCP(0, file_site(self._farm.store, reactor), interface="127.0.0.1")
        snapshot = Snapshot(self._farm, reactor, poll_s=0.5)
        tenure = self._tenure(snapshot, reactor)
        try:
            await snapshot.take()
            await tenure.seize()
            url = f"http://127.0.0.1:{port.getHost().port}"
            work = make_work(self._farm, reactor, snapshot, http, tenure, files_url=url, settings=self._settings)
            for builder_id, name in sorted(self._builders.items(), key=lambda item: item[1]):
                await Scanner(builder_id, work, self._log(name)).scan()
        finally:
            await tenure.stop()
            await port.stopListening()
            await http.close()
            self._farm.pause()

    def _tenure(self, snapshot: Snapshot, reactor: Any) -> Tenure:
        """Who holds the lock of a farm on SQLite is alone; on PostgreSQL others elsewhere are to know of us."""
        if self._farm.places.file is not None:
            return Unshared(self._farm)
        name = f"{socket.gethostname()}:{os.getpid()}"
        return Leases(self._farm, snapshot, reactor, time.monotonic, name=name, lease_s=0.0, alone=True)

    def _log(self, name: str) -> Logger:
        name = f"{self._logger.name}.builders.{name}"
        return Logger(namespace=name, observer=STDLibLogObserver(name))


def _on_a_reactor(work: Callable[[Any], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Run a coroutine on a reactor of its own, in a thread of its own, and wait for it.

    The global reactor is left alone: it may run elsewhere, and could not be started a second time.
    """
    results: list[Any] = []
    thread = threading.Thread(target=_run_reactor, args=(work, results), name="BuilddMaster")
    thread.start()
    thread.join()
    if not results:
        raise ReactorEnded
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    returned: T = result
    return returned


def _run_reactor(work: Callable[[Any], Coroutine[Deferred[Any], Any, T]], results: list[Any]) -> None:
    reactor = EPollReactor()  # type: ignore[no-untyped-call]

    def begin() -> None:
        done = Deferred.fromCoroutine(work(reactor))
        done.addErrback(lambda failure: failure.value)
        done.addCallback(results.append)
        done.addCallback(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    try:
        reactor.run(installSignalHandlers=False)
    finally:
        _close(reactor)


def _close(reactor: Any) -> None:
    """Close what a reactor that has ended keeps open, since it expects to end with its process: epoll, and its waker's
    pipe."""
    for reader in reactor._internalReaders:
        reader.connectionLost(None)
    reactor._poller.close()
