"""A proxy on the loopback, scripted servers behind it, and who asks it, for tests."""

import functools
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildd.connecting import Patience
from buildd.proxy import ArchiveProxy, Serving
from buildd.reach import Reach
from buildd.tests.running import FileServer, Script, hang, whole

CONTENT = bytes(range(256)) * 1000
Case = TypeVar("Case", bound="ProxyCase")
SHORT = Patience(connect_s=0.5, idle_s=0.5)


def in_thread(test: Callable[[Case], None]) -> Callable[[Case], Deferred[None]]:
    """A test that blocks, as clients do."""

    @functools.wraps(test)
    def run(self: Case) -> Deferred[None]:
        return deferToThread(test, self)

    return run


def raw(data: bytes) -> Script:
    """Sends just this."""

    def script(connection: socket.socket, request: bytes, over: threading.Event) -> None:
        connection.sendall(data)

    return script


class Answer:
    """One answer on a connection, read to its end."""

    def __init__(self, connection: socket.socket) -> None:
        self.file = connection.makefile("rb")
        self.again()

    def again(self) -> "Answer":
        """Read the next one."""
        line = self.file.readline()
        self.status = int(line.split()[1]) if line else 0
        self.headers: dict[str, str] = {}
        while field := self.file.readline().strip():
            name, _, value = field.decode("latin-1").partition(": ")
            self.headers[name.lower()] = value
        if self.headers.get("transfer-encoding") == "chunked":
            self.body = b"".join(self._chunks())
        elif "content-length" in self.headers:
            self.body = self.file.read(int(self.headers["content-length"]))
        elif self.headers.get("connection") == "close":
            self.body = self.file.read()
        else:
            self.body = b""
        return self

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.file.readline(), 16):
            yield self.file.read(size)
            assert self.file.readline() == b"\r\n"
        assert self.file.readline() == b"\r\n"


class ProxyCase(TestCase):
    """A proxy on the loopback, and scripted servers behind it."""

    timeout = 20

    def setUp(self) -> None:
        self.said: list[str] = []
        self.names: dict[str, list[str]] = {}
        self.servings: list[Serving] = []
        self.patience = Patience(connect_s=5, idle_s=5)
        self.server = FileServer({"/a/file": whole(CONTENT), "/a/hang": hang})
        self.addCleanup(self.server.__exit__)
        self.serving = self.serve(Reach.of([self.server.url("/a/")]))

    def tearDown(self) -> "Deferred[None]":  # type: ignore[override]
        for serving in self.servings:
            serving.stop()
        return deferLater(reactor, 0.05)

    async def _resolve(self, host: str, port: int) -> list[str]:
        if host not in self.names:
            return [host]
        return self.names[host]

    def serve(self, reach: Reach, upstream: str = "") -> Serving:
        """Another proxy, which `connect` then connects to. In the reactor's thread."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = listening.getsockname()[1]
        serving = ArchiveProxy(reactor, upstream, self._resolve, self.patience).serve(
            listening, reach, self.said.append
        )
        self.servings.append(serving)
        return serving

    def serve_from_thread(self, reach: Reach, upstream: str = "") -> Serving:
        """The same, from a test that blocks."""
        made: list[Serving] = []
        done = threading.Event()

        def serve() -> None:
            made.append(self.serve(reach, upstream))
            done.set()

        reactor.callFromThread(serve)  # type: ignore[attr-defined]
        assert done.wait(5)
        return made[0]

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.addCleanup(connection.close)
        return connection

    def ask(self, data: bytes) -> Answer:
        """The answer to these bytes."""
        connection = self.connect()
        connection.sendall(data)
        return Answer(connection)

    def get(self, url: str, *headers: str, method: str = "GET", version: str = "1.1") -> Answer:
        lines = [f"{method} {url} HTTP/{version}", "Host: x", *headers, "", ""]
        return self.ask("\r\n".join(lines).encode())

    def serve_files(self, scripts: dict[str, Script]) -> FileServer:
        """Another server, and a proxy for all of it."""
        server = FileServer(scripts)
        self.addCleanup(server.__exit__)
        self.serving = self.serve_from_thread(Reach.of([server.url("/")]))
        return server
