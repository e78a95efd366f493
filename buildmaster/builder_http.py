"""HTTP to builders, who run strangers' code: every answer has a size limit and a time limit before it is looked at.

Over Twisted's own agent, with connections kept: treq would unpack gzip before anybody could count, follow redirects
and keep cookies, none of which a builder should be able to ask for.
"""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimedOut
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.error import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTCP, IReactorThreads, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol, RequestGenerationFailed
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
    _HTTP11ClientFactory,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

CONNECT_TIMEOUT_S = 20.0
HEADER_LIMIT_BYTES = 64 << 10
_KEPT = 5  # Connections to a builder: its scan, what is sent ahead, and three files of which one is just through.
_KEPT_S = 30  # Idle connections are dropped sooner than twisted.web, which serves builders, drops them (60 s).
_BUFFER_BYTES = 1 << 20  # So much may arrive before somebody takes it.
_PLACES_KEPT = 10_000

P = ParamSpec("P")
T = TypeVar("T")


class BuilderError(Exception):
    """A builder did not do or say what it should; the message says what, without the builder's name."""


class BuilderUnreachable(BuilderError):
    """A builder could not be reached, did not answer in time, or its answer broke off."""


class BuilderSilent(BuilderUnreachable):
    """Nothing came back from a builder: no answer, no byte more, not even that there is nobody to answer."""


class _LimitedProtocol(HTTP11ClientProtocol):
    """A connection that takes no more than so many bytes before the headers of an answer are complete; Twisted would
    keep whatever comes (48 MB of headers made 1.26 GB)."""

    _before_body = 0  # Bytes of the current answer; interim answers (100 and the like) count.

    def request(self, request: Any) -> Any:
        self._before_body = 0
        return super().request(request)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._parser is not None and self._parser.state in (STATUS, HEADER):
            self._before_body += len(data)
            if self._before_body > HEADER_LIMIT_BYTES and self.transport is not None:
                self.transport.abortConnection()  # type: ignore[attr-defined]


class _Factory(_HTTP11ClientFactory):
    """Makes connections with limits. One more or less is no event that a person may ask about."""

    noisy = False

    def buildProtocol(self, addr: Any) -> HTTP11ClientProtocol:
        return _LimitedProtocol(self._quiescentCallback)  # type: ignore[no-untyped-call]


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Where builders are, looked at once: Twisted's agent parses a host's name anew for each request, and that takes
    longer than to send it over a connection that is there."""

    def __init__(self, reactor: IReactorTCP) -> None:
        self._reactor = reactor
        self._certificates = BrowserLikePolicyForHTTPS()  # type: ignore[no-untyped-call]
        self._known: dict[tuple[bytes, bytes, int], IStreamClientEndpoint] = {}

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See IAgentEndpointFactory."""
        place = uri.scheme, uri.host, uri.port
        if place not in self._known:
            while len(self._known) >= _PLACES_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[place] = self._endpoint(*place)
        return self._known[place]

    def _endpoint(self, scheme: bytes, host: bytes, port: int) -> IStreamClientEndpoint:
        plain = HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT_S)
        if scheme != b"https":
            return plain
        return wrapClientTLS(self._certificates.creatorForNetloc(host, port), plain)


