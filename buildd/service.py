"""The command debfarm-buildd: reads the configuration, puts the daemon's parts together, starts it and ends it."""

import argparse
import fcntl
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, cast

from twisted.internet.defer import Deferred
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
from buildd.config import ENVIRONMENT_PREFIX, BuilddConfig, ConfigError, read_config
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

SYSTEM_CONFIG: Final = Path("/etc/debfarm/buildd.conf")
# No clock that is right says less: the program is not older.
_EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
_STOP_S: Final = 8.0  # For ending clean when told to end; whoever tells waits 10.
_STOP_HARD_S: Final = 9.5
_ANSWER_S: Final = 0.5

_in_thread = cast(InThread, deferToThread)

_log = Logger()


class CannotStart(Exception):
    """The daemon cannot run here; the message says why, and what to do."""


def main(argv: Sequence[str] | None = None, build_types: BuildTypes | None = None, *, stop_s: float = _STOP_S) -> int:
    """Run the daemon until it is told to end.

    :param build_types: makes the build types, where they are not to be the real ones.
    :param stop_s: how long ending clean may take, when told to end.
    :returns: the exit status: 0; 1 when it cannot run here; 2 when the configuration has mistakes.
    """
    arguments = _arguments(argv)
    try:
        config = _configuration(arguments)
        _check_machine(config)
        with _lock(config.directory), _log_stream(arguments.log_file) as stream:
            _begin_logging(arguments, stream)
            return _run(config, build_types or _real_build_types, stop_s)
    except ConfigError as exc:
        status, complaints = 2, list(exc.mistakes)
    except CannotStart as exc:
        status, complaints = 1, [str(exc)]
    for complaint in complaints:
        print(f"debfarm-buildd: {complaint}", file=sys.stderr)
    return status


def _real_build_types(config: BuilddConfig, reactor: Any) -> Mapping[str, BuildManager]:
    from buildd.managers import build_types  # noqa: PLC0415  (What is imported here is not needed by the tests.)

    return build_types(config, reactor)


# --- before the reactor


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="debfarm-buildd",
        description="Build packages on behalf of a master, which gives its orders by XML-RPC.",
        epilog=f"Every key of buildd.conf can also be set in the environment, such as {ENVIRONMENT_PREFIX}TIMEOUT=90m. "
        "SIGTERM: abort the build and end. SIGHUP: end after the current build.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--version", action="version", version=f"%(prog)s {__version__}")
    add("-c", "--config", "--configuration", metavar="FILE", type=Path, help=f"default: {SYSTEM_CONFIG}, if there")
    add("-q", "--quiet", action="store_true", help="log warnings and errors only")
    add("-v", "--verbose", action="store_true", help="log more")
    add("--debug", action="store_true", help="log everything, the libraries' messages included")
    add("-l", "--log-file", metavar="FILE", type=Path, help="log to this file (default: standard error)")
    add("-t", "--timeout", metavar="DURATION", help="how long a build may take, such as 90m (default: 3h)")
    add("-d", "--dir", dest="directory", metavar="DIR", help="where cache and builds are kept")
    add("-L", "--label", metavar="STR", help="what this builder calls itself (default: the host's name)")
    add("--host", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    add("--port", metavar="PORT", help="0: any that is free, see DIR/port (default: 8221)")
    add("--allow-root", action="store_const", const="yes", help="run as root, which is not needed, and not wise")
    return parser.parse_args(argv)


def _configuration(arguments: argparse.Namespace) -> BuilddConfig:
    path: Path | None = arguments.config
    if path is None and (named := os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")):
        path = Path(named)
    if path is None and SYSTEM_CONFIG.exists():
        path = SYSTEM_CONFIG
    keys = ("timeout", "directory", "label", "host", "port", "allow_root")
    options = {key: getattr(arguments, key) for key in keys if getattr(arguments, key) is not None}
    if "directory" in options:
        options["directory"] = str(Path(options["directory"]).absolute())
    return read_config(path, os.environ, options)


def _check_machine(config: BuilddConfig) -> None:
    """:raises CannotStart: root, or a wrong clock."""
    if os.geteuid() == 0 and not config.allow_root:
        raise CannotStart(
            "it needs no privileges, and does not run as root: start it as a user of its own, or, where there is none "
            "as in a throw-away container, with --allow-root (in buildd.conf: [builder] allow_root = yes)"
        )
    now = datetime.now(UTC)
    if now < _EARLIEST:
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


def _begin_logging(arguments: argparse.Namespace, stream: IO[str]) -> None:
    ours = LogLevel.warn if arguments.quiet else LogLevel.info
    if arguments.verbose or arguments.debug:
        ours = LogLevel.debug
    others = LogLevel.debug if arguments.debug else LogLevel.warn
    levels = LogLevelFilterPredicate(defaultLogLevel=others)
    levels.setLogLevelForNamespace("buildd", ours)
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
        self._managers = build_types(config, reactor)
        self._builder = Builder(
            config=config,
            cache=self._cache,
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
            used = self._cache.sha1s()
            for manager in self._managers.values():
                await manager.recover(builds, used)
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
        except Exception:  # The outermost: the daemon ends, whatever is left.
            _log.failure("{label}: not everything could be ended", label=self._config.label)
            self._status = 1
        _log.info("{label}: ended", label=self._config.label)
