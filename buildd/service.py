"""The daemon: its parts put together, started, and ended."""

import fcntl
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.web.resource import Resource

from buildd import __version__
from buildd.builder import Builder
from buildd.config import BuilddConfig
from buildd.enforcement import Enforcement
from buildd.fetching import Fetching
from buildd.filecache import FileCache
from buildd.fileserver import FileCacheResource
from buildd.isolation import IsolationFailure
from buildd.managers.base import BuildManager, InThread
from buildd.protocol import WAIT_MAX_S
from buildd.rpc import Methods, RPCResource
from buildd.systemd import Systemd
from buildd.web import Site

BuildTypes = Callable[[BuilddConfig, Any], Mapping[str, BuildManager]]

# No clock that is right says less: the program is not older.
EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
STOP_S: Final = 8.0  # For ending clean when told to end; whoever tells waits 10.
_STOP_HARD_S: Final = 9.5
_ANSWER_S: Final = 0.5

_in_thread = cast(InThread, deferToThread)

_log = Logger()


@dataclass(frozen=True)
class Logging:
    """What the daemon logs, and where to."""

    ours: LogLevel = LogLevel.info  # The least of our own messages.
    others: LogLevel = LogLevel.warn  # And of the libraries'.
    file: Path | None = None  # None: standard error.


class CannotStart(Exception):
    """The daemon cannot run here; the message says why, and what to do."""


def run(
    config: BuilddConfig, logging: Logging, build_types: BuildTypes | None = None, *, stop_s: float = STOP_S
) -> int:
    """Run the daemon until it is told to end.

    :param build_types: makes the build types, where they are not to be the real ones.
    :param stop_s: how long ending clean may take, when told to end.
    :returns: the exit status: 0, or 1 when it found that it cannot build here.
    :raises CannotStart: it cannot even begin.
    """
    _check_machine(config)
    with _lock(config.directory), _log_stream(logging.file) as stream:
        _begin_logging(logging, stream)
        return _run(config, build_types or _real_build_types, stop_s)


def _real_build_types(config: BuilddConfig, reactor: Any) -> Mapping[str, BuildManager]:
    from buildd.managers import build_types  # noqa: PLC0415  (What is imported here is not needed by the tests.)

    return build_types(config, reactor)


# --- before the reactor


def _check_machine(config: BuilddConfig) -> None:
    """:raises CannotStart: root, or a wrong clock."""
    if os.geteuid() == 0 and not config.allow_root:
        raise CannotStart(
            "it needs no privileges, and does not run as root: start it as a user of its own, or, where there is none "
            "as in a throw-away container, with --allow-root (in buildd.conf: [builder] allow_root = yes)"
        )
    now = datetime.now(UTC)
    if now < EARLIEST:
        raise CannotStart(
            f"the clock is wrong, it says {now:%Y-%m-%d %H:%M}: signatures and certificates would not hold"
        )