class BuilderHttp:
    """Requests to builders, over connections that are kept."""

    def __init__(self, reactor: Any) -> None:
        """:param reactor: provides IReactorTCP, IReactorTime and IReactorThreads."""
        self.reactor: IReactorTime = reactor
        self._threads: IReactorThreads = reactor
        tcp: IReactorTCP = reactor
        self._pool = HTTPConnectionPool(tcp, persistent=True)  # type: ignore[no-untyped-call]
        self._pool.cachedConnectionTimeout = _KEPT_S
        self._pool.maxPersistentPerHost = _KEPT
        self._pool._factory = _Factory
        self._agent = Agent.usingEndpointFactory(tcp, _Endpoints(tcp), self._pool)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Drop the connections that are kept."""
        await self._pool.closeCachedConnections()  # type: ignore[no-untyped-call]

    async def post(
        self, url: str, body: bytes, limit_bytes: int, timeout_s: float, allowed: Callable[[], None] = lambda: None
    ) -> bytes:
        """Post an XML document and take the whole answer.

        :param allowed: asked when the document is written to a connection; if it raises, the document is not.
        :raises BuilderUnreachable: no answer; BuilderSilent, none in time.
        :raises BuilderError: the answer is longer than the limit, or its status is not 200.
        """
        return await self.within(timeout_s, self._post(url, BytesBody(body, allowed), limit_bytes))

    async def _post(self, url: str, body: "BytesBody", limit_bytes: int) -> bytes:
        headers = Headers({"Content-Type": ["text/xml"], "User-Agent": ["debfarm-buildmaster"]})
        response = await self._request(b"POST", url, headers, body)
        answer = BodyReader(response)
        if response.code != 200:
            answer.drop()
            raise BuilderError(f"HTTP status {response.code} for {url}")
        parts = bytearray()
        while data := await answer.read():
            parts += data
            if len(parts) > limit_bytes:
                answer.drop()
                raise BuilderError(f"the answer from {url} is longer than {limit_bytes} bytes")
        return bytes(parts)

    async def get(self, url: str, silence_s: float, range_from: int | None = None) -> "tuple[int, BodyReader]":
        """Begin to fetch a file. Returns the HTTP status and the body, which is to be read to its end or dropped.

        :param silence_s: how long the headers, and later no byte, may take.
        :raises BuilderUnreachable: no answer, or none in time.
        """
        headers = Headers({"User-Agent": ["debfarm-buildmaster"]})
        if range_from is not None:
            headers.addRawHeader("Range", f"bytes={range_from}-")
        response = await self.within(silence_s, self._request(b"GET", url, headers, None))
        return response.code, BodyReader(response)

    async def _request(self, method: bytes, url: str, headers: Headers, body: IBodyProducer | None) -> IResponse:
        try:
            response: IResponse = await self._agent.request(method, url.encode(), headers, body)
        except RequestGenerationFailed as error:  # The body was not written; its error says why.
            raise error.reasons[0].value from error
        except _NETWORK_ERRORS as error:
            if _was_cancelled(error):  # By us: because the time was over, or the master ends.
                raise CancelledError from error
            kind = BuilderUnreachable if isinstance(error, _GONE) else BuilderSilent
            raise kind(f"{url}: {network_reason(error)}") from error
        return response

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have something worked out while the reactor goes on."""
        pool = self._threads.getThreadPool()
        result: T = await deferToThreadPool(self._threads, pool, function, *args, **kwargs)
        return result

    async def within(self, timeout_s: float, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """Await a coroutine, but no longer than this.

        :raises BuilderSilent: it took longer.
        """
        deferred = Deferred.fromCoroutine(coroutine)
        try:
            return await deferred.addTimeout(timeout_s, self.reactor)
        except DeferredTimedOut as error:
            raise BuilderSilent(f"no answer within {timeout_s:.3g} s") from error


_NETWORK_ERRORS = (
    ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, ResponseFailed, TimedOut, OSError,
)  # fmt: skip
_GONE = (ConnectionRefusedError, ConnectionClosed, ResponseFailed)  # Its machine says so itself.


def _was_cancelled(error: BaseException) -> bool:
    reasons = getattr(error, "reasons", None) or []
    return isinstance(error, ConnectingCancelledError) or any(
        isinstance(reason, Failure) and isinstance(reason.value, CancelledError) for reason in reasons
    )


def network_reason(error: BaseException | None) -> str:
    """What a network error says, in one line; that of a failed response is found inside it."""
    reasons = getattr(error, "reasons", None)
    if isinstance(reasons, list) and reasons and isinstance(reasons[0], Failure):
        return network_reason(reasons[0].value)
    return str(error).strip() or type(error).__name__


@implementer(IBodyProducer)
class BytesBody:
    """The body of a request that is in memory. (Twisted's FileBodyProducer works with the global reactor only.)"""

    def __init__(self, body: bytes, allowed: Callable[[], None]) -> None:
        self._body = body
        self._allowed = allowed
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self._allowed()
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It was written at once."""

    def resumeProducing(self) -> None:
        """It was written at once."""

    def stopProducing(self) -> None:
        """It was written at once."""


class BodyReader(Protocol):
    """A response's body, taken piece by piece. What arrives faster than it is taken waits in the network."""

    def __init__(self, response: IResponse) -> None:
        self.announced = response.length if isinstance(response.length, int) else None  # Bytes; not to be trusted.
        self._arrived = bytearray()
        self._read = 0  # So many bytes were taken.
        self._waiting: Deferred[None] | None = None
        self._end: Failure | None = None
        self._paused = False
        response.deliverBody(self)  # type: ignore[no-untyped-call]

    async def read(self) -> bytes:
        """The next piece, as it arrives; b"" at the end.

        :raises BuilderUnreachable: the body broke off.
        """
        if not self._arrived and self._end is None:
            self._waiting = Deferred(lambda _: self.drop())
            await self._waiting
        data = bytes(self._arrived)
        self._arrived.clear()
        self._read += len(data)
        if not data and self._end is not None and not isinstance(self._end.value, ResponseDone | PotentialDataLoss):
            raise BuilderUnreachable(f"the answer broke off: {network_reason(self._end.value)}")
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resumeProducing()  # type: ignore[attr-defined]
        return data

    @property
    def is_whole(self) -> bool:
        """Whether all that was announced has been read. Nothing comes after that."""
        return self._read == self.announced

    def put_back(self, data: bytes) -> None:
        """Let read() return this again, before anything else."""
        self._arrived[:0] = data
        self._read -= len(data)

    def drop(self) -> None:
        """Take no more: the connection is closed, unless nothing more comes over it. Harmless at the end."""
        if self._end is None and self.transport is not None and not self.is_whole:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._arrived += data
        if len(self._arrived) > _BUFFER_BYTES and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[attr-defined]
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)
