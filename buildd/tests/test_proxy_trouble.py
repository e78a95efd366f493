"""The daemon's proxy, over real connections: what it does to whoever misbehaves."""

import contextlib
import socket
import threading
import time
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from buildd.connecting import system_resolver
from buildd.reach import Reach
from buildd.tests.proxy_case import SHORT, Answer, ProxyCase, in_thread, raw
from buildd.tests.running import FileServer, hang, whole


class TroubleTests(ProxyCase):
    """Archives and builds that fail, hang, or go away."""

    @in_thread
    def test_names_of_the_system(self) -> None:
        """Names are looked up as by any program of this machine; one that cannot be is a gateway's error."""
        self._resolve = None  # type: ignore[assignment]
        server = FileServer({"/x": whole(b"1")})
        self.addCleanup(server.__exit__)
        url = server.url("/x").replace("127.0.0.1", "localhost")
        self.serve_from_thread(Reach.of([url.removesuffix("x"), f"http://{'x' * 64}/"]))
        assert self.get(url).body == b"1"
        answer = self.get(f"http://{'x' * 64}/x")
        assert (answer.status, b"cannot be resolved" in answer.body) == (502, True)

    def test_name_servers_that_are_slow(self) -> "Deferred[None]":
        """So many names are waited for at once and no more, whoever has given up meanwhile."""
        resolve, over = system_resolver(reactor), threading.Event()

        async def try_many() -> None:
            with mock.patch("socket.getaddrinfo", lambda *_, **__: over.wait(10) and []):
                waiting = [Deferred.fromCoroutine(resolve("x", 1)) for _ in range(16)]
                for each in waiting[:8]:
                    each.addErrback(lambda _: None).cancel()
                with pytest.raises(OSError, match="too many"):
                    await resolve("x", 1)
                over.set()
                assert await waiting[15] == []
            assert await resolve("127.0.0.1", 1) == ["127.0.0.1"]

        return Deferred.fromCoroutine(try_many())

    @in_thread
    def test_an_archive_that_cannot_be_reached(self) -> None:
        """An archive that is not there is a gateway's error, which apt takes for one that may pass."""
        with socket.create_server(("127.0.0.1", 0)) as gone:
            nobody = f"http://127.0.0.1:{gone.getsockname()[1]}/"
        self.serve_from_thread(Reach.of([nobody, "http://nowhere.example/"]))
        self.names["nowhere.example"] = []
        for url in (nobody, "http://nowhere.example/"):
            answer = self.get(url)
            assert (answer.status, answer.headers["connection"]) == (502, "keep-alive")
            assert b"cannot be connected to" in answer.body

    @in_thread
    def test_an_archive_that_never_answers(self) -> None:
        """An archive that hangs is given up after a time, and the client hears of it."""
        self.patience = SHORT
        server = self.serve_files({"/hang": hang})
        begun = time.monotonic()
        answer = self.get(server.url("/hang"))
        assert answer.status == 504
        assert b"nothing came for 0.5 s" in answer.body
        assert time.monotonic() - begun < 3

    @in_thread
    def test_an_archive_that_stops_in_the_middle(self) -> None:
        """A file of which the rest does not come is broken off, so that nobody takes it for whole."""

        def half(connection: socket.socket, request: bytes, over: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            over.wait()

        def chunk(connection: socket.socket, request: bytes, over: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")

        self.patience = SHORT
        server = self.serve_files({"/hangs": half, "/closes": whole(b"half", announced=10), "/chunk": chunk})
        for path in ("/hangs", "/closes", "/chunk"):
            connection = self.connect()
            connection.sendall(f"GET {server.url(path)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while data := connection.recv(65536):
                    received += data
            assert not received.endswith(b"0\r\n\r\n"), path
            assert received.count(b"HTTP/1.1") == 1

    @in_thread
    def test_an_answer_that_is_none(self) -> None:
        """Words that are not HTTP, lengths that contradict each other and headers without end are not passed on."""
        server = self.serve_files(
            {
                "/words": raw(b"SSH-2.0-OpenSSH\r\n\r\n"),
                "/lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
                "/headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyy\r\n" * 40000),
            }
        )
        for path in ("/words", "/lengths", "/headers"):
            answer = self.get(server.url(path))
            assert answer.status == 502, (path, answer.status, answer.body)

    @in_thread
    def test_a_slow_build(self) -> None:
        """What the build does not take yet is not kept: the archive has to wait."""
        sent = [0]

        def endless(connection: socket.socket, request: bytes, over: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while not over.is_set():
                sent[0] += connection.send(bytes(100_000))

        self.patience = SHORT
        server = self.serve_files({"/x": endless})
        connection = self.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET {server.url('/x')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.4)
        assert sent[0] < 30_000_000  # The system's buffers, of both connections.
        time.sleep(1)
        with pytest.raises(ConnectionResetError):  # It is broken off, as nothing moves.
            while connection.recv(1 << 20):
                pass

    @in_thread
    def test_a_build_that_goes_away(self) -> None:
        """When the build hangs up, so do we to the archive."""
        ended = threading.Event()

        def endless(connection: socket.socket, request: bytes, over: threading.Event) -> None:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                while not over.is_set():
                    connection.sendall(bytes(10_000))
            finally:
                ended.set()

        server = self.serve_files({"/x": endless})
        connection = self.connect()
        connection.sendall(f"GET {server.url('/x')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(1000)
        connection.close()
        assert ended.wait(5)

    @in_thread
    def test_stop(self) -> None:
        """When a run is over, its connections are, and nobody can connect."""
        idle, busy = self.connect(), self.connect()
        idle.sendall(b"GET http://x/ HTTP/1.1\r\n\r\n")
        assert Answer(idle).status == 403
        busy.sendall(f"GET {self.server.url('/a/hang')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.05)
        reactor.callFromThread(self.serving.stop)  # type: ignore[attr-defined]
        for connection in (idle, busy):
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            self.connect()
        reactor.callFromThread(self.serving.stop)  # type: ignore[attr-defined]
