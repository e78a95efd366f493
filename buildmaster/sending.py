"""Files on their way out over HTTP."""

from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.web.server import Site
from zope.interface import implementer

from buildmaster.peers import Clients, who
from buildmaster.ports import IMasterReactor

CHUNK = 1 << 18
_PATIENCE_S = 60.0  # Without anything taken of what is in the buffers.

_log = Logger()


class QuietSite(Site):
    """A site whose every request is no event that a person may ask about."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        _log.debug("{method} {uri} {code}", method=request.method, uri=request.uri, code=request.code)


class OpenSite(QuietSite):
    """The same for strangers: they may not have all connections that this process can have."""

    def __init__(self, root: Any, most: int, of_one: int) -> None:
        """:param most: connections at a time, in all.
        :param of_one: of one address (of IPv6, of one network); of this machine itself there may be a proxy.
        """
        super().__init__(root)  # type: ignore[no-untyped-call]
        self._clients = Clients(most, of_one)

    def buildProtocol(self, addr: Any) -> Any:
        """None, and the connection is closed at once, when there are too many."""
        host = who(str(addr.host))
        here = host.startswith("127.") or addr.host == "::1"
        if not self._clients.come(host, as_many_as_there_are=here):
            return None
        protocol: Any = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        lost = protocol.connectionLost

        def connection_lost(reason: Any) -> None:
            self._clients.go(host)
            lost(reason)

        protocol.connectionLost = connection_lost
        return protocol


@implementer(IPushProducer)
class Sending:
    """A file on its way out, read in threads and no faster than it is taken."""

    def __init__(self, request: Any, stream: BinaryIO, reactor: IMasterReactor) -> None:
        self._request = request
        self._stream = stream
        self._reactor = reactor
        self._resumed: Deferred[None] | None = None  # Set while paused.
        self._gone = False

    async def send(self, size: int, data: bytes) -> None:
        """Send what is left of the stream, to the end of the request.

        :param size: how much that is, in bytes, with
        :param data: its first piece; the stream is behind that.
        """
        request, stream = self._request, self._stream
        request.setHeader(b"content-length", b"%d" % size)
        request.notifyFinish().addErrback(lambda _: self.stopProducing())
        request.registerProducer(self, True)
        pool = self._reactor.getThreadPool()
        try:
            while request.method != b"HEAD" and data and not self._gone:
                request.write(data)
                size -= len(data)
                data = await deferToThreadPool(self._reactor, pool, stream.read, min(CHUNK, size)) if size > 0 else b""
                if self._resumed is not None:
                    await self._until_resumed(self._resumed)
        finally:
            if not self._gone:
                request.unregisterProducer()
        if self._gone:
            return
        if request.method != b"HEAD" and size > 0:
            request.loseConnection()  # It is shorter than was promised: what came next would be taken for the rest.
        else:
            request.finish()

    async def _until_resumed(self, resumed: Deferred[None]) -> None:
        """Wait until more is taken. Who takes nothing for long is left: a connection is not had for nothing."""
        patience = self._reactor.callLater(_PATIENCE_S, self._request.channel.forceAbortClient)
        await resumed
        if patience.active():
            patience.cancel()

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
