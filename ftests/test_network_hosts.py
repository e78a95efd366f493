"""Packages that may reach some hosts while they are built, as buildd.conf lists them."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, FileServer, base_chroot

pytestmark = pytest.mark.real

# Says what comes of each URL, by whatever proxy the environment names.
_FETCH = (
    "perl -MHTTP::Tiny -e 'for (@ARGV) {{ my $$r = HTTP::Tiny->new->get($$_);"
    ' print "got $$r->{{status}} $$r->{{content}}\\n" }}\' {urls}'
)


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is not the place."""


@pytest.fixture(scope="module")
def places() -> Iterator[list[str]]:
    """Two servers on the loopback, as HOST:PORT."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    yield [f"127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def client(places: list[str]) -> Iterator[StockClient]:
    """A client of a daemon that lets packages reach the first."""
    buildd, files = BuilddTestSetup(settings={"network_hosts": places[0]}), FileServer()
    buildd.setUp()
    yield StockClient(buildd.url, files)
    files.close()
    buildd.tearDown()


@pytest.mark.parametrize("builder", ["sbuild", "direct"])
def test_a_package_reaches_what_is_listed(client: StockClient, places: list[str], tmp_path: Path, builder: str) -> None:
    """By the proxy that its environment names, and nothing else; the log says what it was refused."""
    urls = " ".join(f"http://{place}/" for place in places)
    source = tiny_source(tmp_path, build=f"no_proxy= {_FETCH.format(urls=urls)}; {_FETCH.format(urls=urls)}")
    _, log = client.build("reaches", source, base_chroot(), package_builder=builder)
    client.proxy.clean()
    assert [line[:9] for line in log.splitlines() if line.startswith("got ")] == [
        *("got 200 h", "got 403 G"),
        *("got 599 C", "got 599 C"),  # Not by the proxy: as no_proxy has it, localhost is the build's own.
    ], log[-3000:]
    assert f"network refused: GET http://{places[1]}/: it is not on the list of hosts for this build" in log
