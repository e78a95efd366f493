"""Tests of buildd.fetching and buildd.download, against file servers that misbehave."""

import base64
import functools
import gzip
import hashlib
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

import buildd.download
from buildd.config import BuilddConfig
from buildd.download import DownloadError, Source
from buildd.fetching import DOWNLOADS_MAX, Answer, Fetching
from buildd.filecache import FileCache
from buildd.protocol import Sha1
from buildd.tests.running import FileServer, Script, hang, slow, status_line, whole

CONTENT = b"Hello World" * 1000
SHA1 = Sha1(hashlib.sha1(CONTENT).hexdigest())
OTHER_SHA1 = Sha1(hashlib.sha1(b"other").hexdigest())


def awaited(
    test: Callable[["FetchingTests"], Coroutine[Any, Any, None]],
) -> Callable[["FetchingTests"], Deferred[None]]:
    """A test that is a coroutine. Debian 12's trial would call it, and think that that was all."""

    @functools.wraps(test)
    def run(self: "FetchingTests") -> Deferred[None]:
        return Deferred.fromCoroutine(test(self))

    return run


class FetchingTests(TestCase):
    """ensurepresent, as far as the cache and the file server are concerned."""

    timeout = 20

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.config = BuilddConfig(
            directory=self.directory, architecture="amd64", stall_timeout_s=0.4, download_timeout_s=5.0
        )
        self._prepare(free_floor_bytes=0)

    def _prepare(self, free_floor_bytes: int, **changes: Any) -> None:
        self.config = replace(self.config, **changes)
        self.cache = FileCache(self.directory / "filecache", 1 << 30, free_floor_bytes)
        self.fetching = Fetching(self.cache, self.config, reactor)  # type: ignore[arg-type]

    def _serve(self, scripts: Mapping[str, Script]) -> FileServer:
        server = FileServer(scripts)
        self.addCleanup(server.__exit__)
        return server

    def _ask(self, source: Source | None, sha1: Sha1 = SHA1) -> Deferred[Answer]:
        return Deferred.fromCoroutine(self.fetching.ensure_present(sha1, source))

    async def _fails(self, script: Script, sha1: Sha1 = SHA1) -> str:
        """What the answer says of a file that is served so; nothing may be left of it."""
        server = self._serve({"/file": script})
        present, text = await self._ask(Source(server.url("/file")), sha1)
        assert not present
        assert list(self.cache.directory.iterdir()) == []
        return text.replace(server.url("")[len("http://") :], "HOST")

    @awaited
    async def test_file_is_fetched_once(self) -> None:
        """Fetched: (True, 'Download'); in the cache already: (True, 'Cache'), or 'No URL' when none was given."""
        server = self._serve({"/file": whole(CONTENT)})
        source = Source(server.url("/file"))
        assert await self._ask(source) == (True, "Download")
        assert self.cache.path(SHA1).read_bytes() == CONTENT
        assert await self._ask(source) == (True, "Cache")
        assert await self._ask(None) == (True, "No URL")
        assert len(server.requests) == 1

    @awaited
    async def test_no_url(self) -> None:
        """Not there and no url: (False, 'No URL')."""
        assert await self._ask(None) == (False, "No URL")

    @awaited
    async def test_wrong_content(self) -> None:
        """Wrong digest: nothing of it is kept."""
        assert await self._fails(whole(CONTENT), OTHER_SHA1) == "Digests did not match, removing again!"

    @awaited
    async def test_second_call_joins_the_first(self) -> None:
        """A second call for the same file joins the first download; one for another file does not."""
        server = self._serve({"/file": slow(iter([CONTENT[:100], CONTENT[100:]]), 0.2), "/other": whole(b"other")})
        asked = [self._ask(Source(server.url("/file"))) for _ in range(3)]
        other = await self._ask(Source(server.url("/other")), OTHER_SHA1)
        assert not any(answer.called for answer in asked)
        assert other == (True, "Download")
        assert await gatherResults(asked) == [(True, "Download")] * 3
        assert len(server.requests) == 2

    @awaited
    async def test_failure_is_not_remembered(self) -> None:
        """A file that could not be fetched is tried again at the next call."""
        await self._fails(status_line(b"503 Busy"))
        server = self._serve({"/file": whole(CONTENT)})
        assert await self._ask(Source(server.url("/file"))) == (True, "Download")

    @awaited
    async def test_basic_authentication_is_sent_at_once(self) -> None:
        """Non-empty username or password: HTTP basic auth, sent with the first request."""
        server = self._serve({"/file": whole(CONTENT)})
        await self._ask(Source(server.url("/file"), "user", "pässword"))
        expected = b"Authorization: Basic " + base64.b64encode("user:pässword".encode())
        assert expected in server.requests[0]

    @awaited
    async def test_no_authentication_without_credentials(self) -> None:
        """Empty username and password: nothing is sent."""
        server = self._serve({"/file": whole(CONTENT)})
        await self._ask(Source(server.url("/file")))
        assert b"Authorization" not in server.requests[0]

    @awaited
    async def test_raw_bytes_are_hashed(self) -> None:
        """A content-encoding is not undone: what is stored is what is served."""
        packed = gzip.compress(CONTENT)
        server = self._serve({"/file": whole(packed, b"Content-Encoding: gzip")})
        answer = await self._ask(Source(server.url("/file")), Sha1(hashlib.sha1(packed).hexdigest()))
        assert answer == (True, "Download")
        assert b"Accept-Encoding: identity" in server.requests[0]

    @awaited
    async def test_redirects_are_not_followed(self) -> None:
        """A redirect could lead anywhere."""
        text = await self._fails(status_line(b"302 Found", b"Location: file:///etc/passwd"))
        assert text == "Error accessing Librarian: HOST answered 302, and redirects are not followed"

    @awaited
    async def test_error_of_the_server(self) -> None:
        """Any other status but 200 is named."""
        text = await self._fails(status_line(b"404 Not Found"))
        assert text == "Error accessing Librarian: HOST answered 404 Not Found"

    @awaited
    async def test_partial_content_is_not_the_file(self) -> None:
        """Only 200 brings the whole file."""
        assert "HOST answered 206" in await self._fails(status_line(b"206 Partial Content"))

    @awaited
    async def test_server_that_ends_early(self) -> None:
        """Less than was announced is not the file, whatever its digest is."""
        text = await self._fails(whole(CONTENT, announced=len(CONTENT) + 1))
        assert "Error accessing Librarian: HOST ended after 11000" in text

    @awaited
    async def test_chunked_body_that_ends_early(self) -> None:
        """A chunked body without its last chunk is not the file."""

        def script(connection: Any, request: bytes, over: threading.Event) -> None:
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT))

        assert "Error accessing Librarian: HOST ended after" in await self._fails(script)

    @awaited
    async def test_server_that_never_answers(self) -> None:
        """A server that hangs is given up after the time without a byte."""
        text = await self._fails(hang)
        assert text == "Error accessing Librarian: HOST sent nothing for 0.4 s"

    @awaited
    async def test_server_that_hangs_in_the_middle(self) -> None:
        """The same in the middle of the file."""

        def script(connection: Any, request: bytes, over: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
            over.wait()

        text = await self._fails(script)
        assert text == "Error accessing Librarian: HOST sent nothing for 0.4 s"

    @awaited
    async def test_server_that_drips(self) -> None:
        """A byte now and then does not keep a download alive for ever."""
        self._prepare(free_floor_bytes=0, download_timeout_s=0.6)
        begun = time.monotonic()
        server = self._serve({"/file": slow(itertools.repeat(b"x"), 0.1)})
        answer = await self._ask(Source(server.url("/file")))
        assert answer == (False, "Error accessing Librarian: not all of it came within 0.6 s")
        assert time.monotonic() - begun < 2
        await self._threads_end()
        assert list(self.cache.directory.iterdir()) == []

    @awaited
    async def test_stop_breaks_downloads_off(self) -> None:
        """When the daemon ends, whoever waits for a download gets an answer, and nothing is left of it."""
        server = self._serve({"/file": slow(itertools.repeat(b"x"), 0.1)})
        asked = self._ask(Source(server.url("/file")))
        while not server.requests:
            await _pause(0.05)
        await _pause(0.15)
        self.fetching.stop()
        assert await asked == (False, "Error accessing Librarian: the daemon is ending")
        await self._threads_end()
        assert list(self.cache.directory.iterdir()) == []

    @awaited
    async def test_no_thread_can_be_started(self) -> None:
        """Whoever waits is answered also when nothing can be begun, and the next call tries again."""
        server = self._serve({"/file": whole(CONTENT)})
        source = Source(server.url("/file"))
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            asked = [self._ask(source) for _ in range(DOWNLOADS_MAX + 1)]
            failed = (False, "Error accessing Librarian: the daemon failed: can't start new thread")
            assert await gatherResults(asked) == [failed] * len(asked)
        assert await self._ask(source) == (True, "Download")
        self.flushLoggedErrors(RuntimeError)  # type: ignore[no-untyped-call]

    @awaited
    async def test_nobody_listens(self) -> None:
        """A refused connection is named as such."""
        server = FileServer({})
        url = server.url("/file")
        server.__exit__()
        present, text = await self._ask(Source(url))
        assert not present
        assert text.startswith("Error accessing Librarian: 127.0.0.1:"), text
        assert text.endswith("Connection refused"), text

    @awaited
    async def test_no_such_host(self) -> None:
        """A host that cannot be found is named, and the password in the URL is not."""
        present, text = await self._ask(Source("http://user:secret@no-such-host.invalid/file"))
        assert not present
        assert text.startswith("Error accessing Librarian: no-such-host.invalid: "), text
        assert "secret" not in text

    @awaited
    async def test_answer_that_is_no_http(self) -> None:
        """Something else than HTTP is an answer too."""

        def script(connection: Any, request: bytes, over: threading.Event) -> None:
            connection.sendall(b"\0\xff" * 100 + b"\r\n\r\n")

        assert "Error accessing Librarian: HOST: " in await self._fails(script)

    @awaited
    async def test_server_that_hangs_up(self) -> None:
        """A connection that is closed without a word is told in words."""

        def script(connection: Any, request: bytes, over: threading.Event) -> None:
            connection.close()

        text = await self._fails(script)
        assert text == "Error accessing Librarian: HOST: Remote end closed connection without response"

    @awaited
    async def test_disk_without_room(self) -> None:
        """A full disk is named, and nothing is left."""
        self._prepare(free_floor_bytes=1 << 60)
        assert "Error accessing Librarian: the builder's disk is full" in await self._fails(whole(CONTENT))

    @awaited
    async def test_other_things_go_on_meanwhile(self) -> None:
        """The event loop is never held up by a download, hashing included."""
        content = b"x" * (30 << 20)
        server = self._serve({"/file": whole(content)})
        asked = self._ask(Source(server.url("/file")), Sha1(hashlib.sha1(content).hexdigest()))
        longest = 0.0
        while not asked.called:
            begun = time.monotonic()
            await _pause(0)
            longest = max(longest, time.monotonic() - begun)
        assert await asked == (True, "Download")
        assert longest < 0.2

    async def _fetches(self, *plans: str) -> tuple[list[Answer], list[bytes]]:
        """Ask four times for a file of a server that keeps connections, and what it was asked.

        :param plans: for each connection, what becomes of the requests over it: "a", answered; "h", hung up on. Behind
            the last the connection is closed.
        """
        connections = iter(plans)

        def script(connection: Any, request: bytes, over: threading.Event) -> None:
            for number, step in enumerate(next(connections)):
                if number:
                    requests.append(connection.recv(65536))
                if step == "a":
                    head = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)
                    connection.sendall(head + CONTENT)

        server = self._serve({"/file": script})
        requests, answers = server.requests, []
        for _ in range(4):
            answers.append(await self._ask(Source(server.url("/file"))))
            self.cache.path(SHA1).unlink(missing_ok=True)
            await _pause(0.05)  # Until a connection that is closed is.
        assert not list(connections)
        return answers, requests

    @awaited
    async def test_a_connection_is_kept(self) -> None:
        """For what comes from there next; cookies are not."""
        answers, requests = await self._fetches("aaaa")
        assert answers == [(True, "Download")] * 4
        assert not any(b"cookie" in request.lower() for request in requests)

    @awaited
    async def test_a_connection_that_was_kept_has_ended(self) -> None:
        """Whether the other side closed it meanwhile, or as it was used again: there is another."""
        answers, _ = await self._fetches("aa", "ah", "a")
        assert answers == [(True, "Download")] * 4

    @awaited
    async def test_a_connection_that_was_kept_for_long(self) -> None:
        """Something on the way may have forgotten it, so that nothing would ever come of what is sent over it."""
        with mock.patch.object(buildd.download, "KEPT_S", 0.01):
            answers, _ = await self._fetches("a", "a", "a", "a")
        assert answers == [(True, "Download")] * 4

    @awaited
    async def test_threads_that_are_not_needed_any_more(self) -> None:
        """What waited for a server that hung goes, but for as many as there are downloads at once."""
        self._prepare(free_floor_bytes=0, download_timeout_s=0.1, stall_timeout_s=0.5)
        server = self._serve({"/file": hang, "/ok": whole(CONTENT)})
        wanted = [Sha1(f"{number:040x}") for number in range(3 * DOWNLOADS_MAX)]
        await gatherResults([self._ask(Source(server.url("/file")), sha1) for sha1 in wanted])
        await self._threads_end()
        assert await self._ask(Source(server.url("/ok"))) == (True, "Download")
        while self.fetching._threads.workers > DOWNLOADS_MAX:
            await _pause(0.02)

    @awaited
    async def test_the_next_connection_ends_as_well(self) -> None:
        """It is tried once more, and that is told."""
        answers, _ = await self._fetches("ah", "h", "aa")
        assert [present for present, _ in answers] == [True, False, True, True]
        assert "Remote end closed connection without response" in answers[1][1]

    async def _threads_end(self) -> None:
        deadline = time.monotonic() + 5
        while self.fetching._threads.working:
            assert time.monotonic() < deadline
            await _pause(0.02)

    def test_what_is_not_fetched(self) -> None:
        """Only http and https; file:, ftp: and what is no URL at all are refused before anything is opened."""
        for url in (
            "file:///etc/passwd",
            "ftp://127.0.0.1/file",
            "FILE:///etc/passwd",
            "/etc/passwd",
            "127.0.0.1/file",
            "http://",
            "http:///file",
            "http://host:99999/",
            "http://[::1/",
            "http://host/a b",
            "http://host/\r\nX: y",
            "http://host/\0",
            "gopher://host/",
            "data:,hello",
        ):
            with pytest.raises(DownloadError):
                Source(url).check()

    @awaited
    async def test_malformed_url_is_not_shown(self) -> None:
        """A mistake in a URL can turn a part of a password into a port, a host or a path: no part of it is shown."""
        for url in (
            "http://user:se#cret@h/",
            "http://user:se/cret@h/",
            "http://user:se?cret@h/",
            "http://user:12#3@h/",
            "http://user:secret@h:port/",
            "http://user:secret@[::1/",
            "http://user:secret@h:99999/",
            "http://user:secret@.h/",
            "http://user:secret@*h/",
            "http://user:secret@h%zz/",
            "http://user:sec[ret@h/",
            f"http://user:secret@{'h' * 70}/",
        ):
            malformed = "the URL is malformed; what is special in a password in it must be percent-encoded"
            assert await self._ask(Source(url)) == (False, f"Error accessing Librarian: {malformed}"), url
        strange = "the URL has characters that no URL has"
        assert await self._ask(Source("http://user:sec\\ret@h/")) == (False, f"Error accessing Librarian: {strange}")


def _pause(seconds: float) -> Deferred[None]:
    pause: Deferred[None] = Deferred()
    reactor.callLater(seconds, pause.callback, None)
    return pause
