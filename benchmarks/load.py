"""Calls of XML-RPC from raw sockets, ready-made, so that what is measured is the server and hardly the client."""

import os
import re
import selectors
import socket
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
ANSWER_S = 30.0  # A server that answers nothing for so long is broken.
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_PIECE_BYTES = 1 << 16


class WrongAnswer(Exception):
    """A server answered something else than what was called for."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(f"not the answer that was called for: {answer[:500]!r}")


@dataclass(frozen=True)
class Server:
    """Something to call: the daemon, or what it is compared with."""

    name: str
    port: int
    pid: int


@dataclass
class Load:
    """What a stretch of calls came to."""

    calls: int = 0
    seconds: float = 0.0
    own_cpu_s: float = 0.0  # The client's.
    server_cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


@dataclass(frozen=True)
class Timed:
    """One call of steady()."""

    server: str
    due: float  # When it was to be sent; of time.perf_counter().
    latency_s: float  # From then to its answer; of that,
    late_s: float  # for so long it was not sent yet, and
    queued_s: float  # for so long the server's main thread waited for a processor.


def request(method: str, *arguments: str, keep: bool = True) -> bytes:
    """A call as it goes over the wire; `keep`: the connection is to stay open."""
    body = xmlrpc.client.dumps(arguments, method).encode()
    connection = "keep-alive" if keep else "close"
    head = (
        f"POST /rpc HTTP/1.1\r\nHost: {HOST}\r\nConnection: {connection}\r\n"
        f"Content-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def one_connection(server: Server, call: bytes, seconds: float) -> Load:
    """Call after call on one connection that stays open."""
    with _measured(server) as load:
        connection = _connect(server)
        for began in _until(seconds):
            connection.sendall(call)
            _receive(connection)
            load.latencies_s.append(time.perf_counter() - began)
        connection.close()
    return load


def new_connections(server: Server, call: bytes, seconds: float) -> Load:
    """Call after call, each on a connection of its own."""
    with _measured(server) as load:
        for began in _until(seconds):
            with _connect(server) as connection:
                connection.sendall(call)
                _receive(connection)
            load.latencies_s.append(time.perf_counter() - began)
    return load


def at_once(server: Server, call: bytes, seconds: float, connections: int = 50) -> Load:
    """Many connections that stay open, on each the next call as soon as the last is answered."""
    with _Callers(call) as callers, _measured(server) as load:
        end = time.perf_counter() + seconds
        for _ in range(connections):
            callers.call(server, time.perf_counter())
        while callers.waiting:
            for timed in callers.answered(ANSWER_S):
                load.latencies_s.append(timed.latency_s)
                if (now := time.perf_counter()) < end:
                    callers.call(server, now)
    return load


def steady(servers: Sequence[Server], call: bytes, rate: float, going: Callable[[], bool]) -> list[Timed]:
    """Calls to each server at a fixed rate, whether earlier ones are answered or not, for as long as `going` says.

    A call's time begins when it is due. So a server that is deaf for a second is so to all calls of that second, not
    to one; and what this process itself is late counts as well: a server that does next to nothing tells how much.
    """
    timed: list[Timed] = []
    with _Callers(call, queued_s) as callers:
        began = time.perf_counter()
        sent = 0
        while going():
            due = began + sent / (rate * len(servers))
            wait_s = due - time.perf_counter()
            if wait_s <= 0:
                callers.call(servers[sent % len(servers)], due)
                sent += 1
            timed += callers.answered(max(0.0, wait_s))
        deadline = time.perf_counter() + ANSWER_S
        while callers.waiting and time.perf_counter() < deadline:
            timed += callers.answered(ANSWER_S)
        if callers.waiting:
            raise TimeoutError(f"{callers.waiting} calls were not answered within {ANSWER_S:g} s")
    return timed


class _Callers:
    """Connections that stay open, with one call at a time on each; as many as are needed at once."""

    def __init__(self, call: bytes, queued_s: Callable[[int], float] = lambda pid: 0.0) -> None:
        self.waiting = 0  # How many calls are not answered yet.
        self._queued_s = queued_s
        self._call = call
        self._idle: dict[str, list[_Connection]] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "_Callers":
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()

    def call(self, server: Server, due: float) -> None:
        """Send a call."""
        idle = self._idle.setdefault(server.name, [])
        if idle:
            connection = idle.pop()
        else:
            connection = _Connection(server, _connect(server))
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.due = due
        connection.got = b""
        connection.queued_s = self._queued_s(server.pid)
        connection.sent = time.perf_counter()
        connection.socket.sendall(self._call)
        self.waiting += 1

    def answered(self, timeout_s: float) -> Iterator[Timed]:
        """The calls that are answered now, or first within this time."""
        for key, _ in self._selector.select(timeout_s):
            connection: _Connection = key.data
            connection.got += _piece(connection.socket)
            if _is_whole(connection.got):
                self._idle[connection.server.name].append(connection)
                self.waiting -= 1
                now = time.perf_counter()
                queued = self._queued_s(connection.server.pid) - connection.queued_s
                yield Timed(
                    connection.server.name,
                    connection.due,
                    latency_s=now - connection.due,
                    late_s=connection.sent - connection.due,
                    queued_s=queued,
                )


@dataclass(eq=False)
class _Connection:
    server: Server
    socket: socket.socket
    due: float = 0.0
    sent: float = 0.0
    queued_s: float = 0.0  # Of the server until then.
    got: bytes = b""


def add(loads: Sequence[Load]) -> Load:
    """Several stretches as one."""
    return Load(
        calls=sum(load.calls for load in loads),
        seconds=sum(load.seconds for load in loads),
        own_cpu_s=sum(load.own_cpu_s for load in loads),
        server_cpu_s=sum(load.server_cpu_s for load in loads),
        latencies_s=[latency for load in loads for latency in load.latencies_s],
    )


@contextmanager
def _measured(server: Server) -> Iterator[Load]:
    """A load to which latencies are added; the rest of it is there at the end."""
    load = Load()
    began, own, servers = time.perf_counter(), time.process_time(), cpu_s(server.pid)
    yield load
    load.calls = len(load.latencies_s)
    load.seconds = time.perf_counter() - began
    load.own_cpu_s = time.process_time() - own
    load.server_cpu_s = cpu_s(server.pid) - servers


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, in steps of 0.01 s (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def queued_s(pid: int) -> float:
    """For how long a process's main thread has waited for a processor in all; 0 where the kernel does not say so."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


def _until(seconds: float) -> Iterator[float]:
    """The time now, again and again for so long."""
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        yield now


def _connect(server: Server) -> socket.socket:
    connection = socket.create_connection((HOST, server.port), ANSWER_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _receive(connection: socket.socket) -> None:
    """Take one answer."""
    got = _piece(connection)
    while not _is_whole(got):
        got += _piece(connection)


def _piece(connection: socket.socket) -> bytes:
    piece = connection.recv(_PIECE_BYTES)
    if not piece:
        raise WrongAnswer(piece)
    return piece


def _is_whole(answer: bytes) -> bool:
    """Whether this is all of an answer.

    :raises WrongAnswer: it is none that was wanted.
    """
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    length = _LENGTH.search(answer, 0, head + 2)
    if not answer.startswith(b"HTTP/1.1 200 ") or not length:
        raise WrongAnswer(answer)
    if len(answer) < head + 4 + int(length[1]):
        return False
    if b"<fault>" in answer:
        raise WrongAnswer(answer)
    return True
