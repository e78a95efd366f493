"""A daemon in a process of its own, and a file server that misbehaves as told, for tests against the real thing."""

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
START_S = 20.0
CHROOT, DSC = b"chroot", b"dsc"  # Of fake builds.


class RunningDaemon:
    """debfarm-buildd with fake builds (fakes.FakeManager), started from the checkout's buildd.conf on a free port."""

    def __init__(self, directory: Path, *arguments: str, **settings: str) -> None:
        self.directory = directory
        self.log = directory.with_suffix(".log")
        keys = {"directory": str(directory), "port": "0", "allow_root": "yes", "label": "tester", **settings}
        # Root could make control groups anywhere; those of a daemon that a test kills would stay.
        keys.setdefault("cgroup", "/debfarm-has-none")
        environment = {f"DEBFARM_BUILDD_{name.upper()}": value for name, value in keys.items()}
        # requests warns of a mixture of versions, which is not what is tested.
        argv = [sys.executable, "-W", "ignore", "-m", "buildd.tests.fakes", "--config", str(CHECKOUT / "buildd.conf")]
        argv += arguments
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CHECKOUT
            )
        try:
            self.port = self._wait_for_port()
        except BaseException:
            self.kill()
            raise

    def _wait_for_port(self) -> int:
        """The port file of an earlier daemon is removed as the first thing, so wait for one that is answered at."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                self.port = int((self.directory / "port").read_text())
                self.rpc.echo()
                return self.port
            time.sleep(0.05)
        raise AssertionError(f"the daemon does not answer:\n{self.log.read_text()}")

    @property
    def rpc(self) -> Any:
        """A client as Launchpad's is."""
        return xmlrpc.client.ServerProxy(f"http://127.0.0.1:{self.port}/rpc", allow_none=True)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
        """Ask for a path exactly as it is written: status, headers by lower-case name, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()
        finally:
            connection.close()

    def send(self, data: bytes) -> socket.socket:
        """A connection on which these bytes have been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(data)
        return connection

    def present(self, content: bytes) -> str:
        """Have the daemon fetch a file of this content; its SHA-1."""
        sha1 = hashlib.sha1(content).hexdigest()
        with FileServer({"/file": whole(content)}) as server:
            assert self.rpc.ensurepresent(sha1, server.url("/file"), "", "") in ([True, "Download"], [True, "Cache"])
        return sha1

    def wait_for(self, builder_status: str) -> dict[str, Any]:
        """The status struct, once it says so."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            status: dict[str, Any] = self.rpc.status()
            if status["builder_status"] == f"BuilderStatus.{builder_status}":
                return status
            time.sleep(0.02)
        raise AssertionError(f"not {builder_status}: {status}")

    def resident_bytes(self) -> int:
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self, by: signal.Signals = signal.SIGTERM, within_s: float = 10) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(by)
        return self.process.wait(within_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "RunningDaemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def begin_build(daemon: RunningDaemon, build_id: str = "PACKAGEBUILD-1", **arguments: Any) -> None:
    """Start a fake build; see fakes.FakeManager for the arguments."""
    answer = daemon.rpc.build(build_id, "fake", daemon.present(CHROOT), {"hello_1.dsc": daemon.present(DSC)}, arguments)
    assert answer == ["BuilderStatus.BUILDING", build_id]


Script = Callable[[socket.socket, bytes, threading.Event], None]  # Connection, request, set when the test is over.


class FileServer:
    """Answers a path by a script, which may do with the connection what it likes."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.requests: list[bytes] = []
        self._scripts = scripts
        self._over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}{path}"

    def __enter__(self) -> "FileServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)  # Or the thread would go on to take one more connection.
        self._accepting.join()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # Closed: the test is over.
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and (data := connection.recv(65536)):
                request += data
            if request:
                self.requests.append(request)
                self._scripts[request.split()[1].decode()](connection, request, self._over)


def whole(content: bytes, *headers: bytes, announced: int | None = None) -> Script:
    """Sends a file; `announced` is what it says its length is, where that is wrong."""

    def script(connection: socket.socket, request: bytes, over: threading.Event) -> None:
        length = len(content) if announced is None else announced
        head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % length, b"Connection: close", *headers]
        connection.sendall(b"\r\n".join(head) + b"\r\n\r\n")
        connection.sendall(content)  # Apart: to join them would hold up the other threads of the test.

    return script


def slow(pieces: Iterator[bytes], pause_s: float) -> Script:
    """Sends what it is given, without announcing a length, a piece at a time."""

    def script(connection: socket.socket, request: bytes, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for piece in pieces:
            connection.sendall(piece)
            if over.wait(pause_s):
                return

    return script


def status_line(line: bytes, *headers: bytes) -> Script:
    """Answers without a file."""

    def script(connection: socket.socket, request: bytes, over: threading.Event) -> None:
        connection.sendall(b"\r\n".join([b"HTTP/1.1 " + line, b"Content-Length: 0", *headers]) + b"\r\n\r\n")

    return script


def hang(connection: socket.socket, request: bytes, over: threading.Event) -> None:
    """Never answers."""
    over.wait()
