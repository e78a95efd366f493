"""The SSH server that SFTP goes by: for any user name, with any key or none; without a shell, commands or forwarding.

To be imported when there is a reactor: Twisted's conch takes the global one.
"""

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.conch.avatar import ConchUser
from twisted.conch.interfaces import ISFTPServer
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutFactory, TimeoutProtocol
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import implementer

from buildmaster.peers import Clients, who
from buildmaster.secrets import Secrets
from buildmaster.uploading.reception import Reception
from buildmaster.uploading.sessions import Session, Unread
from buildmaster.uploading.sftp import Commands, Server

_log = Logger()

HOST_KEY = "sftp-host-key"  # A secret: 32 bytes in base64.
_CLIENTS_MAX = 100
_CLIENTS_OF_PEER = 10
_CHANNELS_MAX = 4
_IDLE_S = 300
_LOGIN_S = 60
_BLOCKED_MAX = 1000  # Answers that wait for new keys.


def sftp_factory(reception: Reception, secrets: Secrets) -> TimeoutFactory:
    """What listens for clients. The server's key is made if there is none yet.

    :raises SecretRefused: the one that there is cannot be used.
    """
    made = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    kept = secrets.keep(HOST_KEY, base64.b64encode(made).decode("ascii"))
    key: Any = Key(Ed25519PrivateKey.from_private_bytes(base64.b64decode(kept)))  # type: ignore[no-untyped-call]
    factory = _Factory(reception, key)
    wrapped = TimeoutFactory(factory, _IDLE_S)  # type: ignore[no-untyped-call]
    wrapped.protocol = _Timeout
    return wrapped


class _Timeout(TimeoutProtocol):
    """Who has read no answer for so long is not waited for."""

    transport: Any

    def timeoutFunc(self) -> None:
        self.transport.abortConnection()


class _Transport(SSHServerTransport):
    """A client's connection."""

    factory: Any
    transport: Any
    peer = ""
    _blockedByKeyExchange: Any
    supportedCompressions = [b"none"]  # A few bytes could unpack to anything, before anybody has logged in.

    def connectionMade(self) -> None:
        Unread(self.transport)
        super().connectionMade()  # type: ignore[no-untyped-call]

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """Conch would keep any number of answers for a client that wants new keys, and then does not go on with it."""
        if len(self._blockedByKeyExchange or ()) > _BLOCKED_MAX:
            self.transport.abortConnection()
            return
        super().sendPacket(messageType, payload)  # type: ignore[no-untyped-call]

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """Clients say why they go, also when all is well; conch would tell that as an error."""

    def sendExtInfo(self, extensions: Any) -> None:
        """Clients may sign with any key, whatever ours is."""
        kinds = b",".join(SSHServerTransport.supportedPublicKeys)
        super().sendExtInfo([(name, kinds if name == b"server-sig-algs" else value) for name, value in extensions])  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Conch fails in many ways at packets that no client sends, each with a traceback."""
        try:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        except Exception as error:
            _log.warn("an SFTP client is sent away: {why}", why=repr(error)[:200])
            self.transport.abortConnection()

    def receiveUnimplemented(self, seqnum: int) -> None:
        """Nothing that anybody could do about it, however often it comes."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.factory.clients.go(self.peer)
        super().connectionLost(reason)


class _Connection(SSHConnection):
    """A client's channels: a few, of the one kind that there is. Conch would take any number, and trace all others."""

    channels: dict[int, Any]
    transport: Any

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        if len(self.channels) >= _CHANNELS_MAX or getNS(packet)[0] != b"session":
            self.transport.loseConnection()
            return
        super().ssh_CHANNEL_OPEN(packet)  # type: ignore[no-untyped-call]


class _Factory(SSHFactory):
    """An SSH server that has SFTP, and nothing else."""

    protocol = _Transport
    noisy = False

    def __init__(self, reception: Reception, key: Any) -> None:
        self.reception = reception
        self.portal = Portal(_Realm())
        self.publicKeys = {key.sshType(): key.public()}
        self.privateKeys = {key.sshType(): key}
        self.services = {b"ssh-userauth": _Anybody, b"ssh-connection": _Connection}
        self.clients = Clients(_CLIENTS_MAX, _CLIENTS_OF_PEER)

    def buildProtocol(self, addr: Any) -> Any:
        """None, and the connection is closed at once, when there are too many."""
        peer = who(addr.host)
        if not self.clients.come(peer):
            return None
        protocol: Any = super().buildProtocol(addr)
        protocol.peer = peer
        return protocol

    def getPrimes(self) -> None:
        """None of our own: the groups that every client has will do."""


@implementer(IRealm)
class _Realm:
    """Portals have one; nobody is asked here."""

    def requestAvatar(self, *_: object) -> Any:
        raise NotImplementedError


class _Anybody(SSHUserAuthServer):
    """Lets everybody in: without a key, and, for clients that insist on one, with any."""

    loginTimeout = _LOGIN_S
    transport: Any

    def serviceStarted(self) -> None:
        super().serviceStarted()  # type: ignore[no-untyped-call]
        self.supportedAuthentications = [b"none", b"publickey"]

    def auth_none(self, packet: bytes) -> "Deferred[Any]":
        """Come in."""
        user = _User(self.transport)
        return succeed((None, user, user.logout))

    auth_publickey = auth_none


class _User(ConchUser):
    """A client that is in."""

    def __init__(self, transport: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        peer = getattr(transport.transport.getPeer(), "host", "")
        self.session = Session(transport.factory.reception, peer)
        self.channelLookup[b"session"] = _Channel
        self.subsystemLookup[b"sftp"] = Server

    def logout(self) -> None:
        """It has gone."""
        self.session.end()


class _Channel(SSHSession):
    """A channel that can be used for SFTP, once, and not for commands."""

    def request_subsystem(self, data: bytes) -> int:
        if self.client is not None or getNS(data)[0] != b"sftp":
            return 0
        return int(super().request_subsystem(data))  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Conch would keep what comes before it is known what for."""
        if self.client is None:
            self.conn.transport.loseConnection()
            return
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def extReceived(self, dataType: int, data: bytes) -> None:
        """Nothing that any client has to say."""

    client: Any
    conn: Any

    def eofReceived(self) -> None:
        """scp asks how its server has ended, and has failed where it is not told. What was refused it knows already."""
        if self.client is not None:
            self.conn.sendRequest(self, b"exit-status", bytes(4))
        super().eofReceived()  # type: ignore[no-untyped-call]

    def _no(self, data: bytes) -> int:
        return 0

    request_shell = request_exec = request_pty_req = request_env = request_window_change = _no


registerAdapter(Commands, _User, ISFTPServer)  # type: ignore[no-untyped-call]