def _lock(directory: Path) -> IO[str]:
    """Make the directory this daemon's own until the file returned is closed.

    :raises CannotStart: another daemon has it, or it cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _close_to_others(directory)
        file = (directory / "lock").open("a+", encoding="ascii")
    except OSError as exc:
        raise CannotStart(f"{directory} cannot be used: {exc.strerror}; [builder] directory names another") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        other = file.read(20).strip() or "unknown"
        file.close()
        raise CannotStart(f"{directory} is in use by another daemon, process {other}") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _close_to_others(directory: Path) -> None:
    """Let nobody else in: what was unpacked below has sources.list with passwords, readable as in any chroot."""
    status = directory.stat()
    public = status.st_mode & stat.S_ISVTX  # Somebody tries the daemon in /tmp, say, which others need.
    if status.st_uid == os.geteuid() and status.st_mode & 0o027 and not public:
        directory.chmod(stat.S_IMODE(status.st_mode) & ~0o027)


def _log_stream(path: Path | None) -> IO[str]:
    """:raises CannotStart: the file cannot be written to."""
    try:
        return path.open("a", encoding="utf-8") if path else os.fdopen(os.dup(2), "w", encoding="utf-8")
    except OSError as exc:
        raise CannotStart(f"the log file {path} cannot be written: {exc.strerror}") from exc


def _begin_logging(logging: Logging, stream: IO[str]) -> None:
    levels = LogLevelFilterPredicate(defaultLogLevel=logging.others)
    levels.setLogLevelForNamespace("buildd", logging.ours)
    observer = FilteringLogObserver(textFileLogObserver(stream), [levels])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


# --- with the reactor


def _run(config: BuilddConfig, build_types: BuildTypes, stop_s: float) -> int:
    """:raises CannotStart: the directory cannot be used."""
    from twisted.internet import reactor as installed  # noqa: PLC0415  (Importing it installs it.)

    reactor = cast(Any, installed)
    # Twisted's clock is the time of day. When somebody sets that, every limit would be over at once, or none for long,
    # the watchdog's included. The reactor asks nothing else than this, and nothing has been scheduled yet.
    reactor.seconds = time.monotonic
    try:
        daemon = Daemon(config, build_types, reactor, stop_s)
    except OSError as exc:
        raise CannotStart(f"{config.directory} cannot be used: {exc}; [builder] directory names another") from exc
    return daemon.run()


class Daemon:
    """The parts of a running daemon."""

    def __init__(self, config: BuilddConfig, build_types: BuildTypes, reactor: Any, stop_s: float) -> None:
        self._config = config
        self._stop_s = stop_s
        self._reactor = reactor
        self._status = 0
        self._systemd = Systemd(reactor)
        self._port_file = config.directory / "port"
        self._cache = FileCache(config.directory / "filecache", config.cache_limit_bytes, config.free_floor_bytes)
        self._fetching = Fetching(self._cache, config, reactor)
        self._enforcement = Enforcement(config, reactor, _in_thread)
        self._managers = build_types(config, reactor)
        self._builder = Builder(
            config=config,
            cache=self._cache,
            enforcement=self._enforcement,
            managers=self._managers,
            clock=reactor,
            in_thread=_in_thread,
            version=__version__,
        )

    def run(self) -> int:
        """Run until told to end; the exit status."""
        self._reactor.callWhenRunning(lambda: Deferred.fromCoroutine(self._start()))
        # SIGTERM and SIGINT stop the reactor; it waits for this first.
        self._reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(self._end()))
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._finish))
        self._reactor.run()
        return self._status

    async def _start(self) -> None:
        """Remove what an earlier daemon left, and begin to answer."""
        try:
            self._port_file.unlink(missing_ok=True)
            builds = self._config.directory / "builds"
            builds.mkdir(exist_ok=True)
            self._enforcement.start()
            for manager in self._managers.values():
                await manager.recover(builds)
            self._say_ready(self._listen())
        except (CannotStart, IsolationFailure) as exc:
            self._give_up(str(exc))
        except Exception as exc:  # The outermost: whatever it is, nothing can be built here.
            _log.failure("{label}: cannot start", label=self._config.label)
            self._give_up(f"this builder cannot build: {exc}")
        else:
            Deferred.fromCoroutine(self._report())

    def _give_up(self, why: str) -> None:
        print(f"debfarm-buildd: {why}", file=sys.stderr)
        self._status = 1
        if self._reactor.running:
            self._reactor.stop()

    def _listen(self) -> int:
        """Answer from now on; the port."""
        root = Resource()  # type: ignore[no-untyped-call]
        methods = Methods(self._builder, self._fetching, self._config.architecture)
        root.putChild(b"rpc", RPCResource(methods.table(), _in_thread))
        files = FileCacheResource(self._cache, self._builder.log_path)
        root.putChild(b"filecache", files)
        site = Site(root, self._config.request_body_bytes, self._reactor)
        try:
            listening = self._reactor.listenTCP(self._config.port, site, interface=self._config.host)
        except CannotListenError as exc:
            reason = getattr(exc.socketError, "strerror", None) or exc.socketError
            where = f"{self._config.host or 'all addresses'}, port {self._config.port}"
            raise CannotStart(f"it cannot listen on {where}: {reason}") from exc
        self._reactor.addSystemEventTrigger("during", "shutdown", listening.stopListening)
        return cast(int, listening.getHost().port)

    def _say_ready(self, port: int) -> None:
        written = self._port_file.with_suffix(".new")
        written.write_text(f"{port}\n")
        written.replace(self._port_file)
        where = f"{self._config.host or 'all addresses'}, port {port}"
        _log.info("{label}: listening on {where}", label=self._config.label, where=where)
        if self._config.port == 0:
            print(f"debfarm-buildd: listening on {where}", flush=True)
        self._systemd.ready()

    async def _report(self) -> None:
        """Keep systemd informed of what the builder does."""
        while True:
            status, build_id = self._builder.builder_status, self._builder.build_id
            self._systemd.status(f"{status.name} {build_id}".rstrip())
            await self._builder.wait(status, build_id, WAIT_MAX_S)

    def _finish(self) -> None:
        """SIGHUP: end after the current build."""

        def stop() -> None:
            if self._reactor.running:
                self._reactor.stop()

        finishing = Deferred.fromCoroutine(self._builder.finish())
        # Not before the master has its answer to clean().
        finishing.addCallback(lambda _: self._reactor.callLater(_ANSWER_S, stop))

    async def _end(self) -> None:
        """End clean, soon. What cannot be ended in time, the next start removes."""
        self._systemd.stopping()
        last_resort = threading.Timer(_STOP_HARD_S, os._exit, [1])
        last_resort.daemon = True
        last_resort.start()
        self._cache.stop()
        self._fetching.stop()
        self._port_file.unlink(missing_ok=True)
        ending = Deferred.fromCoroutine(self._builder.stop())
        ending.addTimeout(self._stop_s, self._reactor)
        try:
            await ending
        except TookTooLong:
            left = "what is left of it goes at the next start"
            _log.error(
                "{label}: not all could be ended in {s:g} s: {left}",
                label=self._config.label,
                s=self._stop_s,
                left=left,
            )
            self._status = 1
        except Exception:  # The outermost: the daemon ends, whatever is left.
            _log.failure("{label}: not everything could be ended", label=self._config.label)
            self._status = 1
        _log.info("{label}: ended", label=self._config.label)
