"""The master as a service: puts its parts together on the global reactor, starts them, and ends them on a signal."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from buildd.systemd import Systemd
from buildmaster import credentials
from buildmaster.archive_server import archive_site
from buildmaster.blame import Patience
from buildmaster.builder_client import Timeouts
from buildmaster.builder_http import BuilderHttp
from buildmaster.collecting import Collector
from buildmaster.config import MasterConfig
from buildmaster.credentials import Access
from buildmaster.examiner import Examiner
from buildmaster.farm import Farm, only_master
from buildmaster.fetching import Limits
from buildmaster.file_server import file_site
from buildmaster.fleet import Fleet
from buildmaster.leases import Leases
from buildmaster.notifying import Notifier, NotifySettings
from buildmaster.pacing import Pace
from buildmaster.publishing.publication import Press
from buildmaster.publishing.publisher import Publisher
from buildmaster.resetting import ResetSettings
from buildmaster.running_log import RunningLogs
from buildmaster.secrets import Secrets
from buildmaster.snapshot import Snapshot
from buildmaster.uploading.http import take_uploads
from buildmaster.uploading.reception import Reception
from buildmaster.workshop import WorkSettings, make_work

log = Logger()


class CannotListen(Exception):
    """An address of the master's cannot be had; the message says which, and why."""


def run(config: MasterConfig) -> None:
    """Run the master in the foreground until SIGTERM or SIGINT. Builds go on, and are found again at the next start.

    :raises NoFarm: there is no farm in the configured directory.
    :raises MasterRuns: another master runs on it.
    :raises CannotListen: another program has an address of ours.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - the one place.

    with only_master(config.places):
        farm = Farm.open(config.places)
        try:
            _run(config, farm, reactor)
        finally:
            farm.close()


def _run(config: MasterConfig, farm: Farm, reactor: Any) -> None:
    master = Master(config, farm, reactor)
    failures: list[BaseException] = []

    def failed(failure: Any) -> None:
        failures.append(failure.value)
        with suppress(ReactorNotRunning):
            reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(master.start()).addErrback(failed))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(master.stop()))
    reactor.run()
    if failures:
        raise failures[0]


def _settings(config: MasterConfig) -> WorkSettings:
    return WorkSettings(
        timeouts=Timeouts(
            config.rpc_timeout_s,
            config.fetch_timeout_s,
            config.download_silence_s,
            patience=Patience(config.gone_after_s, config.silent_after_s),
        ),
        limits=Limits(
            attempts=config.download_attempts,
            file_bytes=config.file_limit_bytes,
            log_bytes=config.log_limit_bytes,
        ),
        cancel_timeout_s=config.cancel_timeout_s,
        build_timeout_s=config.build_timeout_s,
        send_ahead_bytes=config.send_ahead_bytes,
        resets=ResetSettings(
            config.reset_command, config.reset_asynchronous, config.reset_timeout_s, config.cleaning_timeout_s
        ),
        looks=config.looks,
    )


def _uptime_s() -> float:
    """Seconds; unlike time.monotonic() it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _notify_settings(config: MasterConfig) -> NotifySettings:
    """:raises SecretRefused: there is a user for the mail server, and no password."""
    password = Secrets(config.secrets_directory).read("smtp-password") if config.smtp_user else ""
    return NotifySettings(
        smtp_host=config.smtp_host,
        smtp_port=config.smtp_port,
        smtp_tls=config.smtp_tls,
        smtp_user=config.smtp_user,
        smtp_password=password,
        sender=config.sender,
        command=config.notify_command,
        timeout_s=config.notify_timeout_s,
    )


@dataclass(frozen=True)
class _Parts:
    """What runs while the master does."""

    snapshot: Snapshot
    fleet: Fleet
    notifier: Notifier
    examiner: Examiner | None  # None: build-dependencies are not looked at.
    publisher: Publisher
    collector: Collector
    http: BuilderHttp
    reception: Reception
    ports: Sequence[Any]  # Each an IListeningPort.


