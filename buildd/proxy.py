"""The daemon's own proxy: the one way from inside a build to the network, and then only to what a Reach allows.

It is served on a socket that listens in a build's network namespace, where nothing else is; what it connects to is
outside. Requests are parsed by us (proxy_client.py), strictly, as a build's are hostile; the other side is Twisted's
agent, which knows the framings of answers and keeps connections. No body is ever kept: whoever sends is paused while
the other is slow.
"""

import base64
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory
from twisted.web.client import Agent, ProxyAgent
from twisted.web.http_headers import Headers

from buildd.connecting import Connector, Endpoint, Failed, Patience, Resolve, connection_pool, system_resolver, why
from buildd.proxy_client import Client, Tunnel
from buildd.reach import Reach, Refused, Target

CONNECTIONS_MAX: Final = 64  # Of one run at once; apt has one for each archive.
_SAID_MAX: Final = 20  # Refusals in the log of one run.
_REFUSED_MAX: Final = 100
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))


class ArchiveProxy:
    """Makes proxies, one for each run of a command that may use the network."""

    def __init__(
        self,
        reactor: Any,
        upstream: str = "",
        resolve: Resolve | None = None,
        patience: Patience = Patience(),  # noqa: B008  Frozen.
    ) -> None:
        """
        :param upstream: the URL of the http proxy by which everything is to be fetched, with user and password if it
            asks for them; empty: none.
        :param resolve: in place of the system's resolver.
        """
        self.reactor = reactor
        self.upstream = Upstream.parse(upstream) if upstream else None
        self.resolve = resolve or system_resolver(reactor)
        self.patience = patience

    def serve(self, listening: socket.socket, reach: Reach, say: Callable[[str], None]) -> "Serving":
        """Serve on a socket that listens, wherever that may be, until `Serving.stop`.

        :param listening: is taken over and closed, also when this fails.
        :param say: takes a line about each of the first refusals.
        :raises OSError: it is no such socket.
        """
        with listening:
            listening.setblocking(False)
            return Serving(self, listening, reach, say)


@dataclass(frozen=True)
class Upstream:
    """The proxy behind this one."""

    host: str
    port: int
    authorization: bytes  # A header's value; empty: none.

    @classmethod
    def parse(cls, url: str) -> "Upstream":
        """From an http URL that was found good."""
        parts = urlsplit(url)
        authorization = b""
        if parts.username is not None:
            pair = b":".join(unquote_to_bytes(part or "") for part in (parts.username, parts.password))
            authorization = b"Basic " + base64.b64encode(pair)
        return cls(parts.hostname or "", parts.port or 80, authorization)


class Serving:
    """One proxy: of one run of one command."""

    def __init__(self, proxy: ArchiveProxy, listening: socket.socket, reach: Reach, say: Callable[[str], None]) -> None:
        reactor = proxy.reactor
        self.reactor = reactor
        self.reach = reach
        self.idle_s = proxy.patience.idle_s
        self.clients: set[Client] = set()
        self.tunnels: set[Tunnel] = set()
        self._upstream = proxy.upstream
        self._say = say
        self._refused: dict[str, None] = {}
        self._stopped = False
        self._connector = Connector(reactor, proxy.resolve, proxy.patience.connect_s, self._check_address)
        self._pool = connection_pool(reactor, CONNECTIONS_MAX)
        self._agent: Any
        if self._upstream is None:
            self._agent = Agent.usingEndpointFactory(reactor, self._connector, self._pool)  # type: ignore[no-untyped-call]
        else:
            behind = Endpoint(self._connector, self._upstream.host, self._upstream.port)
            self._agent = ProxyAgent(behind, reactor, self._pool)  # type: ignore[no-untyped-call]
        self._port = reactor.adoptStreamPort(listening.fileno(), listening.family, _ClientFactory(self))

    @property
    def refused(self) -> tuple[str, ...]:
        """What was asked for and refused, and why: a sentence each, the first of them."""
        return tuple(self._refused)

    def stop(self) -> None:
        """Close every connection, and listen no more. Once more is fine."""
        if self._stopped:
            return
        self._stopped = True
        self._port.stopListening()
        for client in tuple(self.clients):
            client.abort()
        for tunnel in tuple(self.tunnels):  # Whose client may have gone before.
            tunnel.abort()
        self._pool.closeCachedConnections()

    def refuse(self, refusal: Refused) -> None:
        """Tell of a refusal, unless it was told of."""
        sentence = str(refusal)
        if sentence in self._refused or len(self._refused) == _REFUSED_MAX:
            return
        self._refused[sentence] = None
        if len(self._refused) <= _SAID_MAX:
            self._say(f"network refused: {sentence}")
        elif len(self._refused) == _SAID_MAX + 1:
            self._say("network refused: more than is shown here")

    async def fetch(self, method: str, target: Target, asked: Headers) -> Any:
        """Ask for something; an answer whose body is still to come.

        :raises Refused: the address behind its name is not to be reached.
        :raises Failed: there is no answer.
        """
        asked.setRawHeaders(b"host", [target.netloc.encode()])
        if self._upstream is not None:
            self._check_place(target, target.host)
            if self._upstream.authorization:
                asked.setRawHeaders(b"proxy-authorization", [self._upstream.authorization])
        try:
            answer = await self._agent.request(method.encode(), target.url.encode(), asked)
        except (Refused, Failed, CancelledError):
            raise
        except Exception as exc:  # Whatever the agent has: there is no answer, and nothing here to mend.
            raise Failed(502, f"{target.host}: {why(exc)}") from exc
        location = answer.headers.getRawHeaders(b"location")
        if answer.code in _REDIRECTS and location:
            try:
                self.reach = self.reach.led_to(target, location[0].decode("latin-1"))
            except Refused as refusal:
                self.refuse(refusal)
        return answer

    async def open_tunnel(self, target: Target, tunnel: Tunnel) -> None:
        """Connect a tunnel.

        :raises Refused: the address behind its name is not to be reached.
        :raises Failed: there is no connection.
        """
        factory = Factory.forProtocol(lambda: tunnel)
        factory.noisy = False
        if self._upstream is None:
            await self._connector.connect(target.host, target.port, factory)
            return
        self._check_place(target, target.host)
        await self._connector.connect(self._upstream.host, self._upstream.port, factory)
        await tunnel.ask(target, self._upstream.authorization)

    def _check_address(self, host: str, port: int, address: str) -> None:
        """See whether a host may be at this address.

        With an upstream proxy, the only host ever is that one, and it resolves the others: what can be said of those by
        their names is said in `fetch`.

        :raises Refused: it may not.
        """
        if self._upstream is None:
            self._check_place(Target("http", host, port, "/"), address)

    def _check_place(self, target: Target, address: str) -> None:
        self.reach.check_address(target, address)
        self.reach = self.reach.found_at(target, address)


class _ClientFactory(Factory):
    noisy = False

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def buildProtocol(self, addr: Any) -> Client | None:
        """None, which closes the connection, when there are too many."""
        return Client(self._serving) if len(self._serving.clients) < CONNECTIONS_MAX else None
