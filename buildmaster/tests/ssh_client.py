"""An SSH client that can send what no good one does."""

from typing import Any

from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.conch.ssh.userauth import SSHUserAuthClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol


class Channel(SSHChannel):
    """One that notes what comes."""

    name = b"session"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.opened: Deferred[Channel] = Deferred()
        self.came = b""
        self.said = b""  # To who sits before it.

    def channelOpen(self, specificData: bytes) -> None:
        self.opened.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.came += data

    def extReceived(self, dataType: int, data: bytes) -> None:
        self.said += data


class _Connection(SSHConnection):
    transport: Any

    def serviceStarted(self) -> None:
        super().serviceStarted()  # type: ignore[no-untyped-call]
        self.transport.ready.callback(self)


class _Transport(SSHClientTransport):
    def __init__(self) -> None:
        self.ready: Deferred[_Connection] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def verifyHostKey(self, pubKey: bytes, fingerprint: str) -> "Deferred[int]":
        return succeed(1)

    def connectionSecure(self) -> None:
        self.requestService(SSHUserAuthClient(b"anybody", _Connection()))  # type: ignore[no-untyped-call]

    def receiveError(self, reasonCode: int, description: object) -> None:
        """It comes as a connection that is lost."""

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self.lost.callback(None)


async def connect(port: int) -> Any:
    """A connection, as soon as somebody is logged in."""
    made = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port, 10), _Transport())  # type: ignore[no-untyped-call]
    return await made.ready


async def open_channel(connection: Any) -> Channel:
    """A channel of a connection."""
    made = Channel()
    connection.openChannel(made)
    return await made.opened
