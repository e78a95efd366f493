"""A build's connections to the daemon's proxy: requests and tunnels, and what goes back on them."""

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from buildd.connecting import HEAD_MAX, Failed
from buildd.reach import Refused, Target, shown

if TYPE_CHECKING:
    from buildd.proxy import Serving

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) ([!-~]+) HTTP/1\.([01])" % _TOKEN)
# Each text in one way only: an expression that can divide white space in many ways takes hours to refuse it.
_HEADER = re.compile(rb"(%s):([\t -~\x80-\xff]*)" % _TOKEN)
# What is let through of a request; apt has no more to say. A Host is made anew from the URL.
_LET_THROUGH: Final = (
    *(b"accept", b"accept-encoding", b"authorization", b"cache-control", b"if-modified-since", b"if-none-match"),
    *(b"if-range", b"range", b"user-agent"),
)
# Of one connection and not of the answer (RFC 9110, 7.6.1); a Content-Length we write ourselves.
_HOP_BY_HOP: Final = frozenset(
    b"connection content-length keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    b" transfer-encoding upgrade".split()
)
# apt shows these, and for a tunnel nothing else: apt.did_not_answer knows the last two by their words.
_PHRASES: Final = {
    400: b"Bad Request",
    403: b"Forbidden by the builder",
    431: b"Request Header Fields Too Large",
    502: b"Could not connect any further",
    504: b"Connection timed out further on",
}
_OWN_ANSWER: Final = (
    b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s"
)


_log = Logger()


@dataclass(frozen=True)
class _Request:
    """The head of a request, parsed."""

    method: str
    target: str
    keep: bool  # The connection is to be kept.
    chunks: bool  # The client knows chunks.
    headers: Headers  # Those that are let through.

    @classmethod
    def parse(cls, head: bytes) -> "_Request":
        """:raises Failed: it is no request, or one with a body."""
        first, *rest = head.split(b"\r\n")
        line = _REQUEST_LINE.fullmatch(first)
        if line is None:
            raise Failed(400, "that is no request of HTTP/1.0 or HTTP/1.1")
        named: dict[bytes, list[bytes]] = {}
        for written in rest:
            if (field := _HEADER.fullmatch(written)) is None:
                raise Failed(400, "a header of the request is malformed")
            named.setdefault(field[1].lower(), []).append(field[2].strip(b" \t"))
        if b"transfer-encoding" in named or named.get(b"content-length", [b"0"]) != [b"0"]:
            raise Failed(400, "a request must not have a body")
        wishes = b",".join(named.get(b"connection", []) + named.get(b"proxy-connection", [])).lower()
        new = line[3] == b"1"
        keep = b"close" not in wishes if new else b"keep-alive" in wishes
        headers = Headers({name: values for name, values in named.items() if name in _LET_THROUGH})
        return cls(line[1].decode(), line[2].decode(), keep, new, headers)


class Client(Protocol, TimeoutMixin):
    """A connection from inside the build: one request after another, or a tunnel."""

    transport: Any

    def __init__(self, serving: "Serving") -> None:
        self._serving = serving
        self._received = b""
        self._answering: Deferred[None] | None = None
        self._busy = False  # With a request.
        self._begun = False  # Some of its answer has been sent.
        self._closing = False
        self._tunnel: Tunnel | None = None

    def callLater(self, period: float, func: Any) -> Any:
        """See TimeoutMixin."""
        return self._serving.reactor.callLater(period, func)

    def connectionMade(self) -> None:
        """Begin to listen."""
        self._serving.clients.add(self)
        with contextlib.suppress(OSError):  # A socket of another kind has no such thing.
            self.transport.setTcpNoDelay(True)
        self.setTimeout(self._serving.idle_s)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Something of the build's."""
        self.alive()
        if self._tunnel is not None and self._tunnel.open:
            self._tunnel.transport.write(data)
            return
        self._received += data
        if not self._busy:
            self._begin()
        elif len(self._received) > HEAD_MAX:  # Nobody is that far ahead of the answers.
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whatever goes on for this connection ends."""
        self._closing = True
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._serving.clients.discard(self)
        if self._tunnel is not None:
            self._tunnel.end()
        if self._answering is not None:
            self._answering.cancel()

    def timeoutConnection(self) -> None:
        """Nothing came for too long."""
        if not self._busy or self._begun or self._answering is None:
            self.abort()
            return
        self._fail(504, f"nothing came for {self._serving.idle_s:g} s", keep=False)
        self._answering.cancel()

    def alive(self) -> None:
        """Something came, from either side."""
        self.resetTimeout()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Close the connection without delay."""
        self._closing = True
        self.transport.abortConnection()

    def _begin(self) -> None:
        """Answer the next request, if it is there."""
        received = self._received.lstrip(b"\r\n")
        head, end, self._received = received.partition(b"\r\n\r\n")
        if len(head) > HEAD_MAX:
            self._fail(431, f"a request's headers may have {HEAD_MAX} bytes", keep=False)
        elif end:
            self._busy, self._begun = True, False
            self._answering = Deferred.fromCoroutine(self._answer(head))
        else:
            self._received = received

    async def _answer(self, head: bytes) -> None:
        """Answer a request; in the end, go on with the next."""
        keep = False
        try:
            request = _Request.parse(head)
            keep = request.keep
            if request.method == "CONNECT":
                await self._open_tunnel(self._serving.reach.check_tunnel(request.target))
                return
            target = self._serving.reach.check(request.method, request.target)
            answer = await self._serving.fetch(request.method, target, request.headers)
            keep = await self._pass_on(request, answer)
        except Refused as refusal:
            self._serving.refuse(refusal)
            self._fail(403, str(refusal), keep=keep)
        except Failed as exc:
            self._fail(exc.status, str(exc), keep=keep)
        except CancelledError:
            return
        except Exception:  # The outermost: whoever waits for an answer must not wait for ever.
            _log.failure("the proxy failed")
            self.abort()
            return
        if not keep:
            self._close()
        # Not at once: a thousand refused requests in one piece would be as many calls deep.
        self._serving.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._busy = False
        if not self._closing:
            self._begin()

    async def _pass_on(self, request: _Request, answer: Any) -> bool:
        """Send an answer on; whether the connection can be used again."""
        bodiless = request.method == "HEAD" or answer.code in (204, 304)
        counted = answer.length is not UNKNOWN_LENGTH
        chunked = not bodiless and not counted and request.chunks
        keep = request.keep and (bodiless or counted or chunked)
        lines = [b"HTTP/1.1 %d %s" % (answer.code, _one_line(answer.phrase))]
        for name, values in answer.headers.getAllRawHeaders():
            if name.lower() not in _HOP_BY_HOP:
                lines += [b"%s: %s" % (name, _one_line(value)) for value in values]
        if chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif counted and not bodiless:
            lines.append(b"Content-Length: %d" % answer.length)
        lines.append(b"Connection: keep-alive" if keep else b"Connection: close")
        self._begun = True
        self.transport.write(b"\r\n".join([*lines, b"", b""]))
        body = _Body(self, chunked)
        answer.deliverBody(body)
        self.transport.registerProducer(body, True)
        try:
            await body.ended
        finally:
            self.transport.unregisterProducer()
        return keep

    async def _open_tunnel(self, target: Target) -> None:
        """Connect the build with a server; from then on bytes go both ways as they come."""
        self._tunnel = tunnel = Tunnel(self, self._serving.tunnels)
        try:
            await self._serving.open_tunnel(target, tunnel)
        except Exception:
            self._tunnel = None
            tunnel.end()
            raise
        self._begun = True
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        tunnel.begin(self._received)
        self._received = b""

    def _fail(self, status: int, sentence: str, *, keep: bool) -> None:
        """Answer with a sentence of our own."""
        if self._closing:
            return
        if self._begun:  # What was begun cannot be taken back: the client must see it break off.
            self.abort()
            return
        self._begun = True
        body = f"{shown(sentence)}\n".encode()
        connection = b"keep-alive" if keep else b"close"
        self.transport.write(_OWN_ANSWER % (status, _PHRASES[status], len(body), connection, body))
        if not keep:
            self._close()

    def _close(self) -> None:
        """Close the connection when all is sent."""
        if not self._closing:
            self._closing = True
            self.transport.loseConnection()


