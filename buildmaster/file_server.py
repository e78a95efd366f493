"""The store over HTTP, for builders: GET /files/SHA256/NAME. No listing, nothing else."""

from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from buildmaster.ports import IMasterReactor
from buildmaster.store import NotStored, Sha256, Store, parse_sha256

_CHUNK = 1 << 18

_log = Logger()


class QuietSite(Site):
    """A site whose every request is no event that a person may ask about."""

    noisy = False

    def log(self, request: Any) -> None:
        _log.debug("{method} {uri} {code}", method=request.method, uri=request.uri, code=request.code)


def file_site(store: Store, reactor: IMasterReactor) -> Site:
    """A site with the store's files at /files."""
    root = Resource()  # type: ignore[no-untyped-call]
    root.putChild(b"files", Files(store, reactor))
    site = QuietSite(root)  # type: ignore[no-untyped-call]
    site.displayTracebacks = False
    return site


class Files(Resource):
    """/files: by SHA-256. The name after it is for whoever reads logs."""

    isLeaf = True

    def __init__(self, store: Store, reactor: IMasterReactor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._store = store
        self._reactor = reactor

    def render_GET(self, request: Any) -> int:
        Deferred.fromCoroutine(self._serve(request)).addErrback(_give_up, request)
        return NOT_DONE_YET

    async def _serve(self, request: Any) -> None:
        pool = self._reactor.getThreadPool()
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        try:
            words = [word.decode("ascii") for word in request.postpath or []]
            sha256 = parse_sha256(words[0] if len(words) == 2 else "")
            stream, size, begins = await deferToThreadPool(self._reactor, pool, self._open, sha256)
        except (ValueError, NotStored):
            if not gone:
                request.setResponseCode(404)
                request.finish()
            return
        with stream:
            if not gone:
                await _Sending(request, stream, self._reactor).send(size, begins)

    def _open(self, sha256: Sha256) -> tuple[BinaryIO, int, bytes]:
        """A file, its size, and its first piece. Blocks."""
        stream = self._store.open(sha256)
        try:
            size = stream.seek(0, 2)
            stream.seek(0)
            return stream, size, stream.read(_CHUNK)
        except BaseException:
            stream.close()
            raise


@implementer(IPushProducer)
class _Sending:
    """A file on its way out, read in threads and no faster than it is taken."""

    def __init__(self, request: Any, stream: BinaryIO, reactor: IMasterReactor) -> None:
        self._request = request
        self._stream = stream
        self._reactor = reactor
        self._resumed: Deferred[None] | None = None  # Set while paused.
        self._gone = False

    async def send(self, size: int, data: bytes) -> None:
        """:param data: its first piece; the stream is behind that."""
        request, stream = self._request, self._stream
        request.setHeader(b"content-type", b"application/octet-stream")
        request.setHeader(b"content-length", b"%d" % size)
        request.notifyFinish().addErrback(lambda _: self.stopProducing())
        request.registerProducer(self, True)
        pool = self._reactor.getThreadPool()
        try:
            while request.method != b"HEAD" and data and not self._gone:
                request.write(data)
                size -= len(data)
                data = await deferToThreadPool(self._reactor, pool, stream.read, _CHUNK) if size > 0 else b""
                if self._resumed is not None:
                    await self._resumed
        finally:
            if not self._gone:
                request.unregisterProducer()
        if not self._gone:
            request.finish()

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self._gone = True
        self.resumeProducing()


def _give_up(failure: Failure, request: Any) -> None:
    """The store is broken: whoever fetches sees a short answer, and comes again."""
    _log.failure("cannot serve {uri}", failure, uri=request.uri)
    request.loseConnection()
