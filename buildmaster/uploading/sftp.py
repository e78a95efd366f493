"""Uploads by SFTP: for any user name, with any key or none. Nothing can be read, listed, renamed or removed.

It keeps what is uploaded from others' eyes on its way, and nothing more: who may upload is a matter of signatures.
To be imported when there is a reactor: Twisted's conch takes the global one.
"""

import base64
import posixpath
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.conch.avatar import ConchUser
from twisted.conch.interfaces import ISFTPFile, ISFTPServer
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.filetransfer import (
    FX_FAILURE,
    FX_NO_SUCH_FILE,
    FX_OK,
    FX_PERMISSION_DENIED,
    FXF_READ,
    FXF_WRITE,
    FileTransferServer,
    SFTPError,
)
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutFactory
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import implementer

from buildmaster.secrets import Secrets
from buildmaster.uploading.reception import Reception
from buildmaster.uploading.sessions import Refused, Session, Transfer, words_of
from buildmaster.uploading.spool import who

_log = Logger()

HOST_KEY = "sftp-host-key"  # A secret: 32 bytes in base64.
_CLIENTS_MAX = 100
_CLIENTS_OF_PEER = 10
_CHANNELS_MAX = 4
_IDLE_S = 300
_LOGIN_S = 60
_UNREAD_MAX = 1 << 20
_PATH_MAX = 4096
_TEXT_MAX = 4096
_PACKET_MAX = (256 << 10) + 1024  # As OpenSSH has it.
_FOLDER = 0o040755
_FILE = 0o100644


def sftp_factory(reception: Reception, secrets: Secrets) -> TimeoutFactory:
    """What listens for clients. The server's key is made if there is none yet.

    :raises SecretRefused: the one that there is cannot be used.
    """
    made = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    kept = secrets.keep(HOST_KEY, base64.b64encode(made).decode("ascii"))
    key: Any = Key(Ed25519PrivateKey.from_private_bytes(base64.b64decode(kept)))  # type: ignore[no-untyped-call]
    factory = _Factory(reception, key)
    return TimeoutFactory(factory, _IDLE_S)  # type: ignore[no-untyped-call]


class _Transport(SSHServerTransport):
    """A client's connection."""

    factory: Any
    transport: Any
    peer = ""
    supportedCompressions = [b"none"]  # A few bytes could unpack to anything, before anybody has logged in.

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
        self.factory.clients[self.peer] -= 1
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
        self.clients: Counter[str] = Counter()

    def buildProtocol(self, addr: Any) -> Any:
        peer = who(addr.host)
        if self.clients.total() >= _CLIENTS_MAX or self.clients[peer] >= _CLIENTS_OF_PEER:
            return None
        self.clients[peer] += 1
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
        self.subsystemLookup[b"sftp"] = _Server

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


class _Strict:
    """In place of conch's log: what it cannot handle ends the connection, in one line."""

    log = Logger()

    def __init__(self, server: FileTransferServer) -> None:
        self._server: Any = server
        self._told = False

    def info(self, *_: object, **__: object) -> None:
        """A line for each packet."""

    debug = info

    def failure(self, said: str, failure: Any = None, **about: Any) -> None:
        """Something that no client of ours sends; or a mistake of ours, which is told as well."""
        if not self._told:
            self._told = True
            why = failure.value if failure is not None else sys.exc_info()[1]
            self.log.warn("an SFTP client is sent away: {why}", why=repr(why)[:200])
        if self._server.transport is not None:
            self._server.transport.loseConnection()


