"""The store over HTTP, for builders: GET /files/SHA256/NAME. No listing, nothing else."""

from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from buildmaster.ports import IMasterReactor
from buildmaster.sending import CHUNK, QuietSite, Sending
from buildmaster.store import NotStored, Sha256, Store, parse_sha256

_log = Logger()


def file_site(store: Store, reactor: IMasterReactor) -> Site:
    """A site with the store's files at /files."""
    root = Resource()  # type: ignore[no-untyped-call]
    root.putChild(b"files", Files(store, reactor))
    return QuietSite(root)  # type: ignore[no-untyped-call]


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
                request.setHeader(b"content-type", b"application/octet-stream")
                await Sending(request, stream, self._reactor).send(size, begins)

    def _open(self, sha256: Sha256) -> tuple[BinaryIO, int, bytes]:
        """A file, its size, and its first piece. Blocks."""
        stream = self._store.open(sha256)
        try:
            size = stream.seek(0, 2)
            stream.seek(0)
            return stream, size, stream.read(CHUNK)
        except BaseException:
            stream.close()
            raise


def _give_up(failure: Failure, request: Any) -> None:
    """The store is broken: whoever fetches sees a short answer, and comes again."""
    _log.failure("cannot serve {uri}", failure, uri=request.uri)
    request.loseConnection()
