"""What a builder says, parsed; and what becomes of it when it says something else."""

import gc
import socket
import warnings
import xmlrpc.client
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.python.threadable import isInIOThread
from twisted.trial.unittest import TestCase
from twisted.web.xmlrpc import Fault

from buildd.protocol import BuilderStatus, BuildId, BuildStatus, FileName, Sha1
from buildmaster import builder_client
from buildmaster.builder_answers import BadAnswer, BuilderFault, Status, parse_answer, parse_status
from buildmaster.builder_client import BuilderClient, BuildRefused, CutShort, Timeouts, TooSlow
from buildmaster.builder_http import BuilderError, BuilderHttp, BuilderSilent, BuilderUnreachable
from buildmaster.fetching import Fetcher, Limits, Room
from buildmaster.pacing import Allowance
from buildmaster.running_log import RunningLogs
from buildmaster.tests.fakes import FakeBuilder, WaitingBuilder, sha1_of
from buildmaster.tests.farm_case import FarmCase


def answer(value: Any) -> bytes:
    return xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode()


@pytest.mark.parametrize("value", ["x", 5, True, None, [1, [2]], {"a": {"b": "c"}}, 2.5])
def test_values(value: object) -> None:
    """What an honest builder may answer comes out as it was."""
    assert parse_answer(answer(value)) == value


ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not XML",
        b"<methodResponse>",
        b"<html><body>503</body></html>",
        b'<?xml version="1.0"?>' + ENTITIES + answer("x").partition(b"?>")[2].replace(b"x", b"&b;"),
        answer([]).replace(b"<data>", b"<data><value><array><data>" * 200_000),
        b"<methodResponse><params><param>" + b"<value><array><data>" * 9 + b"</data></array></value>" * 9
        + b"</param></params></methodResponse>",
        answer(5).replace(b"5", b"five"),
        answer(5).replace(b"5", b"9" * 10_000),
        answer(True).replace(b"1", b"7"),
        answer("x").replace(b"<param>", b"").replace(b"</param>", b"").replace(b"<value>", b"<struct>"),
        b"<methodResponse><params></params></methodResponse>",
        xmlrpc.client.dumps((1,), "call").encode().replace(b"<params>", b"<params><param><value>1</value></param>"),
        answer({"a": 1}).replace(b"<name>a</name>", b""),
        answer(xmlrpc.client.Binary(b"x")).replace(b"eA==", b"\xff"),
    ],
    ids=lambda body: repr(body[:30]),
)  # fmt: skip
def test_bad_xml(body: bytes) -> None:
    """What is not an XML-RPC answer, or nested deeper than any honest one, is one kind of error."""
    with pytest.raises(BadAnswer):
        parse_answer(body)


def test_a_fault() -> None:
    """A fault is an error with its code and its text, the latter on one line."""
    body = xmlrpc.client.dumps(xmlrpc.client.Fault(8002, "no\nway\x07"), methodresponse=True).encode()
    with pytest.raises(BuilderFault) as fault:
        parse_answer(body.replace(b"\x07", b"!"))
    assert (fault.value.code, fault.value.text) == (8002, "no way!")


def test_status_of_every_kind() -> None:
    """Each status struct of the protocol becomes one value."""
    assert parse_status({"builder_status": "BuilderStatus.IDLE", "builder_version": "254"}) == Status(
        BuilderStatus.IDLE, "254"
    )
    building = {"builder_status": "BuilderStatus.BUILDING", "build_id": "PACKAGEBUILD-1"}
    told = parse_status({**building, "logtail": xmlrpc.client.Binary(b"\xff"), "stage": "unpack"})
    assert (told.build_id, told.log_tail, told.stage) == ("PACKAGEBUILD-1", b"\xff", "unpack")
    sha1 = "AB" * 20
    waiting = {"builder_status": "BuilderStatus.WAITING", "build_id": "x", "build_status": "BuildStatus.DEPFAIL"}
    told = parse_status({**waiting, "filemap": {"a.deb": sha1}, "dependencies": "foo (>= 1)", "other": [1]})
    assert (told.build_status, told.dependencies) == (BuildStatus.DEPFAIL, "foo (>= 1)")
    assert told.filemap == {FileName("a.deb"): Sha1(sha1.lower())}


