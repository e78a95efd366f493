"""A word between the daemon and the program that enters a root."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.testing import MemoryReactor

from buildd.isolation.enter import ENTERED, LISTENING, REFUSED, SERVED
from buildd.isolation.handover import Handover, handover


@dataclass
class FakeProxy:
    """Remembers what it serves."""

    served: list[socket.socket] = field(default_factory=list)
    stopped: int = 0

    def serve(self, listening: socket.socket) -> "FakeProxy":
        self.served.append(listening)
        return self

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that listens."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made


def reactor() -> IReactorFDSet:
    """One whose readers are called by the test."""
    made: IReactorFDSet = MemoryReactor()  # type: ignore[no-untyped-call]
    return made


def enter_side(talk: Handover) -> socket.socket:
    """What the program that enters has of a talk."""
    theirs = socket.socket(fileno=os.dup(talk.theirs))
    theirs.settimeout(5)
    return theirs


def test_a_proxy_is_served_on_what_is_handed_over(listening: socket.socket) -> None:
    """The other side is told, and when the talk ends it is served no longer."""
    proxy = FakeProxy()
    with handover(reactor(), proxy.serve) as talk, enter_side(talk) as theirs:
        socket.send_fds(theirs, [LISTENING], [listening.fileno()])
        talk.doRead()
        assert theirs.recv(100) == SERVED
        assert [each.getsockname() for each in proxy.served] == [listening.getsockname()]
        theirs.send(ENTERED)
        talk.doRead()
        assert (talk.entered, talk.failure, proxy.stopped) == (True, "", 0)
        proxy.served[0].close()
    assert proxy.stopped == 1


def test_a_proxy_that_cannot_be_served_ends_it(listening: socket.socket) -> None:
    """The other side hears so, and runs no command."""

    def refuse(each: socket.socket) -> FakeProxy:
        each.close()
        raise OSError("no more files")

    with handover(reactor(), refuse) as talk, enter_side(talk) as theirs:
        socket.send_fds(theirs, [LISTENING], [listening.fileno()])
        talk.doRead()
        assert theirs.recv(100) == REFUSED
        assert (talk.entered, talk.failure) == (False, "no proxy can be served: no more files")


def test_what_fails_is_told() -> None:
    """In the words of the program that enters."""
    with handover(reactor(), None) as talk, enter_side(talk) as theirs:
        theirs.send(b"proc at /x: Operation not permitted")
        talk.doRead()
    assert (talk.entered, talk.failure) == (False, "proc at /x: Operation not permitted")


def test_nobody_is_asked_for_a_proxy_who_may_not_have_one(listening: socket.socket) -> None:
    """A command without network gets none, whatever it says."""
    with handover(reactor(), None) as talk, enter_side(talk) as theirs:
        socket.send_fds(theirs, [LISTENING], [listening.fileno()])
        talk.doRead()
    assert talk.failure
    assert not talk.entered
