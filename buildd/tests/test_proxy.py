"""The daemon's proxy, over real connections: what it lets through, and what it refuses."""

import http.server
import socket
import threading
import time
from typing import Any

from buildd.proxy import CONNECTIONS_MAX
from buildd.reach import Reach
from buildd.tests.proxy_case import CONTENT, Answer, ProxyCase, in_thread, raw
from buildd.tests.running import FileServer, slow, status_line, whole


class ProxyTests(ProxyCase):
    """What a build asks for."""

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