@pytest.mark.parametrize(
    "struct",
    [
        [],
        "BuilderStatus.IDLE",
        {},
        {"builder_status": "IDLE"},
        {"builder_status": None},
        {"builder_status": "BuilderStatus.BUILDING"},
        {"builder_status": "BuilderStatus.BUILDING", "build_id": ""},
        {"builder_status": "BuilderStatus.BUILDING", "build_id": "a/b"},
        {"builder_status": "BuilderStatus.WAITING", "build_id": "x"},
        {"builder_status": "BuilderStatus.WAITING", "build_id": "x", "build_status": {"a": 1}},
        {"builder_status": "BuilderStatus.WAITING", "build_id": "x", "build_status": "BuildStatus.OK", "filemap": 5},
        {
            "builder_status": "BuilderStatus.WAITING", "build_id": "x", "build_status": "BuildStatus.OK",
            "filemap": {"a": "short"},
        },
        {
            "builder_status": "BuilderStatus.WAITING", "build_id": "x", "build_status": "BuildStatus.OK",
            "filemap": {f"{n}": "0" * 40 for n in range(30_000)},
        },
    ],
    ids=lambda struct: repr(struct)[:60],
)  # fmt: skip
def test_bad_status(struct: object) -> None:
    """A status that is none is one kind of error, with a message of bearable length."""
    with pytest.raises(BadAnswer) as told:
        parse_status(struct)
    assert len(str(told.value)) < 10_000


class OverHttp(TestCase):
    make_fake: Any = FakeBuilder

    def setUp(self) -> None:
        self.fake: FakeBuilder = self.make_fake(reactor)
        self.http = BuilderHttp(reactor)
        self.client = BuilderClient(self.fake.listen(), self.http, Timeouts(20.0, 20.0, 20.0))

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.fake.stop()
        await self.http.close()

    async def failure(self, coroutine: Any) -> BuilderError:
        try:
            await coroutine
        except BuilderError as error:
            return error
        raise AssertionError("it did not fail")


