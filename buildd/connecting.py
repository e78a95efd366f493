"""Connections to hosts for the daemon's proxy: to an address that was looked at, and to no other."""

import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol
from twisted.web.client import HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from buildd.reach import shown

HEAD_MAX: Final = 16 << 10  # Bytes of a request's or an answer's headers.
_LOOKUPS_MAX: Final = 16  # Of names, at once; of all builds.
_ADDRESS_S: Final = 10.0  # For one of a host's addresses, when it has more.

Resolve = Callable[[str, int], Coroutine[Any, Any, list[str]]]  # The addresses of a host and port. May raise OSError.


@dataclass(frozen=True)
class Patience:
    """How long the proxy waits for others."""

    connect_s: float = 30.0
    idle_s: float = 60.0  # Without a byte in either direction.


class Failed(Exception):
    """A request cannot be answered; the proxy says so with this HTTP status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def system_resolver(reactor: Any) -> Resolve:
    """The system's, in threads that nobody waits for: a name server may take its time, and no thread can be ended."""
    running = 0

    async def resolve(host: str, port: int) -> list[str]:
        nonlocal running
        if running >= _LOOKUPS_MAX:
            raise OSError("too many names are being looked up")
        running += 1
        found: Deferred[list[str]] = Deferred()
        threading.Thread(target=look_up, args=(host, port, found), name="look-up", daemon=True).start()
        return await found

    def look_up(host: str, port: int, found: Deferred[list[str]]) -> None:
        result: list[str] | Exception
        try:
            result = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as exc:
            result = exc
        reactor.callFromThread(done, found, result)

    def done(found: Deferred[list[str]], result: list[str] | Exception) -> None:
        nonlocal running
        running -= 1
        if found.called:  # It was given up.
            return
        if isinstance(result, Exception):
            found.errback(result)
        else:
            found.callback(result)

    return resolve


@implementer(IAgentEndpointFactory)
class Connector:
    """Connects to hosts."""

    def __init__(
        self, reactor: Any, resolve: Resolve, connect_s: float, check: Callable[[str, int, str], None]
    ) -> None:
        """:param check: raises what `connect` is to fail with, when a host and port must not be at an address."""
        self._reactor = reactor
        self._resolve = resolve
        self._connect_s = connect_s
        self._check = check

    def endpointForURI(self, uri: Any) -> "Endpoint":
        """Where to connect to for a URL."""
        return Endpoint(self, uri.host.decode(), uri.port)

    def connect(self, host: str, port: int, factory: IProtocolFactory) -> Deferred[Any]:
        """A protocol of the factory's, connected. Fails with Failed, or as `check` does."""

        def late(_: object, seconds: float) -> None:
            raise Failed(504, f"{host} cannot be connected to within {seconds:g} s")

        connecting = Deferred.fromCoroutine(self._connect(host, port, factory))
        return connecting.addTimeout(self._connect_s, self._reactor, late)

    async def _connect(self, host: str, port: int, factory: IProtocolFactory) -> Any:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as exc:
            raise Failed(502, f"{host} cannot be resolved: {why(exc)}") from exc
        for address in addresses:
            self._check(host, port, address)
        error: Exception = OSError("it has no address")
        for address in dict.fromkeys(addresses):
            endpoint = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            patience = self._connect_s if address == addresses[-1] else min(_ADDRESS_S, self._connect_s)
            try:
                protocol = await endpoint(self._reactor, address, port, timeout=patience).connect(factory)
            except (ConnectError, OSError) as exc:
                error = exc
                continue
            self._check_connected(host, port, protocol)
            return protocol
        raise Failed(502, f"{host} port {port} cannot be connected to: {why(error)}") from error

    def _check_connected(self, host: str, port: int, protocol: Any) -> None:
        """This machine's own address, whichever it is, is as its loopback; only now can it be told."""
        transport = protocol.transport
        if transport.getHost().host != transport.getPeer().host:
            return
        try:
            self._check(host, port, "127.0.0.1")
        except Exception:
            transport.abortConnection()
            raise


@implementer(IStreamClientEndpoint)
@dataclass(frozen=True)
class Endpoint:
    """A host and a port, as Twisted's agent wants it."""

    connector: Connector
    host: str
    port: int

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See IStreamClientEndpoint."""
        return self.connector.connect(self.host, self.port, protocolFactory)


class _AnswerProtocol(HTTP11ClientProtocol):
    """A connection to a server whose headers have a limit.

    Twisted would keep whatever comes; and in 22.4 a thousand headers of one name take it a second.
    """

    _before_body = 0  # Bytes of the current answer; interim answers (100 and the like) count.

    def request(self, request: Any) -> Any:
        self._before_body = 0
        return super().request(request)

    def dataReceived(self, data: bytes) -> None:
        while data and self._parser is not None and self._parser.state in (STATUS, HEADER):
            piece, data = data[: HEAD_MAX - self._before_body], data[HEAD_MAX - self._before_body :]
            if not piece:
                if self.transport is not None:
                    self.transport.abortConnection()  # type: ignore[attr-defined]
                return
            self._before_body += len(piece)
            super().dataReceived(piece)  # type: ignore[no-untyped-call]
        if data:
            super().dataReceived(data)  # type: ignore[no-untyped-call]


class _AnswerFactory(_HTTP11ClientFactory):
    noisy = False

    def buildProtocol(self, addr: Any) -> HTTP11ClientProtocol:
        return _AnswerProtocol(self._quiescentCallback)  # type: ignore[no-untyped-call]


def connection_pool(reactor: Any, at_once: int) -> Any:
    """Connections of an agent's, kept for its next requests; so many to one host."""
    pool = HTTPConnectionPool(reactor, persistent=True)  # type: ignore[no-untyped-call]
    pool._factory = _AnswerFactory
    pool.maxPersistentPerHost = at_once
    return pool


def why(exc: BaseException) -> str:
    """What is at the bottom of an exception, as a short line."""
    for reason in getattr(exc, "reasons", None) or ():  # Twisted wraps others' in its own.
        return why(reason.value)
    return shown(getattr(exc, "strerror", None) or str(exc) or type(exc).__name__)
