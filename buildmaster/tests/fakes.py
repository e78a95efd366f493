"""A builder that speaks the real protocol over HTTP, in this process: version 1.0 and no more, as a stock
launchpad-buildd does. It builds nothing, but fetches what it is told to, and makes results that check.

Tests set its attributes to make it fail in every way.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar
from xmlrpc.client import Binary

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, readBody
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data
from twisted.web.xmlrpc import XMLRPC, Fault

from buildd.protocol import BuilderStatus, BuildStatus


def sha1_of(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@dataclass
class FakeBuilder:
    """One builder. Start with listen(), stop with stop()."""

    reactor: Any
    outcome: BuildStatus = BuildStatus.OK
    duration_s: float | None = 0.05  # None: until end() is called.
    abort_s: float | None = 0.02  # None: it never stops.
    dependencies: str = ""
    log: bytes = b""
    extra_status: dict[str, object] = field(default_factory=dict)  # Put over what status() answers.
    status: BuilderStatus = BuilderStatus.IDLE
    build_id: str = ""
    build_status: BuildStatus | None = None
    filemap: dict[str, str] = field(default_factory=dict)
    cache: dict[str, bytes] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)  # Served instead of what the cache has.
    results: dict[str, bytes] | None = None  # None: some that check.
    refuse: str = ""  # What build() answers instead of BUILDING.
    faults: dict[str, Fault] = field(default_factory=dict)  # By method.
    calls: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)  # The build ids of all builds that began.
    arguments: dict[str, object] = field(default_factory=dict)  # Of the last build.
    ranges: bool = True
    break_off: int = 0  # So many files still break off in the middle,
    unbroken_bytes: int = 0  # but for those that are no longer than this.
    hangs: bool = False  # Who asks for files and logs is not answered.
    drips: bool = False  # Files and logs come byte by byte.
    sent: list[tuple[int, int]] = field(default_factory=list)  # Of each file that was asked for: from where, how many.
    dripping: list[LoopingCall] = field(default_factory=list)  # Of those that are asked for just now.
    port: Any = None
    _timer: IDelayedCall | None = None

    def listen(self, port: int = 0) -> str:
        """Answer from now on. Returns the URL, with a slash at its end."""
        root = Resource()  # type: ignore[no-untyped-call]
        rpc = self.rpc()
        root.putChild(b"rpc", rpc)
        root.putChild(b"filecache", _FileCache(self))
        self._pool = HTTPConnectionPool(self.reactor, persistent=False)  # type: ignore[no-untyped-call]
        self._site = _Site(root)
        self.port = self.reactor.listenTCP(port, self._site, interface="127.0.0.1")
        return self.url

    def rpc(self) -> XMLRPC:
        """What answers at /rpc."""
        return _Rpc(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}/"

    async def stop(self) -> None:
        """Answer no longer: connections are refused."""
        self._cancel_timer()
        for each in self.dripping:
            _end(each)
        port, self.port = self.port, None
        if port is not None:
            await port.stopListening()
            for connection in self._site.connections:
                connection.abortConnection()

    def forget(self) -> None:
        """Lose the build, as a machine does that was switched off and on."""
        self._cancel_timer()
        self.status, self.build_id, self.build_status = BuilderStatus.IDLE, "", None

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    async def fetch(self, sha1: str, url: str) -> list[object]:
        """ensurepresent()."""
        if sha1 in self.cache:
            return [True, "Cache"]
        agent = Agent(self.reactor, pool=self._pool)  # type: ignore[no-untyped-call]
        try:
            response = await agent.request(b"GET", url.encode())
            body = await readBody(response)
        except (OSError, ResponseFailed, ConnectError, ConnectionClosed) as error:
            return [False, f"Error accessing Librarian: {error}"]
        if response.code != 200:
            return [False, f"Error accessing Librarian: HTTP Error {response.code}"]
        if sha1_of(body) != sha1:
            return [False, "Digests did not match, removing again!"]
        self.cache[sha1] = body
        return [True, "Download"]

    def begin(self, build_id: str, chroot: str, filemap: dict[str, str]) -> list[str]:
        """build()."""
        if self.status is not BuilderStatus.IDLE:
            raise Fault(1, "not IDLE")
        if self.refuse:
            return [self.refuse, "because"]
        missing = [sha1 for sha1 in (chroot, *filemap.values()) if sha1 not in self.cache]
        if missing:
            return ["BuilderStatus.UNKNOWNSUM", missing[0]]
        self.status, self.build_id, self.sources = BuilderStatus.BUILDING, build_id, filemap
        self.log += f"building {build_id}\n".encode()
        self.started.append(build_id)
        if self.duration_s is not None:
            self._timer = self.reactor.callLater(self.duration_s, self.end)
        return ["BuilderStatus.BUILDING", build_id]

    def end(self) -> None:
        """The build ends, as `outcome` says."""
        self.log += b"done\n"
        self.status, self.build_status = BuilderStatus.WAITING, self.outcome
        results = {}
        if self.outcome is BuildStatus.OK:
            results = self.good_results() if self.results is None else self.results
        self.filemap = {name: sha1_of(data) for name, data in results.items()}
        self.cache.update({sha1_of(data): data for data in results.values()})

    def good_results(self) -> dict[str, bytes]:
        """A .deb of sorts, and the .changes that names it."""
        dsc = next(self.cache[sha1].decode() for name, sha1 in self.sources.items() if name.endswith(".dsc"))
        (name,), (version,) = re.findall(r"^Source: (.*)$", dsc, re.M), re.findall(r"^Version: (.*)$", dsc, re.M)
        deb = f"{name} {version}, built as {self.build_id}\n".encode()
        return make_results(name, version, {f"{name}_{version}_amd64.deb": deb})

    def stop_build(self) -> str:
        """abort()."""
        if self.status is BuilderStatus.BUILDING:
            self._cancel_timer()
            self.status = BuilderStatus.ABORTING
            if self.abort_s is not None:
                self._timer = self.reactor.callLater(self.abort_s, self.stopped)
        elif self.status is not BuilderStatus.ABORTING:
            raise Fault(1, "not BUILDING")
        return "BuilderStatus.ABORTING"

    def stopped(self) -> None:
        """The build has been stopped."""
        self.status, self.build_status, self.filemap = BuilderStatus.WAITING, BuildStatus.ABORTED, {}

    def clean(self) -> str:
        """clean()."""
        if self.status is not BuilderStatus.WAITING:
            raise Fault(1, "not WAITING")
        self.forget()
        return "BuilderStatus.IDLE"

    def tell(self) -> dict[str, object]:
        """status()."""
        told: dict[str, object] = {"builder_status": str(self.status), "builder_version": "fake-1"}
        if self.status is not BuilderStatus.IDLE:
            told["build_id"] = self.build_id
        if self.status is BuilderStatus.BUILDING:
            told["logtail"] = Binary(self.log[-2048:])
        if self.status is BuilderStatus.WAITING:
            told["build_status"] = str(self.build_status)
            if self.build_status in (BuildStatus.OK, BuildStatus.PACKAGEFAIL, BuildStatus.DEPFAIL):
                told |= {"filemap": self.filemap, "dependencies": self.dependencies}
        return told | self.extra_status


def make_results(name: str, version: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """Files, and a .changes that names exactly them."""
    sums = "".join(f"\n {hashlib.sha256(data).hexdigest()} {len(data)} {each}" for each, data in files.items())
    changes = (
        f"Format: 1.8\nSource: {name}\nBinary: {name}\nArchitecture: amd64\nVersion: {version}\n"
        f"Distribution: bookworm\nChecksums-Sha256:{sums}\n"
    )
    return {**files, f"{name}_{version}_amd64.changes": changes.encode()}


class _Site(Site):
    """A site that remembers its connections, so that they can be cut."""

    noisy = False

    def __init__(self, root: Resource) -> None:
        super().__init__(root)  # type: ignore[no-untyped-call]
        self.connections: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        made = channel.makeConnection

        def make(transport: Any) -> None:
            self.connections.append(transport)
            made(transport)

        channel.makeConnection = make
        return channel

    def log(self, request: Any) -> None:
        """Nobody reads it."""


class _Rpc(XMLRPC):
    """The XML-RPC methods of version 1.0. An unknown one is fault 8001, as everywhere in Twisted."""

    def __init__(self, builder: FakeBuilder) -> None:
        super().__init__(allowNone=True)  # type: ignore[no-untyped-call]
        self.builder = builder

    def lookupProcedure(self, procedurePath: str) -> Any:
        self.builder.calls.append(procedurePath)
        if procedurePath in self.builder.faults:
            raise self.builder.faults[procedurePath]
        return super().lookupProcedure(procedurePath)  # type: ignore[no-untyped-call]

    def xmlrpc_echo(self, *args: object) -> list[object]:
        return list(args)

    def xmlrpc_info(self) -> list[object]:
        return ["1.0", "amd64", ["binarypackage"]]

    def xmlrpc_status(self) -> dict[str, object]:
        return self.builder.tell()

    def xmlrpc_ensurepresent(self, sha1: str, url: str, username: str, password: str) -> Any:
        return Deferred.fromCoroutine(self.builder.fetch(sha1, url))

    def xmlrpc_build(self, build_id: str, manager: str, chroot: str, filemap: dict[str, str], args: Any) -> list[str]:
        if manager != "binarypackage":
            return ["BuilderStatus.UNKNOWNBUILDER", manager]
        self.builder.arguments = args
        return self.builder.begin(build_id, chroot, filemap)

    def xmlrpc_abort(self) -> str:
        return self.builder.stop_build()

    def xmlrpc_clean(self) -> str:
        return self.builder.clean()


class _FileCache(Resource):
    """/filecache: files by SHA-1, and the log. A stock daemon's knows ranges."""

    def __init__(self, builder: FakeBuilder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.builder = builder

    def getChild(self, path: bytes, request: Any) -> Any:
        name = path.decode()
        self.builder.calls.append(f"GET {name}")
        data = self.builder.log if name == "buildlog" else self.builder.cache.get(name)
        data = self.builder.served.get(name, data)
        if data is None:
            return notFound()
        wanted, offset = request.getHeader("range"), 0
        if wanted is not None and self.builder.ranges:
            offset = int(wanted.removeprefix("bytes=").removesuffix("-"))
            data = data[offset:]
            request.setResponseCode(206 if data else 416)
        self.builder.sent.append((offset, len(data)))
        if self.builder.hangs:
            return _Hanging()  # type: ignore[no-untyped-call]
        if self.builder.drips or (self.builder.break_off > 0 and len(data) > self.builder.unbroken_bytes):
            return _Slow(self.builder, data)
        return Data(data, "application/octet-stream")  # type: ignore[no-untyped-call]


def _end(looping: LoopingCall) -> None:
    if looping.running:
        looping.stop()


class _Hanging(Resource):
    """No answer."""

    isLeaf = True

    def render_GET(self, request: Any) -> int:
        return NOT_DONE_YET


class _Slow(Resource):
    """A body that comes byte by byte, or breaks off in the middle."""

    isLeaf = True

    def __init__(self, builder: FakeBuilder, data: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.builder = builder
        self.data = data

    def render_GET(self, request: Any) -> int:
        request.setHeader("content-length", str(len(self.data)))
        if self.builder.break_off:
            self.builder.break_off -= 1
            request.write(self.data[: len(self.data) // 2])
            request.transport.loseConnection()
        else:
            self.drip(request)
        return NOT_DONE_YET

    def drip(self, request: Any) -> None:
        pieces = iter(self.data[offset : offset + 1] for offset in range(len(self.data)))

        def write() -> None:
            piece = next(pieces, b"")
            request.write(piece)
            if not piece:
                request.finish()

        dripping = LoopingCall(write)
        dripping.clock = self.builder.reactor
        self.builder.dripping.append(dripping)
        request.notifyFinish().addBoth(lambda _: _end(dripping))
        dripping.start(0.02)


class WaitingRpc(_Rpc):
    """Version 1.0 and the wait() that is ours."""

    polled_s: ClassVar[float] = 0.005

    def xmlrpc_wait(self, builder_status: str, build_id: str, timeout_s: float) -> Any:
        return Deferred.fromCoroutine(self._wait((builder_status, build_id), timeout_s))

    def _same(self, known: tuple[str, str]) -> bool:
        return self.builder.port is not None and (str(self.builder.status), self.builder.build_id) == known

    async def _wait(self, known: tuple[str, str], timeout_s: float) -> dict[str, object]:
        reactor = self.builder.reactor
        end = reactor.seconds() + timeout_s
        while self._same(known) and reactor.seconds() < end:
            paused: Deferred[None] = Deferred()
            reactor.callLater(self.polled_s, paused.callback, None)
            await paused
        return self.builder.tell()


@dataclass
class WaitingBuilder(FakeBuilder):
    """A builder that has wait(), as ours."""

    def rpc(self) -> XMLRPC:
        return WaitingRpc(self)

    async def stop(self) -> None:
        """Answer no longer; those who wait hear so."""
        await super().stop()
        await deferLater(self.reactor, 2 * WaitingRpc.polled_s)