class TestCalls(OverHttp):
    async def test_a_build_over_the_wire(self) -> None:
        """The calls of a whole build, with arguments of all types."""
        self.fake.cache = {sha1_of(data): data for data in (b"chroot", b"dsc")}
        chroot, dsc = (Sha1(sha1_of(data)) for data in (b"chroot", b"dsc"))
        await self.client.ensure_present(chroot, "http://unused/")
        self.fake.duration_s = None
        arguments = {"a": True, "b": ["x"], "c": "ü"}
        await self.client.build(BuildId("PACKAGEBUILD-1"), "binarypackage", chroot, {FileName("x.dsc"): dsc}, arguments)
        assert self.fake.arguments == arguments
        status = await self.client.status()
        assert (status.builder_status, status.build_id) == (BuilderStatus.BUILDING, "PACKAGEBUILD-1")
        await self.client.abort()
        while (await self.client.status()).builder_status is not BuilderStatus.WAITING:
            pass
        await self.client.clean()
        assert (await self.client.status()).builder_status is BuilderStatus.IDLE

    async def test_refused(self) -> None:
        """A build that is not taken is an error with the builder's words."""
        self.fake.refuse = "BuilderStatus.UNKNOWNSUM"
        error = await self.failure(self.client.build(BuildId("x"), "binarypackage", Sha1("0" * 40), {}, {}))
        assert isinstance(error, BuildRefused) and "UNKNOWNSUM" in str(error) and "because" in str(error)

    async def test_not_present(self) -> None:
        """A file that the builder cannot fetch is an error with its reason."""
        url = f"{self.fake.url}filecache/nothing"
        error = await self.failure(self.client.ensure_present(Sha1("0" * 40), url))
        assert "404" in str(error)

    async def test_a_secret_url_is_not_told(self) -> None:
        """What follows the "?" of a presigned URL is in no message, though the builder may say it."""

        async def tell(_sha1: str, url: str) -> list[object]:
            return [False, f"cannot fetch {url}: HTTP error 403 for {url.partition('?')[2]}"]

        self.fake.fetch = tell  # type: ignore[method-assign, assignment]
        url = f"{self.fake.url}filecache/nothing?X-Amz-Credential=who&X-Amz-Signature=5ecret"
        error = await self.failure(self.client.ensure_present(Sha1("0" * 40), url))
        assert "403" in str(error) and f"{self.fake.url}filecache/nothing" in str(error)
        assert "5ecret" not in str(error) and "X-Amz" not in str(error)

    async def test_long_answers(self) -> None:
        """A long answer is parsed while the reactor goes on; a short one is not worth a thread."""
        parsed_by_reactor = []

        def parse(body: bytes) -> object:
            parsed_by_reactor.append(isInIOThread())  # type: ignore[no-untyped-call]
            return parse_answer(body)

        self.patch(builder_client, "parse_answer", parse)  # type: ignore[no-untyped-call]
        await self.client.status()
        self.fake.extra_status = {"padding": "x" * 100_000}
        assert (await self.client.status()).version == "fake-1"
        assert parsed_by_reactor == [True, False]

    async def test_no_wait(self) -> None:
        """A stock daemon has no wait(): that is noticed once, and it is not asked again."""
        assert self.client.waits
        assert await self.client.wait(Status(BuilderStatus.IDLE), 1.0) is None
        assert not self.client.waits

    async def test_refuses_connections(self) -> None:
        """A builder that is down is unreachable, at once."""
        await self.fake.stop()
        assert isinstance(await self.failure(self.client.status()), BuilderUnreachable)

    async def test_does_not_take_connections(self) -> None:
        """A builder to which no connection comes about is silent when a call's time is over, be that long before the
        system gives up."""
        full = socket.create_server(("127.0.0.1", 0), backlog=0)  # Takes one; whoever comes then is not answered.
        self.addCleanup(full.close)
        first = socket.create_connection(full.getsockname())
        self.addCleanup(first.close)
        client = BuilderClient(f"http://127.0.0.1:{full.getsockname()[1]}/", self.http, Timeouts(0.3, 0.3, 0.2))
        assert isinstance(await self.failure(client.status()), BuilderSilent)
        assert isinstance(await self.failure(client.log()), BuilderSilent)
        assert client.unheard.tries == 2

    async def test_at_the_same_time(self) -> None:
        """Of requests that go on at once and get no answer one counts: a master that stood still has had no answer to
        any of them."""
        silent = socket.create_server(("127.0.0.1", 0))  # Nobody takes what comes there.
        self.addCleanup(silent.close)
        client = BuilderClient(f"http://127.0.0.1:{silent.getsockname()[1]}/", self.http, Timeouts(0.2, 0.2, 0.2))
        for tries in (1, 2):
            failures = [self.failure(client.status()) for _ in range(3)]
            going = gatherResults([Deferred.fromCoroutine(each) for each in failures])
            assert all(isinstance(each, BuilderSilent) for each in await going)
            assert client.unheard.tries == tries

    async def test_http_error(self) -> None:
        """Another HTTP status than 200 is an error that names it."""
        client = BuilderClient(f"{self.fake.url}nowhere/", self.http, Timeouts())
        assert "404" in str(await self.failure(client.status()))

    async def test_a_fault_of_another_kind_from_wait(self) -> None:
        """A fault from wait() that is not unknown-method is an error like any other."""
        self.fake.faults["wait"] = Fault(8002, "error")
        assert "8002" in str(await self.failure(self.client.wait(Status(BuilderStatus.IDLE), 1.0)))

    async def test_the_log_from_an_offset(self) -> None:
        """The log is fetched from an offset, with and without byte ranges; nothing new is nothing."""
        self.fake.log = b"0123456789" * 20_000
        for ranges in (True, False):
            self.fake.ranges = ranges
            body = await self.client.log(150_003)
            assert body is not None
            data = b""
            while more := await self.client.read(body):
                data += more
            assert data == self.fake.log[150_003:]
        self.fake.ranges = True
        assert await self.client.log(200_000) is None


class TestEndingTransfers(OverHttp):
    async def test_what_is_cut_leaves_nothing(self) -> None:
        """A transfer that was cut goes on nowhere, and no step of it is left over that nobody awaits."""
        self.fake.log = b"x" * 100
        body = await self.client.log()
        assert body is not None
        self.client.cut()
        gc.collect()  # What other tests left is theirs.
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for step in (self.client.read(body), self.client.log(), self.client.ensure_present(Sha1("0" * 40), "")):
                with pytest.raises(CutShort):
                    await step
            gc.collect()
        assert [str(each.message) for each in told] == []
        self.client.go_on()
        assert await self.client.read(body) == self.fake.log

    async def test_one_that_does_not_even_begin(self) -> None:
        """The time that a file may take is also that for its first byte."""
        self.fake.hangs = True
        with pytest.raises(TooSlow):
            await self.client.log(0, self.client.now() + 0.2)
        with pytest.raises(TooSlow):
            await self.client.log(0, self.client.now() - 0.2)


