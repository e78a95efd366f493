"""What the daemon is compared with: small servers.

`python -m benchmarks.baselines KIND [FILE]` serves at a free port, which it prints, until it is killed. Only what
Debian's own Python has is imported, since the daemon may run on that one.
"""

import functools
import http.server
import os
import selectors
import shutil
import socket
import socketserver
import sys
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from twisted.internet import reactor as _installed
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.xmlrpc import XMLRPC

from benchmarks.largefile import MARK_BYTES, mark

HOST = "127.0.0.1"
BACKLOG = 128


# --- XML-RPC at /rpc: echo and status


def _echo(*arguments: object) -> list[object]:
    return list(arguments)


def _status() -> dict[str, str]:
    return {"builder_status": "BuilderStatus.IDLE", "builder_version": "0.1.0"}


def twisted(_: Path) -> None:
    """twisted.web's own XML-RPC with nothing around it, which is what the reference is made of."""
    reactor: Any = _installed
    calls: Any = XMLRPC(allowNone=True)  # type: ignore[no-untyped-call]
    calls.xmlrpc_echo = _echo
    calls.xmlrpc_status = _status
    root = Resource()  # type: ignore[no-untyped-call]
    root.putChild(b"rpc", calls)
    site: Any = Site(root)  # type: ignore[no-untyped-call]
    site.log = lambda request: None
    _say(reactor.listenTCP(0, site, backlog=BACKLOG, interface=HOST).getHost().port)
    reactor.run()


class _Keeping(SimpleXMLRPCRequestHandler):
    """Leaves connections open."""

    protocol_version = "HTTP/1.1"
    rpc_paths = ("/rpc",)


class _ThreadedXMLRPC(socketserver.ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True
    request_queue_size = BACKLOG


def stdlib(_: Path) -> None:
    """The standard library's XML-RPC server, with a thread a connection."""
    server = _ThreadedXMLRPC((HOST, 0), _Keeping, logRequests=False, allow_none=True)
    server.register_function(_echo, "echo")
    server.register_function(_status, "status")
    _serve(server)


def canned(_: Path) -> None:
    """The same bytes for the same call, without a look at it: how fast this machine and the client could be."""
    dispatcher = SimpleXMLRPCDispatcher(allow_none=True, encoding="utf-8")
    dispatcher.register_function(_echo, "echo")
    dispatcher.register_function(_status, "status")

    @functools.cache
    def answer(call: bytes) -> bytes:
        # Its name is private, but it is what the subclasses of this class are for.
        body = dispatcher._marshaled_dispatch(call.partition(b"\r\n\r\n")[2])
        content = body if isinstance(body, bytes) else body.encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(content) + content

    listening = socket.create_server((HOST, 0), backlog=BACKLOG)
    _say(listening.getsockname()[1])
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while True:
        for key, _events in selector.select():
            if key.fileobj is listening:
                selector.register(listening.accept()[0], selectors.EVENT_READ)
                continue
            connection: Any = key.fileobj
            if call := connection.recv(65536):
                connection.sendall(answer(call))
            else:
                selector.unregister(connection)
                connection.close()


# --- one file


class _Threaded(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = BACKLOG


class _Sending(socketserver.StreamRequestHandler):
    """Answers a GET of /NUMBER by a mark and the file."""

    def __init__(self, *arguments: Any, path: Path) -> None:
        self._path = path
        super().__init__(*arguments)

    def handle(self) -> None:
        number = int(self.rfile.readline().split()[1].strip(b"/"))
        while self.rfile.readline().strip():
            pass
        with self._path.open("rb") as file:
            length = MARK_BYTES + os.fstat(file.fileno()).st_size
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            self.connection.sendall(head.encode() + mark(number))
            self.connection.sendfile(file)


def sendfile(path: Path) -> None:
    """A file by sendfile(2), which is next to no work."""
    _serve(_Threaded((HOST, 0), functools.partial(_Sending, path=path)))


class _Copying(http.server.SimpleHTTPRequestHandler):
    """Answers every GET by the file, copied by shutil.copyfileobj as this class does."""

    def __init__(self, *arguments: Any, path: Path) -> None:
        self._path = path
        super().__init__(*arguments)

    def translate_path(self, path: str) -> str:
        return str(self._path)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        shutil.copyfileobj(source, outputfile)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def http_server(path: Path) -> None:
    """A file by the standard library's http.server."""
    _serve(_Threaded((HOST, 0), functools.partial(_Copying, path=path)))


KINDS = {server.__name__: server for server in (twisted, stdlib, canned, sendfile, http_server)}


def _serve(server: socketserver.TCPServer) -> None:
    _say(server.server_address[1])
    server.serve_forever()


def _say(port: object) -> None:
    print(port, flush=True)


if __name__ == "__main__":
    kind, *file = sys.argv[1:]
    KINDS[kind](Path(*file))