class Master:
    """A running master."""

    def __init__(self, config: MasterConfig, farm: Farm, reactor: Any) -> None:
        """:param reactor: see ports.IMasterReactor."""
        self._config = config
        self._farm = farm
        self._reactor = reactor
        self._parts: _Parts | None = None
        self._systemd = Systemd(reactor)

    async def start(self) -> None:
        """Serve the store, and begin to scan.

        :raises CannotListen: the port is taken.
        """
        self._farm.start(self._reactor)
        swept = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._farm.store.sweep)
        if swept:
            log.info("removed {swept} files that an earlier master had not finished", swept=swept)
        parts = self._parts = self._put_together()
        await parts.snapshot.start()
        running = frozenset(one.job.build_id for one in parts.snapshot.builders.values() if one.job is not None)
        RunningLogs(self._farm, self._reactor, self._config.log_limit_bytes).sweep(running)
        await parts.fleet.start()
        parts.notifier.start()
        if parts.examiner is not None:
            parts.examiner.start()
        parts.publisher.start()
        parts.collector.start()
        await parts.reception.start()
        files, archives, *more = (f"{port.getHost().host}:{port.getHost().port}" for port in parts.ports)
        log.info(
            "the farm in {directory} runs; files at {files}, archives at {archives}{uploads}",
            directory=self._farm.directory,
            files=files,
            archives=archives,
            uploads=f", uploads as well at {', '.join(more)}" if more else "",
        )
        self._systemd.ready()

    def _listen(self, section: str, host: str, port: int, site: Any, key: str = "port") -> Any:
        """The port that was got, an IListeningPort.

        :param section: of buildmaster.conf, where the key is.
        """
        try:
            return self._reactor.listenTCP(port, site, interface=host)
        except CannotListenError as error:
            why = error.socketError.strerror or error.socketError
            raise CannotListen(
                f"cannot listen at {host}:{port}: {why}. [{section}] {key} in buildmaster.conf names another; 0 takes "
                "a free one"
            ) from error

    def _put_together(self) -> _Parts:
        config, farm, reactor = self._config, self._farm, self._reactor
        secret = Secrets(config.secrets_directory).keep(credentials.SECRET, credentials.new_secret())
        files = self._listen("files", config.host, config.port, file_site(farm.store, reactor))
        site = archive_site(farm, reactor, config.archives_directory, secret, config.url_for_archives)
        reception = Reception(farm, reactor, config.terms, time.time)
        take_uploads(site, reception)
        archives = self._listen("archives", config.archives_host, config.archives_port, site)
        access = Access(config.url_for_archives(archives.getHost().port), secret)
        http = BuilderHttp(reactor)
        snapshot = Snapshot(farm, reactor, config.database_poll_s)
        url = config.url_for_builders(files.getHost().port)
        name = f"{socket.gethostname()}:{os.getpid()}"
        alone = farm.places.file is not None
        leases = Leases(farm, snapshot, reactor, _uptime_s, name=name, lease_s=config.lease_s, alone=alone)
        settings = _settings(config)
        work = make_work(farm, reactor, snapshot, http, leases, files_url=url, settings=settings, archives=access)
        fleet = Fleet(work, reactor, Pace(config.poll_fastest_s, config.poll_slowest_s))
        notifier = Notifier(farm, reactor, _notify_settings(config), time.time)
        examiner = Examiner(farm, reactor, snapshot, config.archive_poll_s, proxy=config.archive_proxy, archives=access)
        press = Press(farm, config.archives_directory, Secrets(config.secrets_directory), time.time)
        publisher = Publisher(farm, reactor, snapshot, press)
        collector = Collector(farm, reactor, config.store_collect_s)
        looks = examiner if config.looks else None
        ports = (files, archives, *self._listen_for_uploads(reception))
        return _Parts(snapshot, fleet, notifier, looks, publisher, collector, http, reception, ports)

    def _listen_for_uploads(self, reception: Reception) -> list[Any]:
        """The ports that files of uploads come to, beside that of the archives; each an IListeningPort."""
        config, found = self._config, []
        if config.ftp_port is not None:
            from buildmaster.uploading.ftp import ftp_factory  # noqa: PLC0415 - it imports the global reactor.

            ftp = ftp_factory(reception, self._reactor, config.ftp_passive_ports, config.ftp_address)
            found.append(self._listen("uploads", config.uploads_host, config.ftp_port, ftp, "ftp_port"))
        if config.sftp_port is not None:
            from buildmaster.uploading.ssh import sftp_factory  # noqa: PLC0415 - so does this.

            sftp = sftp_factory(reception, Secrets(config.secrets_directory))
            found.append(self._listen("uploads", config.uploads_host, config.sftp_port, sftp, "sftp_port"))
        return found

    async def stop(self) -> None:
        """End all of it, in reverse. What builders do goes on."""
        self._systemd.stopping()
        parts, self._parts = self._parts, None
        if parts is None:
            return
        log.info("the master ends")
        parts.snapshot.stop()
        parts.notifier.stop()
        await parts.collector.stop()
        await parts.publisher.stop()
        parts.reception.stop()
        if parts.examiner is not None:
            await parts.examiner.stop()
        await parts.fleet.stop()
        for port in parts.ports:
            await port.stopListening()
        await parts.http.close()