class TestWait(OverHttp):
    make_fake = WaitingBuilder

    async def test_wait(self) -> None:
        """wait() answers as soon as the status is another, and after its time at the latest."""
        status = Status(BuilderStatus.IDLE)
        before = reactor.seconds()
        told = await self.client.wait(status, 0.1)
        assert told is not None and told.builder_status is BuilderStatus.IDLE
        assert 0.09 < reactor.seconds() - before < 10.0  # Not the 20 s of a call.
        reactor.callLater(0.05, setattr, self.fake, "status", BuilderStatus.ABORTING)
        self.fake.build_id = ""
        self.fake.extra_status = {"build_id": "x"}
        told = await self.client.wait(status, 30.0)
        assert told is not None and told.builder_status is BuilderStatus.ABORTING


class _Raw(Protocol):
    """Answers whatever comes with fixed bytes."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        factory: Any = self.factory
        self.transport.write(factory.answer)
        if factory.closes:
            self.transport.loseConnection()


class TestBadServers(TestCase):
    async def said(
        self, raw: bytes, closes: bool = True, call: str = "status", timeout_s: float = 20.0
    ) -> BuilderError:
        factory: Any = Factory.forProtocol(_Raw)
        factory.answer, factory.closes = raw, closes
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        http = BuilderHttp(reactor)
        client = BuilderClient(f"http://127.0.0.1:{port.getHost().port}/", http, Timeouts(timeout_s, timeout_s, 0.2))
        try:
            if call == "status":
                await client.status()
            else:
                body = await client.file(Sha1("0" * 40))
                assert body is not None
                while await client.read(body):
                    pass
        except BuilderError as error:
            return error
        finally:
            await port.stopListening()
            await http.close()
        raise AssertionError("it did not fail")

    async def test_silence(self) -> None:
        """A builder that takes the call and says nothing is unreachable after the timeout."""
        assert "0.3 s" in str(await self.said(b"", closes=False, timeout_s=0.3))

    async def test_breaks_off(self) -> None:
        """An answer that breaks off is an error."""
        await self.said(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    async def test_not_http(self) -> None:
        """What is not HTTP is an error."""
        await self.said(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    async def test_endless_headers(self) -> None:
        """Headers without end are an error as soon as they are too long, of whatever kind they are."""
        for endless in (b"X: " + b"y" * (1 << 20), b"X: y\r\n" * 100_000):
            error = await self.said(b"HTTP/1.1 200 OK\r\n" + endless, closes=False)
            assert isinstance(error, BuilderUnreachable) and "no answer within" not in str(error)

    async def test_endless_interim_answers(self) -> None:
        """So are interim answers without end. (2,400 of them come at once, which takes a slow machine a second.)"""
        error = await self.said(b"HTTP/1.1 102 Processing\r\n\r\n" * 50_000, closes=False)
        assert "no answer within" not in str(error)

    async def test_heads_that_are_none(self) -> None:
        """Whatever stands where the status line and the headers should, it is one kind of error, and soon."""
        ok = b"HTTP/1.1 200 OK\r\n"
        heads = (
            b"HTTP/1.1 -1 X\r\n", b"HTTP/1.1 " + b"9" * 5000 + b" X\r\n", b"HTTP/1.1 two OK\r\n", b"HTTP/9.9 200\r\n",
            b"HTTP/1.1 \xff\xff \xff\r\n", b"\x00" * 100 + b"\r\n", b"\r\n\r\n",
            ok + b"Content-Length: -5\r\n", ok + b"Content-Length: +5\r\n", ok + b"Content-Length: five\r\n",
            ok + b"Content-Length: " + b"9" * 5000 + b"\r\n", ok + b"Content-Length: 5\r\nContent-Length: 900\r\n",
            ok + b"Content-Length: 99999999999999999999\r\n", ok + b": x\r\n", ok + b"no colon\r\n",
            ok + b" folded\r\n",
            ok + b"Transfer-Encoding: chunked\r\n", ok + b"Transfer-Encoding: gzip\r\nContent-Length: 5\r\n",
            ok + b"Transfer-Encoding: chunked, chunked\r\n", ok + b"\xff\xfe: \xff\r\nContent-Length: 3\r\n",
        )  # fmt: skip
        for head in heads:
            await self.said(head + b"\r\nno answer either")

    async def test_chunks_that_are_none(self) -> None:
        """Nor does it matter what stands where the length of a chunk should."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for chunks in (
            b"-1\r\nx",
            b"zz\r\nx",
            b"f" * 5000 + b"\r\nx",
            b"1\r\nxxxx\r\n0\r\n\r\n",
            b"5;" + b"x" * 300_000,
        ):
            await self.said(head + chunks)

    async def test_stays_open(self) -> None:
        """An answer whose body never ends is an error after the timeout."""
        await self.said(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", closes=False, timeout_s=0.3)

    async def test_redirect(self) -> None:
        """A redirection is not followed."""
        error = await self.said(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        assert "302" in str(error)

    async def test_a_file_that_stops(self) -> None:
        """A download in which no byte arrives for too long is an error."""
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"
        assert isinstance(await self.said(raw, closes=False, call="file"), BuilderUnreachable)


class _Dripping(Protocol):
    """Answers with headers and then a byte every 20 ms."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        self.drip()

    def drip(self) -> None:
        if self.connected:
            assert self.transport is not None
            self.transport.write(b"x")
            reactor.callLater(0.02, self.drip)

    def connectionMade(self) -> None:
        factory: Any = self.factory
        factory.open.add(self)

    def connectionLost(self, reason: object = None) -> None:
        self.connected = 0
        factory: Any = self.factory
        factory.open.discard(self)


class TestDripping(FarmCase):
    def setUp(self) -> None:
        super().setUp()
        factory: Any = Factory.forProtocol(_Dripping)
        self.open: set[Protocol] = set()
        factory.open = self.open
        drips: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.drips = drips
        url = f"http://127.0.0.1:{self.drips.getHost().port}/"
        self.slow = BuilderClient(url, self.http, Timeouts(20.0, 20.0, 20.0, look_s=0.3))

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.drips.stopListening()
        await super().tearDown()
        await self.sleep(0.05)

    async def test_a_file(self) -> None:
        """A file that comes byte by byte is given up when its time is over, though there is never silence; and that is
        the time of all attempts together, and of what is fetched next."""
        fetcher = Fetcher(self.farm.store, reactor, Limits(attempts=3, pause_s=0.0))  # type: ignore[arg-type]
        began, allowance = reactor.seconds(), Allowance(0.4)
        for _ in range(3):
            with pytest.raises(TooSlow):
                await fetcher.file(self.slow, Sha1("0" * 40), allowance, Room(1 << 20))
        assert 0.3 < reactor.seconds() - began < 10.0

    async def test_what_is_skipped(self) -> None:
        """Where a builder knows no ranges, and does not come to the offset in time, its connection is not left open."""
        for deadline in (None, self.slow.now()):
            with pytest.raises(TooSlow):
                await self.slow.log(900, deadline)
        for _ in range(50):
            if not self.open:
                return
            await self.sleep(0.02)
        raise AssertionError(f"still open: {len(self.open)}")

    async def test_a_running_log(self) -> None:
        """A look at a log that comes byte by byte ends, and what came is kept."""
        began = reactor.seconds()
        logs = RunningLogs(self.farm, reactor, 1 << 20)  # type: ignore[arg-type]
        assert await logs.follow(1, self.slow)
        assert 0.25 < reactor.seconds() - began < 10.0  # All of it would take 20 s.
        assert 0 < self.farm.log_path(1).stat().st_size < 1000

    async def test_a_copy_that_is_full(self) -> None:
        """A copy at its limit takes no more, and the look ends."""
        logs = RunningLogs(self.farm, reactor, 3)  # type: ignore[arg-type]
        patient = BuilderClient(self.slow.url, self.http, Timeouts(look_s=30.0))
        began = reactor.seconds()
        assert await logs.follow(1, patient)
        assert self.farm.log_path(1).read_bytes() == b"xxx" and reactor.seconds() - began < 10.0
