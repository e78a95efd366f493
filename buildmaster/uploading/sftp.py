"""Uploads by SFTP: for any user name, with any key or none. Nothing can be read, listed, renamed or removed.

It keeps what is uploaded from others' eyes on its way, and nothing more: who may upload is a matter of signatures.
To be imported when there is a reactor: Twisted's conch takes the global one.
"""

import posixpath
import sys
from collections.abc import Callable
from typing import Any

from twisted.conch.interfaces import ISFTPFile, ISFTPServer
from twisted.conch.ssh.common import getNS
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
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from buildmaster.uploading.sessions import Refused, Transfer, words_of

_UNREAD_MAX = 1 << 20
_PATH_MAX = 4096
_TEXT_MAX = 4096
_PACKET_MAX = (256 << 10) + 1024  # As OpenSSH has it.
_FOLDER = 0o040755
_FILE = 0o100644


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


class Server(FileTransferServer):
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
class Commands:
    """What a client can do."""

    say: Callable[[str], None]  # To who sits before it.

    def __init__(self, user: Any) -> None:
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


@implementer(ISFTPFile)
class _File:
    """A file that a client sends, from its beginning to its end."""

    def __init__(self, commands: Commands, transfer: Transfer) -> None:
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
