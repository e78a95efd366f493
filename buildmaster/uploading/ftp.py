"""Uploads by FTP: anonymous, passive, one way. Nothing can be read, listed, renamed or removed.

To be imported when there is a reactor: Twisted's FTP takes the global one.
"""

from typing import Any

from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import ftp
from twisted.python.failure import Failure
from zope.interface import implementer

from buildmaster.peers import Clients, who
from buildmaster.ports import IMasterReactor
from buildmaster.uploading.reception import Reception
from buildmaster.uploading.sessions import Refused, Session, Transfer, Unread

_log = Logger()
_CLIENTS_MAX = 100
_CLIENTS_OF_PEER = 10
_REFUSED = 450  # dput-ng takes any 550 for missing permissions, and shows nothing of the text.
_IDLE_S = 120.0
_SILENCE_S = 60.0  # In the middle of a file.


def ftp_factory(reception: Reception, reactor: IMasterReactor, passive_ports: range, address: str) -> ftp.FTPFactory:
    """What listens for clients.

    :param passive_ports: where files are sent to; none: any free ones.
    :param address: what clients are told to send them to; "": where they came to themselves.
    """
    factory: Any = _Factory(Portal(_Realm(), [AllowAnonymousAccess()]))
    factory.protocol = _Protocol
    factory.welcomeMessage = "debfarm: packages are uploaded here, by anonymous"
    factory.timeOut = _IDLE_S
    factory.connectionLimit = _CLIENTS_MAX
    factory.passivePortRange = passive_ports or range(1)
    factory.reception, factory.reactor, factory.address = reception, reactor, address
    return factory  # type: ignore[no-any-return]


class _Factory(ftp.FTPFactory):
    """Some clients of each address, and not more in all than there may be."""

    noisy = False

    def __init__(self, portal: Portal) -> None:
        super().__init__(portal)  # type: ignore[no-untyped-call]
        self.clients = Clients(_CLIENTS_MAX, _CLIENTS_OF_PEER)

    def buildProtocol(self, addr: Any) -> Any:
        """Where there are too many in all, one that says so; None, and the connection is closed at once, when there are
        too many of this address."""
        peer = who(addr.host)
        counted = self.clients.come(peer)
        if not counted and self.clients.total() < _CLIENTS_MAX:
            return None
        protocol: Any = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        if isinstance(protocol.wrappedProtocol, _Protocol):
            protocol.wrappedProtocol.peer = peer
        elif counted:  # It only says that there are too many in all.
            self.clients.go(peer)
        return protocol


class _Said(ftp.FTPCmdError):
    """A reply of ours, of one line or more."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        *lines, last = ["".join(c if " " <= c <= "~" else "?" for c in line) for line in text.splitlines()] or [""]
        self._response = "\r\n".join([*(f"{code}-{line}" for line in lines), f"{code} {last}"])

    def response(self) -> str:
        return self._response


class _Data(ftp.DTP):
    """A connection that one file comes by. Twisted's would keep in memory whatever comes before anybody asks for it."""

    transport: Any
    used = False

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.transport.pauseProducing()

    def registerConsumer(self, cons: Any) -> Any:
        self.used = True
        ended = super().registerConsumer(cons)  # type: ignore[no-untyped-call]
        self.transport.resumeProducing()
        return ended