@implementer(IPushProducer)
class _Body(Protocol):
    """An answer's body on its way to the build, no faster than that takes it."""

    transport: Any

    def __init__(self, client: Client, chunked: bool) -> None:
        self._client = client
        self._chunked = chunked
        self.ended: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def dataReceived(self, data: bytes) -> None:
        """A piece of it."""
        self._client.alive()
        self._client.transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """All of it is there, or no more will be."""
        if self.ended.called:
            return
        if not isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.ended.errback(Failed(502, "the answer broke off"))
            return
        if self._chunked:
            self._client.transport.write(b"0\r\n\r\n")
        self.ended.callback(None)

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """See IPushProducer."""
        self.transport.stopProducing()


class Tunnel(Protocol):
    """The other end of a CONNECT."""

    transport: Any = None

    def __init__(self, client: Client, tunnels: "set[Tunnel]") -> None:
        """:param tunnels: it is among them while it is connected."""
        self._client = client
        self._tunnels = tunnels
        self._asked: Deferred[bytes] | None = None  # The first line of the upstream proxy's answer.
        self._received = b""
        self.open = False

    def connectionMade(self) -> None:
        """It is connected."""
        self._tunnels.add(self)

    async def ask(self, target: Target, authorization: bytes) -> None:
        """Have the proxy at the other end connect us further.

        :raises Failed: it does not.
        """
        place = target.netloc if target.port != 443 else f"{target.netloc}:443"
        lines = [f"CONNECT {place} HTTP/1.1".encode(), f"Host: {place}".encode()]
        if authorization:
            lines.append(b"Proxy-Authorization: " + authorization)
        self._asked = Deferred()
        self.transport.write(b"\r\n".join([*lines, b"", b""]))
        line = await self._asked
        if not re.match(rb"HTTP/1\.[01] 2", line):
            raise Failed(502, f"the proxy behind does not connect to {target.host}: {line.decode('latin-1')}")

    def begin(self, first: bytes) -> None:
        """Pass on from here on, beginning with this of the client's."""
        self.open = True
        self.transport.registerProducer(self._client.transport, True)
        self._client.transport.registerProducer(self.transport, True)
        self.transport.write(first)
        self._client.transport.write(self._received)
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        """Something of the server's, or of the upstream proxy's."""
        self._client.alive()
        if self.open:
            self._client.transport.write(data)
            return
        self._received += data
        if self._asked is not None and not self._asked.called and b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._asked.callback(head.partition(b"\r\n")[0])
        elif len(self._received) > HEAD_MAX:
            self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other side has ended; what it sent is still delivered."""
        self._tunnels.discard(self)
        if self._asked is not None and not self._asked.called:
            self._asked.errback(Failed(502, "the proxy behind hung up"))
        if self.open:
            self.open = False
            self._client.transport.unregisterProducer()
            self._client.transport.loseConnection()

    def end(self) -> None:
        """Close the connection when all is sent."""
        if self.transport is not None:
            if self.open:
                self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection without delay."""
        self.transport.abortConnection()


def _one_line(value: bytes) -> bytes:
    return value.translate(None, b"\r\n\0")
