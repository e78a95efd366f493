"""The store over HTTP."""

import http.client
import io
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.http import Request

from buildmaster.file_server import file_site
from buildmaster.store import Sha256
from buildmaster.store.local import LocalStore


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    """One request; the path is sent as it is."""
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

    async def test_who_gives_up_while_the_store_looks(self) -> None:
        """A builder that goes away before a slow store has found its file, or has not, is no trouble of the store's."""
        stored = self.store.add([b"x" * 1_000_000])
        opened, asked, go_on = self.store.open, threading.Semaphore(0), threading.Event()

        def slow(sha256: Sha256) -> Any:
            asked.release()
            go_on.wait(30)
            return opened(sha256)

        def ask_and_go(path: str) -> None:
            with socket.create_connection(("127.0.0.1", self.number)) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert asked.acquire(timeout=30)

        lost: list[Request] = []
        lose = Request.connectionLost

        def noted(request: Request, reason: Any) -> None:
            lose(request, reason)  # type: ignore[no-untyped-call]
            lost.append(request)

        any_reactor: Any = reactor
        with mock.patch.object(self.store, "open", slow), mock.patch.object(Request, "connectionLost", noted):
            for path in (f"/files/{stored.sha256}/x", f"/files/{'0' * 64}/x"):
                await deferToThread(ask_and_go, path)
            while len(lost) < 2:
                await deferLater(any_reactor, 0.01)
            go_on.set()
            assert await self.get(f"/files/{stored.sha256}/x") == (200, b"x" * 1_000_000)
        assert self.flushLoggedErrors() == []  # type: ignore[no-untyped-call]

    async def test_a_store_that_breaks_in_the_middle(self) -> None:
        """Whoever fetches sees a short answer at once, and does not wait for what never comes."""
        stored = self.store.add([b"x" * 3_000_000])
        opened = self.store.open

        class Breaking(io.BytesIO):
            def read(self, count: int | None = -1, /) -> bytes:
                if self.tell() > 1_000_000:
                    raise OSError("the disk broke")
                return super().read(count)

        def breaking(sha256: Sha256) -> BinaryIO:
            with opened(sha256) as stream:
                return Breaking(stream.read())

        with mock.patch.object(self.store, "open", breaking), pytest.raises(http.client.IncompleteRead):
            await self.get(f"/files/{stored.sha256}/x")
        (told,) = self.flushLoggedErrors()  # type: ignore[no-untyped-call]
        assert "the disk broke" in str(told.value)
