"""HTTP for strangers: twisted.web's server with the limits that it lacks."""

from typing import Any, Final

from twisted.logger import Logger
from twisted.web import http, server
from twisted.web.resource import Resource

IDLE_TIMEOUT_S: Final = 60  # A connection on which no request comes is closed.
_LINGER_S: Final = 10  # How long a refused body is still taken in, so that its sender reads why.

_TOO_LARGE: Final = (
    b"HTTP/1.1 413 Request Entity Too Large\r\n"
    b"Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
)

_log = Logger()


class BoundedRequest(server.Request):
    """Refuses a body that is too large when its length is announced, or as soon as it is too long.

    twisted.web would take in all of it before anybody is asked. What still comes of a refused body is thrown away for a
    while rather than the connection closed at once: the sender would see a reset instead of the answer.
    """

    channel: Any
    _body_bytes = 0
    _refused = False

    @property
    def _limit_bytes(self) -> int:
        limit: int = self.channel.site.body_limit_bytes
        return limit

    def gotLength(self, length: int | None) -> None:
        too_large = length is not None and length > self._limit_bytes
        super().gotLength(0 if too_large else length)  # type: ignore[no-untyped-call]
        if too_large:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._limit_bytes and not self._refused:
            self._refuse()
        if not self._refused:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._refused:
            self.channel.loseConnection()
            return
        # Nobody posts forms here, and twisted.web would parse one however long that takes.
        self.requestHeaders.removeHeader(b"content-type")
        super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def _refuse(self) -> None:
        self._refused = True
        self.requestHeaders.removeHeader(b"expect")  # Or the answer would be followed by "100 Continue".
        if self.content:
            self.content.seek(0)
            self.content.truncate()
        _log.warn("a request of more than {limit} bytes was refused", limit=self._limit_bytes)
        sentence = b"A request may have at most %d bytes.\n" % self._limit_bytes
        self.channel.transport.write(_TOO_LARGE % (len(sentence), sentence))
        linger = self.channel.site.reactor.callLater(_LINGER_S, self.channel.forceAbortClient)
        self.notifyFinish().addErrback(lambda _: linger.active() and linger.cancel())


class Site(server.Site):
    """The daemon's web server."""

    displayTracebacks = False
    noisy = False

    def __init__(self, root: Resource, body_limit_bytes: int, reactor: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            root, requestFactory=BoundedRequest, timeout=IDLE_TIMEOUT_S, reactor=reactor
        )
        self.body_limit_bytes = body_limit_bytes

    def log(self, request: http.Request) -> None:
        """Say nothing: masters poll, and what a call brought about is said where it is done."""