class _Protocol(ftp.FTP):
    """One client."""

    factory: Any
    transport: Any
    shell: Any
    dtpInstance: Any
    peer = ""
    _told = False

    def connectionMade(self) -> None:
        Unread(self.transport)
        super().connectionMade()  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        """Who has read no answer for so long need not be waited for."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.clients.go(self.peer)
        self.disconnected = True
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def sendLine(self, line: Any) -> None:
        if self.transport is not None:  # Some answers come when nobody is there any more.
            super().sendLine(line.encode("ascii", "replace") if isinstance(line, str) else line)  # type: ignore[no-untyped-call]

    def processCommand(self, cmd: str, *params: str) -> "Deferred[Any]":
        """Twisted traces each command that it fails at, as at a second PASS: there is one line for a client here."""

        def failed(failure: Failure) -> Any:
            if isinstance(
                failure.value, (ftp.FTPCmdError, TypeError)
            ):  # The second: an argument is missing, which it tells.
                return failure
            if not self._told:
                self._told = True
                _log.warn("an FTP client sends what fails: {why}", why=repr(failure.value)[:200])
            raise _Said(500, "this cannot be done now")

        return maybeDeferred(super().processCommand, cmd, *params).addErrback(failed)

    def getDTPPort(self, factory: Any, interface: str = "") -> Any:
        """Where data come to: of this client's, and of nobody else who may be quicker."""

        def build(addr: Any) -> Any:
            if who(addr.host) != self.peer or ftp.DTPFactory.buildProtocol(factory, addr) is None:  # type: ignore[no-untyped-call]
                return None
            made: Any = _Data()
            self.dtpInstance = made
            made.factory, made.pi = factory, self
            return made

        factory.buildProtocol = build
        try:
            return super().getDTPPort(factory, interface)  # type: ignore[no-untyped-call]
        except CannotListenError as error:
            raise _Said(425, "no port is free for data: try again in a minute") from error

    def cleanupDTP(self) -> None:
        """Twisted's leaves the connection open, if there is one."""
        open_one = self.dtpInstance
        super().cleanupDTP()  # type: ignore[no-untyped-call]
        if open_one is not None and open_one.isConnected:
            open_one.transport.abortConnection()

    def ftp_PASS(self, password: str) -> Any:
        def told(result: object) -> object:
            self.shell.open(self.factory, self.transport.getPeer().host)
            return result

        return super().ftp_PASS(password).addCallback(told)  # type: ignore[no-untyped-call]

    def ftp_PORT(self, address: str) -> Any:
        """Whoever is to be connected to could be anybody: files come to us."""
        return fail(ftp.CmdNotImplementedError("PORT"))  # type: ignore[no-untyped-call]

    ftp_EPRT = ftp_PORT

    def ftp_STOR(self, path: str) -> Any:
        if self.dtpInstance is not None and self.dtpInstance.used:
            return fail(ftp.BadCmdSequenceError("PASV or EPSV required before each STOR"))  # type: ignore[no-untyped-call]
        return super().ftp_STOR(path).addCallback(self._verdict)  # type: ignore[no-untyped-call]

    def _verdict(self, result: object) -> object:
        """What became of the file takes the place of the reply that it came."""
        told = self.shell.told() if self.shell is not None else None  # None: the client has gone.
        if told is not None:
            raise told
        return result

    def reply(self, key: str, *args: str) -> None:
        if key == ftp.ENTERING_PASV_MODE and self.factory.address:
            port = args[0].split(",")[4:]
            args = (",".join([*self.factory.address.split("."), *port]),)
        super().reply(key, *args)  # type: ignore[no-untyped-call]


@implementer(IRealm)
class _Realm:
    """Everybody is anonymous: the signature is what counts."""

    def requestAvatar(self, avatarId: object, mind: object, *interfaces: Any) -> Any:
        shell = _Shell()
        return ftp.IFTPShell, shell, shell.logout


@implementer(ftp.IFTPShell)
class _Shell:
    """What a client can do."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._reactor: Any = None
        self._told: _Said | None = None

    def open(self, factory: Any, peer: str) -> None:
        """Begin the session."""
        self._session, self._reactor = Session(factory.reception, peer), factory.reactor

    def logout(self) -> None:
        if self._session is not None:
            self._session.end()

    def told(self) -> _Said | None:
        """What is to be said of the file that came."""
        told, self._told = self._told, None
        return told

    def access(self, path: Any) -> "Deferred[None]":
        """Enter a folder, if there is one of this name: see Session.enter()."""
        assert self._session is not None

        def refuse(failure: Any) -> None:
            failure.trap(Refused)
            raise _Said(550, str(failure.value))

        return Deferred.fromCoroutine(self._session.enter(path)).addErrback(refuse)

    def openForWriting(self, path: Any) -> "Deferred[_File]":
        assert self._session is not None
        try:
            return succeed(_File(self, self._session.begin(path), self._reactor))
        except Refused as error:
            return succeed(_File(self, error, self._reactor))

    def say(self, code: int, text: str) -> None:
        """Have this said of the file that came."""
        self._told = _Said(code, text)

    def _no(self, *_: object) -> "Deferred[Any]":
        return fail(ftp.PermissionDeniedError("this is for uploads only"))  # type: ignore[no-untyped-call]

    makeDirectory = removeDirectory = removeFile = rename = stat = list = openForReading = _no


@implementer(ftp.IWriteFile, IConsumer)
class _File:
    """A file that a client sends."""

    def __init__(self, shell: _Shell, transfer: Transfer | Refused, reactor: Any) -> None:
        self._shell = shell
        self._transfer = transfer
        self._reactor = reactor
        self._producer: Any = None
        self._silence: Any = None
        self._silent = False

    def receive(self) -> "Deferred[_File]":
        return succeed(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer
        self._silence = self._reactor.callLater(_SILENCE_S, self._give_up)

    def unregisterProducer(self) -> None:
        self._producer = None
        if self._silence is not None and self._silence.active():
            self._silence.cancel()

    def write(self, data: bytes) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.reset(_SILENCE_S)
        if isinstance(self._transfer, Transfer):
            self._transfer.write(data)

    def _give_up(self) -> None:
        self._silent = True
        if self._producer is not None:
            self._producer.stopProducing()

    def close(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if isinstance(self._transfer, Refused):
            self._shell.say(_REFUSED, str(self._transfer))
        elif self._silent:
            self._transfer.discard()
            self._shell.say(426, f"nothing came for {_SILENCE_S:g} s: send it again")
        else:
            try:
                outcome = await self._transfer.session.finish(self._transfer)
                self._shell.say(226, outcome.text)
            except Refused as error:
                self._shell.say(_REFUSED, str(error))
