"""The store over HTTP."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from buildmaster.file_server import file_site
from buildmaster.store import Sha256
from buildmaster.store.local import LocalStore


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    """One request; the path is sent as it is."""
    import http.client  # noqa: PLC0415

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


class TestFiles(TestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.store = LocalStore(self.directory)
        any_reactor: Any = reactor
        self.port: Any = any_reactor.listenTCP(0, file_site(self.store, any_reactor), interface="127.0.0.1")
        self.number: int = self.port.getHost().port

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.port.stopListening()
        shutil.rmtree(self.directory)

    async def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        return await deferToThread(fetch, self.number, path, method)

    async def test_a_file(self) -> None:
        """A file is served by its SHA-256, under whatever name, whole."""
        data = bytes(range(256)) * 20_000
        stored = self.store.add([data])
        assert await self.get(f"/files/{stored.sha256}/chroot.tar") == (200, data)
        assert await self.get(f"/files/{stored.sha256}/x") == (200, data)
        assert await self.get(f"/files/{stored.sha256}/x", "HEAD") == (200, b"")

    async def test_an_empty_file(self) -> None:
        """So is an empty one."""
        stored = self.store.add([])
        assert await self.get(f"/files/{stored.sha256}/x") == (200, b"")

    async def test_nothing_else(self) -> None:
        """There is no listing and no other path."""
        stored = self.store.add([b"x"])
        for path in (
            "/", "/files", "/files/", f"/files/{stored.sha256}", f"/files/{stored.sha256}/a/b", "/files/../farm.sqlite",
            f"/files/{'0' * 64}/x", f"/files/{stored.sha256.upper()}/x", "/files/%2e%2e%2f%2e%2e/x", "/files/%ff/x",
            "/files/new/x",
        ):  # fmt: skip
            status, body = await self.get(path)
            assert status == 404 and body != b"x", path

    async def test_no_other_method(self) -> None:
        """Nothing can be sent here."""
        stored = self.store.add([b"x"])
        status, _ = await self.get(f"/files/{stored.sha256}/x", "DELETE")
        assert status in (405, 501) and self.store.has(stored.sha256)

    async def test_many_at_once(self) -> None:
        """Several fetch large files at once, each gets its own."""
        files = [self.store.add([bytes([number]) * 3_000_000]) for number in range(4)]
        waiting = [deferToThread(fetch, self.number, f"/files/{each.sha256}/x", "GET") for each in files]
        for number, each in enumerate(waiting):
            assert await each == (200, bytes([number]) * 3_000_000)

    async def test_a_broken_store(self) -> None:
        """A file that cannot be read is no good answer, and is told in the log."""
        stored = self.store.add([b"x"])
        path = self.store.path(Sha256(stored.sha256))
        path.unlink()
        path.mkdir()
        try:
            status, body = await self.get(f"/files/{stored.sha256}/x")
            assert status != 200 or body == b""
        except OSError:
            pass
        told = self.flushLoggedErrors(OSError)  # type: ignore[no-untyped-call]
        assert len(told) == 1
