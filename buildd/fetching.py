"""ensurepresent: files fetched into the cache while the daemon goes on answering."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from buildd.changes import Clock
from buildd.config import BuilddConfig
from buildd.download import Cut, DownloadError, Limits, Source, download
from buildd.filecache import FileCache, Stopped
from buildd.protocol import Sha1

DOWNLOADS_MAX: Final = 16  # At once; the rest wait for their turn.
_THREADS_MAX: Final = 1000

Answer = tuple[bool, str]  # Whether the file is in the cache now, and the protocol's words on it.

IN_CACHE: Final = (True, "Cache")
IN_CACHE_NO_URL: Final = (True, "No URL")
NO_URL: Final = (False, "No URL")
DOWNLOADED: Final = (True, "Download")
WRONG_DIGEST: Final = (False, "Digests did not match, removing again!")

_log = Logger()


def _inaccessible(why: object) -> Answer:
    return False, f"Error accessing Librarian: {why}"


class ReactorThreads(Clock, Protocol):
    """What of the reactor is needed here."""

    def callFromThread(self, callable: Callable[..., Any], *args: object) -> None: ...


@dataclass
class _Fetch:
    """A download that goes on or waits for its turn."""

    sha1: Sha1
    source: Source
    cut: Cut = field(default_factory=Cut)
    asking: list[Deferred[Answer]] = field(default_factory=list)


class Fetching:
    """The downloads of a daemon, at most one a file."""

    def __init__(self, cache: FileCache, config: BuilddConfig, reactor: ReactorThreads) -> None:
        self._cache = cache
        self._limits = Limits(connect_s=config.connect_timeout_s, stall_s=config.stall_timeout_s)
        self._total_s = config.download_timeout_s
        self._reactor = reactor
        self._label = config.label
        self._turns = DeferredSemaphore(DOWNLOADS_MAX)
        # One more for each download that was given up and still waits for something. Nobody waits for these threads at
        # the end of the process: a server can hold them for long. They are kept, and so are their connections.
        self._threads = ThreadPool(0, _THREADS_MAX, name="fetch")
        self._threads.threadFactory = partial(threading.Thread, daemon=True)  # type: ignore[assignment]
        self._threads.start()
        self._fetches: dict[Sha1, _Fetch] = {}

    async def ensure_present(self, sha1: Sha1, source: Source | None) -> Answer:
        """Answer ensurepresent. Several calls for one file share a download."""
        if sha1 in self._cache:
            self._cache.touch(sha1)
            return IN_CACHE if source else IN_CACHE_NO_URL
        if not source:
            return NO_URL
        answer: Deferred[Answer] = Deferred()
        if fetch := self._fetches.get(sha1):
            fetch.asking.append(answer)
        else:
            fetch = self._fetches[sha1] = _Fetch(sha1, source, asking=[answer])
            Deferred.fromCoroutine(self._run(fetch))
        return await answer

    def stop(self) -> None:
        """Break off every download; those who wait get an answer."""
        for fetch in self._fetches.values():
            fetch.cut.cut("the daemon is ending")

    async def _run(self, fetch: _Fetch) -> None:
        """Fetch, and answer everyone who asked for the file meanwhile."""
        await self._turns.acquire()
        try:
            answer = await self._in_thread(fetch)
        except Exception as exc:  # The outermost: no thread can be started, say. Whoever waits must get an answer.
            _log.failure("{label}: {sha1} cannot be fetched", label=self._label, sha1=fetch.sha1)
            answer = _inaccessible(f"the daemon failed: {exc}")
        finally:
            self._turns.release()
            del self._fetches[fetch.sha1]
            self._let_go_of_threads()
        if answer == DOWNLOADED:
            _log.info("{label}: fetched {sha1} from {host}", label=self._label, sha1=fetch.sha1, host=fetch.source.host)
        else:
            _log.warn("{label}: {sha1} not fetched: {why}", label=self._label, sha1=fetch.sha1, why=answer[1])
        for asking in fetch.asking:
            asking.callback(answer)

    def _let_go_of_threads(self) -> None:
        """Those that were one more each have no work any more, once that has ended which was given up."""
        if len(self._threads.waiters) > DOWNLOADS_MAX:
            self._threads.adjustPoolsize(maxthreads=DOWNLOADS_MAX)  # Idle ones go.
            self._threads.adjustPoolsize(maxthreads=_THREADS_MAX)

    def _in_thread(self, fetch: _Fetch) -> Deferred[Answer]:
        """Fetch in a thread. When all the time allowed is over, the answer does not wait for it."""
        result: Deferred[Answer] = Deferred()

        def settle(answer: Answer) -> None:
            if not result.called:
                late.cancel()
                result.callback(answer)

        def give_up() -> None:
            why = f"not all of it came within {self._total_s:g} s"
            fetch.cut.cut(why)
            result.callback(_inaccessible(why))

        def run() -> None:
            answer = self._fetch(fetch)
            self._reactor.callFromThread(settle, answer)

        self._threads.callInThread(run)
        late = self._reactor.callLater(self._total_s, give_up)
        return result

    def _fetch(self, fetch: _Fetch) -> Answer:
        """Fetch a file, in a thread; whatever happens is an answer."""
        try:
            with self._cache.writing() as partial:
                download(fetch.source, self._limits, partial.write, fetch.cut)
                if partial.sha1 != fetch.sha1:
                    return WRONG_DIGEST
                partial.keep()
                return DOWNLOADED
        except (DownloadError, Stopped) as exc:
            return _inaccessible(exc)
        except OSError as exc:
            return _inaccessible(exc.strerror or exc)
        except Exception:  # The outermost of this thread: whoever waits must get an answer.
            _log.failure("{label}: fetching {sha1} failed unexpectedly", label=self._label, sha1=fetch.sha1)
            return _inaccessible("the daemon failed, see its log")
