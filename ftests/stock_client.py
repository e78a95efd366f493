"""A builder's master as Launchpad's is on the wire: the standard library's XML-RPC with nil allowed, then /filecache.

Only what protocol 1.0 has (docs/protocol.md): a daemon that this client can drive is one that a stock master can drive.
"""

import http.client
import time
import urllib.request
import xmlrpc.client
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildd.control import parse_dsc
from harness import FileServer

POLL_S = 0.05  # Most builds of tests take less than a second.
ANSWER_S = 60.0  # A daemon that is deaf for longer has hung.


class _Impatient(xmlrpc.client.Transport):
    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = ANSWER_S
        return connection


@dataclass
class StockClient:
    """Drives one daemon through builds."""

    url: str  # http://HOST:8221, as a master knows a builder.
    files: FileServer
    proxy: Any = field(init=False)  # An xmlrpc.client.ServerProxy.

    def __post_init__(self) -> None:
        self.proxy = xmlrpc.client.ServerProxy(f"{self.url}/rpc", allow_none=True, transport=_Impatient())

    def send(self, file: Path | bytes) -> str:
        """Have the daemon fetch a file; return its SHA-1."""
        sha1, url = self.files.put(file)
        present, info = self.proxy.ensurepresent(sha1, url, "", "")
        assert present, info
        return sha1

    def begin(self, build_id: str, dsc: Path, chroot: Path | bytes, **arguments: Any) -> None:
        """Send the files of a source package and a chroot, and start the build."""
        sources = [dsc, *(dsc.parent / file.name for file in parse_dsc(dsc).files)]
        filemap = {path.name: self.send(path) for path in sources}
        args = {
            "arch_tag": self.architecture,
            "arch_indep": True,
            "series": "bookworm",
            "suite": "bookworm",
            "archives": None,
            "archive_private": False,
            "archive_purpose": "PRIMARY",
            "ogrecomponent": "main",
            "build_debug_symbols": True,
            "build_url": "http://localhost/builds/1",
            "fast_cleanup": False,
            **arguments,
        }
        answer = self.proxy.build(build_id, "binarypackage", self.send(chroot), filemap, args)
        assert answer == ["BuilderStatus.BUILDING", build_id], answer

    @property
    def architecture(self) -> str:
        """What info() says the daemon builds for."""
        version, architecture, managers = self.proxy.info()
        assert version == "1.0"
        assert "binarypackage" in managers
        return str(architecture)

    def wait(self, timeout_s: float = 600) -> dict[str, Any]:
        """Poll until the build has ended; return the status then."""
        deadline = time.monotonic() + timeout_s
        while True:
            status: dict[str, Any] = self.proxy.status()
            if status["builder_status"] == "BuilderStatus.WAITING":
                return status
            assert status["builder_status"] in ("BuilderStatus.BUILDING", "BuilderStatus.ABORTING"), status
            assert time.monotonic() < deadline, status
            time.sleep(POLL_S)

    def fetch(self, name: str) -> bytes:
        """A file of the daemon's cache by its SHA-1, or `buildlog`."""
        with urllib.request.urlopen(f"{self.url}/filecache/{name}", timeout=ANSWER_S) as answer:
            content: bytes = answer.read()
        return content

    def build(self, build_id: str, dsc: Path, chroot: Path | bytes, **arguments: Any) -> tuple[dict[str, Any], str]:
        """Begin a build, wait for its end; the last status, and the log. The daemon is left WAITING."""
        self.begin(build_id, dsc, chroot, **arguments)
        status = self.wait()
        return status, self.fetch("buildlog").decode(errors="replace")
