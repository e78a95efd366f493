"""The daemon's proxy, over real connections: tunnels, and the proxy that may be behind it."""

import contextlib
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet import reactor

from buildd.proxy import Serving
from buildd.reach import Reach
from buildd.tests.proxy_case import ProxyCase, in_thread
from buildd.tests.small_archive import server_tls


class TunnelTests(ProxyCase):
    """TLS through it, and what goes by way of another proxy."""

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
