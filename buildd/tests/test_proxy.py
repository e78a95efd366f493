"""The daemon's proxy, over real connections: what it lets through, and what it does to whoever misbehaves."""

import contextlib
import functools
import http.server
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildd.connecting import Patience, system_resolver
from buildd.proxy import CONNECTIONS_MAX, ArchiveProxy, Serving
from buildd.reach import Reach
from buildd.tests.running import FileServer, Script, hang, slow, status_line, whole
from buildd.tests.small_archive import server_tls

CONTENT = bytes(range(256)) * 1000
SHORT = Patience(connect_s=0.5, idle_s=0.5)


def in_thread(test: Callable[["ProxyTests"], None]) -> Callable[["ProxyTests"], Deferred[None]]:
    """A test that blocks, as clients do."""

    @functools.wraps(test)
    def run(self: "ProxyTests") -> Deferred[None]:
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


class ProxyTests(TestCase):
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

    # --- what is let through

    @in_thread
    def test_a_file(self) -> None:
        """A file of an archive comes as it is, and the connection can be used again."""
        connection = self.connect()
        request = f"GET {self.server.url('/a/file')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        connection.sendall(request)
        answer = Answer(connection)
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, CONTENT, "keep-alive")
        connection.sendall(request)
        assert answer.again().body == CONTENT

    @in_thread
    def test_pipelined_requests(self) -> None:
        """Requests that come all at once, in pieces of any size, are answered one after the other."""
        connection = self.connect()
        good = f"GET {self.server.url('/a/file')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        bad = b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n"
        data = (good + bad * 30) * 2
        connection.sendall(data[:100])
        time.sleep(0.02)
        connection.sendall(data[100:])
        answer = Answer(connection)
        found = [answer.status, *(answer.again().status for _ in range(61))]
        assert found == ([200] + [403] * 30) * 2

    @in_thread
    def test_http_1_0(self) -> None:
        """An old client gets its file, and no chunks; the connection is closed unless it asks otherwise."""
        answer = self.get(self.server.url("/a/file"), version="1.0")
        assert (answer.body, answer.headers["connection"], answer.file.read()) == (CONTENT, "close", b"")
        answer = self.get(self.server.url("/a/file"), "Connection: keep-alive", version="1.0")
        assert (answer.body, answer.headers["connection"]) == (CONTENT, "keep-alive")
        server = self.serve_files({"/x": slow(iter([b"one", b"two"]), 0)})
        answer = self.get(server.url("/x"), "Connection: keep-alive", version="1.0")
        assert (answer.body, answer.headers["connection"]) == (b"onetwo", "close")

    @in_thread
    def test_a_file_of_unknown_length(self) -> None:
        """A file whose length was not announced comes in chunks."""
        server = self.serve_files(
            {
                "/x": slow(iter([b"one", b"two"]), 0),
                "/chunks": raw(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
                ),
            }
        )
        for path in ("/x", "/chunks"):
            answer = self.get(server.url(path))
            assert (answer.body, answer.headers.get("transfer-encoding")) == (b"onetwo", "chunked")

    @in_thread
    def test_headers(self) -> None:
        """What apt says and hears goes through; what is of one connection does not, nor what apt never says."""
        answers = (b"Last-Modified: then", b"Keep-Alive: 9", b"X-Own: \xe9", b"Proxy-Authenticate: Basic")
        server = self.serve_files({"/x": whole(b"1", *answers)})
        answer = self.get(
            server.url("/x"), "If-Modified-Since: then", "Range: bytes=1-", "Authorization: Basic eA==", "Cookie: c",
            "Proxy-Authorization: Basic eQ==", "X-Forwarded-For: 127.0.0.1", "TE: trailers", "Upgrade: h2c",
        )  # fmt: skip
        asked = server.requests[0].decode().lower().split("\r\n")
        wanted = {"if-modified-since: then", "range: bytes=1-", "authorization: basic ea=="}
        assert wanted < set(asked)
        host = server.url("").removeprefix("http://")
        assert asked.count(f"host: {host}") == 1
        assert not [line for line in asked if line.startswith(("cookie", "proxy", "x-", "te:", "upgrade"))]
        assert answer.headers["last-modified"] == "then"
        assert not {"keep-alive", "proxy-authenticate"} & set(answer.headers)

    @in_thread
    def test_answers_without_a_body(self) -> None:
        """After an answer that has no body the next one is where it should be."""
        server = self.serve_files(
            {
                "/304": raw(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
                "/204": raw(b"HTTP/1.1 204 No\r\n\r\n"),
                "/empty": status_line(b"200 OK"),
                "/head": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
            }
        )
        connection = self.connect()
        for path, method in (("/304", "GET"), ("/204", "GET"), ("/empty", "GET"), ("/head", "HEAD")):
            connection.sendall(f"{method} {server.url(path)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            line = Answer(connection)
            assert (line.status, line.body) == ({"/304": 304, "/204": 204}.get(path, 200), b"")

    @in_thread
    def test_connections_to_archives_are_kept(self) -> None:
        """Many files of one archive come over one connection to it."""
        connections: set[Any] = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                connections.add(self.client_address)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            self.serve_from_thread(Reach.of([f"http://127.0.0.1:{server.server_port}/"]))
            for _ in range(5):
                assert self.get(f"http://127.0.0.1:{server.server_port}/x").body == b"ok"
            assert len(connections) == 1
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    # --- what is refused

    @in_thread
    def test_elsewhere(self) -> None:
        """What is no archive's gets 403 and a sentence, which is in the log as well, once; and the connection lives."""
        other = FileServer({"/x": whole(b"secret")})
        self.addCleanup(other.__exit__)
        for _ in range(2):
            answer = self.get(other.url("/x"))
        assert (answer.status, answer.headers["connection"]) == (403, "keep-alive")
        assert b"none of the build's archives" in answer.body
        assert len(self.said) == len(self.serving.refused) == 1
        assert other.url("/x") in self.said[0]
        assert other.requests == []

    @in_thread
    def test_refusals_in_the_log_are_limited(self) -> None:
        """A build that asks for a thousand things fills neither log nor memory."""
        connection = self.connect()
        for number in range(150):
            connection.sendall(b"GET http://x/%d HTTP/1.1\r\n\r\n" % number)
        connection.sendall(b"GET http://x/ HTTP/1.1\r\nConnection: close\r\n\r\n")
        connection.makefile("rb").read()
        assert len(self.said) == 21
        assert len(self.serving.refused) == 100

    @in_thread
    def test_what_is_no_request(self) -> None:
        """What two servers could understand differently is answered with 400, and the connection is closed."""
        url = self.server.url("/a/file").encode()
        for data in (
            b"GET %s HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            b"POST %s HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            b"GET %s HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
            b"GET %s HTTP/1.1\r\nContent-Length: +0\r\n\r\n",
            b"GET %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET %s HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            b"GET %s HTTP/1.1\r\nX: y\r\n z\r\n\r\n",
            b"GET %s HTTP/1.1\r\nX: y\nZ: a\r\n\r\n",
            b"GET %s HTTP/1.1\r\nX: y\rZ: a\r\n\r\n",
            b"GET %s HTTP/1.1\r\nX: \0\r\n\r\n",
            b"GET %s HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET %s HTTP/1.1\r\n: x\r\n\r\n",
            b"GET %s HTTP/2.0\r\n\r\n",
            b"GET %s\r\n\r\n",
            b"GET  %s HTTP/1.1\r\n\r\n",
            b"GET %s x HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01%s\r\n\r\n",
        ):
            answer = self.ask(data % url)
            assert (answer.status, answer.headers["connection"]) == (400, "close"), data
            assert answer.file.read() == b"", data
        assert self.server.requests == []

    @in_thread
    def test_a_request_that_is_hard_to_read(self) -> None:
        """Within its limits no request takes long: all other work of the daemon would have to wait."""
        url = self.server.url("/a/file").encode()
        for header in (b"X:%s\0" % (b" " * 3000), b"X:%sx\0" % (b" x" * 1500), b"%s" % (b"X" * 16000)):
            begun = time.monotonic()
            assert self.ask(b"GET %s HTTP/1.1\r\n%s\r\n\r\n" % (url, header)).status == 400
            assert time.monotonic() - begun < 5

    @in_thread
    def test_too_long_a_request(self) -> None:
        """A request whose headers do not end is not kept for ever."""
        assert self.ask(b"GET http://x/ HTTP/1.1\r\n" + b"X: y\r\n" * 12000).status in (431, 0)

    @in_thread
    def test_too_many_connections(self) -> None:
        """A build cannot have connections without end."""
        connections = [self.connect() for _ in range(CONNECTIONS_MAX)]
        for connection in connections:
            connection.sendall(b"GET http://x/ HTTP/1.1\r\n\r\n")
            assert Answer(connection).status == 403
        one_more = self.connect()
        assert one_more.recv(1) == b""

    @in_thread
    def test_a_redirect(self) -> None:
        """Where an archive redirects to may be asked for in this run; other things of that server may not."""
        other = FileServer({"/y": whole(b"moved")})
        self.addCleanup(other.__exit__)
        target = other.url("/y").replace("127.0.0.1", "cdn.example")
        self.names["cdn.example"] = ["127.0.0.1"]
        archive = self.serve_files({"/x": status_line(b"302 Found", b"Location: " + target.encode())})
        assert self.get(target).status == 403
        assert self.get(archive.url("/x")).status == 302
        answer = self.get(target)  # It resolves to the loopback, which no redirect may lead to.
        assert (answer.status, other.requests) == (403, [])
        assert b"must not lead to 127.0.0.1" in answer.body

    @in_thread
    def test_a_name_that_is_resolved_anew(self) -> None:
        """A connection goes to the address that was looked at: its name is resolved once for it."""
        looked: list[str] = []

        async def resolve(host: str, port: int) -> list[str]:
            looked.append(host)
            return ["192.0.2.1", "127.0.0.1"] if len(looked) == 1 else ["127.0.0.1"]

        self._resolve = resolve  # type: ignore[method-assign]
        other = FileServer({"/y": whole(b"mine")})
        self.addCleanup(other.__exit__)
        target = other.url("/y").replace("127.0.0.1", "rebinding.example")
        archive = FileServer({"/x": status_line(b"302 Found", b"Location: " + target.encode())})
        self.addCleanup(archive.__exit__)
        self.serve_from_thread(Reach.of([archive.url("/").replace("127.0.0.1", "archive.example")]))
        looked.append("so that the archive's name is good")
        assert self.get(archive.url("/x").replace("127.0.0.1", "archive.example")).status == 302
        looked.clear()
        for _ in range(2):
            assert self.get(target).status == 403
        assert (other.requests, looked) == ([], ["rebinding.example"] * 2)

    @in_thread
    def test_a_redirect_to_this_machine(self) -> None:
        """A redirect does not lead to this machine by another of its addresses than the loopback's."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # Sends nothing; it tells which address we would have.
            except OSError:
                self.skipTest("this machine has no address but the loopback's")
            address = probe.getsockname()[0]
        daemon = socket.create_server((address, 0))
        self.addCleanup(daemon.close)
        target = f"http://{address}:{daemon.getsockname()[1]}/rpc"
        archive = FileServer({"/x": status_line(b"302 Found", b"Location: " + target.encode())})
        self.addCleanup(archive.__exit__)
        for others in ([], ["10.0.0.1"]):  # An archive without, and one in a private network.
            url = archive.url("/").replace("127.0.0.1", "archive.example")
            self.names["archive.example"] = ["127.0.0.1", *others]
            serving = self.serve_from_thread(Reach.of([url]))
            assert self.get(f"{url}x").status == 302
            assert serving.reach.private is bool(others)
            answer = self.get(target)
            assert answer.status == 403
        assert b"must not lead to 127.0.0.1" in answer.body

    # --- what goes wrong

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

    # --- tunnels

    def tls_server(self) -> tuple[int, Path]:
        """A server that says "secret" to one client by TLS; its port and certificate."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        context = server_tls(directory / "certificate", "secret.example")
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def accept() -> None:
            with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
                connection.recv(1000)
                connection.sendall(b"secret" * 100_000)

        threading.Thread(target=accept, daemon=True).start()
        return listening.getsockname()[1], directory / "certificate"

    def through_tls(self, connection: socket.socket, certificate: Path) -> bytes:
        context = ssl.create_default_context(cafile=str(certificate))
        with context.wrap_socket(connection, server_hostname="secret.example") as secured:
            secured.sendall(b"please")
            return b"".join(iter(lambda: secured.recv(65536), b""))

    @in_thread
    def test_a_tunnel(self) -> None:
        """An archive by https is reached through a tunnel, and the proxy takes no part in its TLS."""
        port, certificate = self.tls_server()
        self.names["secret.example"] = ["127.0.0.1"]
        self.serve_from_thread(Reach.of([f"https://secret.example:{port}/debian"]))
        connection = self.connect()
        connection.sendall(f"CONNECT secret.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert self.through_tls(connection, certificate) == b"secret" * 100_000

    @in_thread
    def test_a_tunnel_to_who_does_not_read(self) -> None:
        """What a server does not take yet is not kept, and the end of the run is the end of the tunnel."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        port = listening.getsockname()[1]
        serving = self.serve_from_thread(Reach.of([f"https://127.0.0.1:{port}/"]))
        connection = self.connect()
        connection.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        server = listening.accept()[0]
        self.addCleanup(server.close)
        connection.settimeout(0.2)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while True:
                sent += connection.send(bytes(100_000))
        assert sent < 30_000_000  # The system's buffers, of both connections.
        connection.close()
        reactor.callFromThread(serving.stop)  # type: ignore[attr-defined]
        time.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            while server.recv(1 << 20):
                pass
        assert (serving.tunnels, serving.clients) == (set(), set())

    @in_thread
    def test_a_tunnel_elsewhere(self) -> None:
        """No tunnel leads to what is no archive's, or to an archive that cannot be reached."""
        self.serve_from_thread(Reach.of(["https://secret.example:1/debian", "http://127.0.0.1:22/"]))
        self.names["secret.example"] = ["127.0.0.1"]
        for place, status in (("127.0.0.1:22", 403), ("secret.example:443", 403), ("secret.example:1", 502)):
            answer = self.ask(f"CONNECT {place} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert answer.status == status, place

    # --- the proxy behind

    def behind(self, reach: Reach, answer: Callable[[socket.socket, bytes], None]) -> tuple[list[bytes], Serving]:
        """A proxy behind ours which answers so; what it was asked."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        asked: list[bytes] = []

        def accept() -> None:
            while True:
                try:
                    connection = listening.accept()[0]
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(65536))
                    answer(connection, asked[-1])

        threading.Thread(target=accept, daemon=True).start()
        upstream = f"http://me:pa%3Ass@127.0.0.1:{listening.getsockname()[1]}"
        return asked, self.serve_from_thread(reach, upstream)

    @in_thread
    def test_by_the_proxy_behind(self) -> None:
        """With a proxy behind, it is asked for everything, with its password, which the build never hears of."""
        asked, _ = self.behind(
            Reach.of(["http://deb.example/debian"]),
            lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        )
        assert self.get("http://deb.example/debian/x").body == b"ok"
        lines = asked[0].decode().lower().split("\r\n")
        assert lines[0] == "get http://deb.example/debian/x http/1.1"
        assert "host: deb.example" in lines
        assert "proxy-authorization: basic bwu6cge6c3m=" in lines  # me:pa:ss
        assert self.get("http://deb.example/other").status == 403
        assert self.get("http://127.0.0.1/").status == 403
        assert len(asked) == 1

    @in_thread
    def test_a_tunnel_by_the_proxy_behind(self) -> None:
        """https goes through a tunnel in a tunnel."""
        port, certificate = self.tls_server()

        def tunnel(connection: socket.socket, request: bytes) -> None:
            connection.sendall(b"HTTP/1.1 200 Fine\r\nX: y\r\n\r\n")
            with socket.create_connection(("127.0.0.1", port)) as server:
                thread = threading.Thread(target=pump, args=(connection, server))
                thread.start()
                pump(server, connection)
                connection.shutdown(socket.SHUT_RDWR)
                thread.join()

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)

        asked, _ = self.behind(Reach.of(["https://secret.example/"]), tunnel)
        connection = self.connect()
        connection.sendall(b"CONNECT secret.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert self.through_tls(connection, certificate) == b"secret" * 100_000
        assert asked[0].startswith(b"CONNECT secret.example:443 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic bWU6cGE6c3M=\r\n" in asked[0]

    @in_thread
    def test_a_tunnel_that_the_proxy_behind_refuses(self) -> None:
        """What the proxy behind does not connect to is told, with its words."""
        _, serving = self.behind(
            Reach.of(["https://secret.example/"]),
            lambda connection, _: connection.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n"),
        )
        answer = self.ask(b"CONNECT secret.example:443 HTTP/1.1\r\n\r\n")
        assert (answer.status, b"407 Who are you" in answer.body) == (502, True)
        time.sleep(0.05)
        assert serving.tunnels == set()
