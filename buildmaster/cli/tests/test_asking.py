"""Asking a stranger whether it is a build daemon."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xmlrpc.client import Fault, dumps

import pytest

from buildmaster.cli.asking import BuilderInfo, ask_info
from buildmaster.cli.group import Refusal
from buildmaster.cli.tests.conftest import Cli

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """A server on loopback that answers every POST so; its URL."""

    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """That who asked has gone is no news."""

    listening = Server(("127.0.0.1", 0), Stranger)
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/"
    finally:
        listening.shutdown()
        listening.server_close()


def saying(body: bytes, code: int = 200) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def value(answer: str | list[object] | Fault) -> bytes:
    return dumps(answer if isinstance(answer, Fault) else (answer,), methodresponse=True).encode()


GOOD = value(["1.0", "riscv64", ["binarypackage", "wheel"]])


@pytest.mark.parametrize("path", ["", "rpc", "rpc/"])
def test_a_daemon(path: str) -> None:
    """A daemon's architecture and build types are learnt, whichever of its URLs is given."""
    with server(saying(GOOD)) as url:
        assert ask_info(url + path) == BuilderInfo("riscv64", ("binarypackage", "wheel"))


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "yyyy">]><methodResponse>&x;</methodResponse>'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (saying(value(["2.0", "amd64", []])), "speaks version '2.0'"),
        (saying(value(["1.0", "../x", []])), "not an architecture"),
        (saying(value("hello")), "makes no sense"),
        (saying(value(["1.0"])), "makes no sense"),
        (saying(value(Fault(8001, "unknown method"))), "fault 8001: unknown method"),
        (saying(b"<html>Welcome</html>"), "does not answer in XML-RPC"),
        (saying(b""), "does not answer in XML-RPC"),
        (saying(ENTITIES), "does not answer in XML-RPC"),
        (saying(GOOD.replace(b"<string>1.0</string>", b"<bigdecimal>x</bigdecimal>")), "does not answer in XML-RPC"),
        (saying(value(Fault(1, "a\nb"))), r"fault 1: a b$"),
        (saying(b"no", 404), "answers 404"),
        (saying(b"<a>" * 100_000), "does not end"),
    ],
)
def test_not_a_daemon(answer: Answer, said: str) -> None:
    """What is no daemon of our protocol is refused, with what it said."""
    with server(answer) as url, pytest.raises(Refusal, match=said):
        ask_info(url)


def test_slow_answer() -> None:
    """A server that drips its answer is given up, though no single wait is long."""

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.02)

    with server(drip) as url, pytest.raises(Refusal, match="does not end"):
        ask_info(url, timeout_s=0.2)


def test_nobody_there() -> None:
    """Where nobody answers, the refusal says how to go on."""
    with server(saying(GOOD)) as url:
        pass
    with pytest.raises(Refusal, match=r"Connection refused.*--offline"):
        ask_info(url)


def test_add_builder(cli: Cli) -> None:
    """A builder is added with the architecture that its daemon says; it must be the one asked for."""
    cli("init", "--series", "bookworm", "--architecture", "amd64")
    with server(saying(GOOD)) as url:
        refused = cli("add-builder", url, "--architecture", "amd64", status=1)
        assert "builds for riscv64, not for amd64" in refused.err
        ended = cli("add-builder", url, "--name", "board")
    assert f"builder board added: {url} for riscv64" in ended.out
    assert "No series has riscv64 yet" in ended.err