class _Server(FileTransferServer):
    """SFTP, where what breaks off is no file, and packets have a length."""

    buf: bytes
    client: Any
    transport: Any
    _log: Any

    def __init__(self, data: object = None, avatar: object = None) -> None:
        super().__init__(data, avatar)  # type: ignore[no-untyped-call]
        self._log: Any = _Strict(self)
        self.client.say = self._say

    def dataReceived(self, data: bytes) -> None:
        """Conch would keep a packet of any length, and copy it whenever a part of it comes."""
        head = (self.buf + data[:4])[:4]
        if len(head) == 4 and int.from_bytes(head) > _PACKET_MAX:
            self.transport.loseConnection()
            return
        channel = getattr(self.transport, "session", None)
        unread = len(getattr(channel, "buf", b"")) + sum(len(each) for _, each in getattr(channel, "extBuf", ()))
        if unread > _UNREAD_MAX:  # Answers that nobody reads.
            self.transport.loseConnection()
            return
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if len(self.buf) >= 4 and int.from_bytes(self.buf[:4]) > _PACKET_MAX:
            self.transport.loseConnection()

    def packet_CLOSE(self, data: bytes) -> None:
        """Conch's knows a file still after it was closed, when that ended in a refusal, and while it lasts."""
        request, (handle, _) = data[:4], getNS(data[4:])
        file = self.openFiles.pop(handle, None)
        closed: Deferred[Any] = file.close() if file else fail(_error(FX_FAILURE, "there is no such file open"))
        closed.addCallbacks(self._closed, self._refused, (request,), errbackArgs=(request,))

    def _closed(self, _: object, request: bytes) -> None:
        self._sendStatus(request, FX_OK, b"file closed")  # type: ignore[no-untyped-call]

    def _refused(self, failure: Failure, request: bytes) -> None:
        ssh = self.transport.session.conn.transport
        if b"paramiko" in ssh.otherVersionString:  # It has no eyes for this answer; that there is none it tells.
            text = getattr(failure.value, "message", "")
            ssh.sendDisconnect(DISCONNECT_BY_APPLICATION, text.encode()[:_TEXT_MAX])
        else:
            self._ebStatus(failure, request, b"close failed")  # type: ignore[no-untyped-call]

    def _say(self, text: str) -> None:
        """Show this to whoever sits before an OpenSSH client, which shows nothing of the texts of answers."""
        self.transport.errReceived(text.encode() + b"\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for each in self.openFiles.values():
            each.discard()
        self.openFiles = {}
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


@implementer(ISFTPServer)
class _Commands:
    """What a client can do."""

    say: Callable[[str], None]  # To who sits before it.

    def __init__(self, user: _User) -> None:
        self.avatar = user
        self._session = user.session

    def gotVersion(self, otherVersion: int, extensions: object) -> dict[bytes, bytes]:
        return {}

    def openFile(self, filename: bytes, flags: int, attrs: object) -> "_File":
        if flags & FXF_READ or not flags & FXF_WRITE:
            self._no()
        try:
            return _File(self, self._session.begin(_path(filename)))
        except Refused as error:
            self.say(str(error))
            raise _error(FX_FAILURE, str(error)) from error

    async def _look(self, path: bytes) -> dict[str, int]:
        words = words_of(_path(path))
        try:
            await self._session.enter(words)
        except Refused as error:
            raise _error(FX_NO_SUCH_FILE, str(error)) from error
        return _attributes(_FOLDER)

    def getAttrs(self, path: bytes, followLinks: object) -> "Deferred[dict[str, int]]":
        return Deferred.fromCoroutine(self._look(path))

    def setAttrs(self, path: bytes, attrs: object) -> None:
        """Modes and times: they do not matter."""

    def realPath(self, path: bytes) -> bytes:
        if len(path) > _PATH_MAX:
            raise _error(FX_NO_SUCH_FILE, "no path is so long")
        return posixpath.normpath(b"/" + path.lstrip(b"/"))

    def _no(self, *_: object) -> Any:
        raise _error(FX_PERMISSION_DENIED, "this is for uploads only")

    def extendedRequest(self, extendedName: bytes, extendedData: bytes) -> Any:
        raise NotImplementedError

    removeFile = renameFile = makeDirectory = removeDirectory = openDirectory = readLink = makeLink = _no


registerAdapter(_Commands, _User, ISFTPServer)  # type: ignore[no-untyped-call]


@implementer(ISFTPFile)
class _File:
    """A file that a client sends, from its beginning to its end."""

    def __init__(self, commands: _Commands, transfer: Transfer) -> None:
        self._commands = commands
        self._transfer = transfer
        self._size = 0

    def writeChunk(self, offset: int, data: bytes) -> None:
        if offset != self._size:
            self._transfer.refuse("files are sent from their beginning to their end, whole")
            return
        self._size += len(data)
        self._transfer.write(data)

    def close(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        try:
            outcome = await self._transfer.session.finish(self._transfer)
            if outcome.verdicts:
                self._commands.say(outcome.text)
        except Refused as error:
            self._commands.say(str(error))
            raise _error(FX_FAILURE, str(error)) from error

    def discard(self) -> None:
        """It broke off."""
        self._transfer.discard()

    def readChunk(self, offset: int, length: int) -> bytes:
        raise _error(FX_PERMISSION_DENIED, "this is for uploads only")

    def getAttrs(self) -> dict[str, int]:
        return _attributes(_FILE, self._size)

    def setAttrs(self, attrs: object) -> None:
        """As above."""


def _attributes(mode: int, size: int = 0) -> dict[str, int]:
    return {"permissions": mode, "size": size, "uid": 0, "gid": 0, "atime": 0, "mtime": 0}


def _path(name: bytes) -> list[str]:
    return posixpath.normpath("/" + name.decode("utf-8", "replace")).split("/")


def _error(code: int, text: str) -> SFTPError:
    """With a text of one line of ASCII, which is all that conch sends."""
    line = " ".join(text.split()).encode("ascii", "replace").decode("ascii")
    return SFTPError(code, line)  # type: ignore[no-untyped-call]
