"""The daemon's end of a word with enter.py, before that runs a command.

enter.py says that all is set up, or why it cannot be. For a command that may use the network, it hands over a socket
that listens in the new network namespace, and goes on when a proxy is served on it: a socket stays in the namespace
that it was made in, whoever accepts its connections. The command itself inherits nothing of this.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from buildd.isolation import Serving
from buildd.isolation.enter import ENTERED, LISTENING, REFUSED, SERVED

_WORD_MAX = 4096


Serve = Callable[[socket.socket], Serving]  # On a socket that listens, which it takes over.


@contextlib.contextmanager
def handover(reactor: IReactorFDSet, serve: Serve | None) -> Iterator["Handover"]:
    """A talk with one enter.py; what is served is stopped at its end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    talk = Handover(ours, theirs.fileno(), serve)
    reactor.addReader(talk)
    try:
        yield talk
    finally:
        reactor.removeReader(talk)
        talk.stop()
        ours.close()
        theirs.close()


@implementer(IReadDescriptor)
class Handover:
    """One talk with one enter.py."""

    def __init__(self, ours: socket.socket, theirs: int, serve: Serve | None) -> None:
        self.theirs = theirs  # What enter.py is to inherit as its file CONTROL.
        self.failure = ""  # Why the command cannot be run.
        self.entered = False  # Everything is set up.
        self._ours = ours
        self._serve = serve
        self._serving: Serving | None = None

    def stop(self) -> None:
        """Serve no longer."""
        if self._serving is not None:
            self._serving.stop()

    def doRead(self) -> None:
        """Hear what there is to be heard. Also to be called at the end: that may be known before the last word is."""
        with contextlib.suppress(BlockingIOError):
            while True:
                word, fds, _, _ = socket.recv_fds(self._ours, _WORD_MAX, 1)
                self._hear(word, [socket.socket(fileno=fd) for fd in fds])

    def _hear(self, word: bytes, sockets: list[socket.socket]) -> None:
        if word == ENTERED:
            self.entered = True
        elif word == LISTENING and self._serve is not None:
            try:
                self._serving = self._serve(*sockets)
                self._ours.send(SERVED)
            except OSError as exc:
                self.failure = f"no proxy can be served: {exc}"
                self._ours.send(REFUSED)
        else:
            for unwanted in sockets:
                unwanted.close()
            self.failure = self.failure or word.decode(errors="replace")

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return self._ours.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """See IReadDescriptor."""

    def logPrefix(self) -> str:
        """See IReadDescriptor."""
        return "handover"
