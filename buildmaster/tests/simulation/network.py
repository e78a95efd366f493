"""HTTP to simulated machines: what the real one does, without sockets. The client above it is the real one.

What has been written arrives, whatever becomes of the master that wrote it.
"""

import xmlrpc.client
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred

from buildmaster.builder_http import BodyReader, BuilderHttp, BuilderUnreachable
from buildmaster.tests.simulation.clock import MasterReactor
from buildmaster.tests.simulation.machines import Machine, Way

T = TypeVar("T")

_ACTS = frozenset({"build", "abort", "clean"})
_CHUNK = 512  # So that even a small file comes in pieces, between which all can happen.


class SimHttp(BuilderHttp):
    """Requests to machines, by the host in the URL."""

    def __init__(
        self, reactor: MasterReactor, machines: Mapping[str, Machine], on_act: Callable[[Machine, str], None]
    ) -> None:
        """:param on_act: told of each call that has an effect, as it is written."""
        self.reactor = reactor
        self._sim = reactor
        self._machines = machines
        self._on_act = on_act

    async def post(
        self, url: str, body: bytes, limit_bytes: int, timeout_s: float, allowed: Callable[[], None] = lambda: None
    ) -> bytes:
        arguments, method = xmlrpc.client.loads(body)
        machine = self._machine(url)
        where = f"{method} of {machine.name}"
        await self._sim.point(f"before {where}")

        def write() -> None:
            allowed()
            if method in _ACTS:
                self._on_act(machine, method)

        if method == "wait" and machine.nature.waits:
            answer = await self.within(timeout_s, self._wait(machine, arguments))
        else:
            exchange = self._exchange(machine, lambda: _say(machine, method, arguments), write)
            answer = await self.within(timeout_s, exchange)
        await self._sim.point(f"after {where}")
        return answer

    async def get(self, url: str, silence_s: float, range_from: int | None = None) -> tuple[int, BodyReader]:
        machine, name = self._machine(url), url.rpartition("/")[2]
        what = "log" if name == "buildlog" else "file"
        await self._sim.point(f"before {what} of {machine.name}")
        data = await self.within(silence_s, self._exchange(machine, lambda: machine.file(name)))
        await self._sim.point(f"after {what} of {machine.name}")
        if data is None:
            return 404, SimBody(b"", machine, self._sim)
        if range_from is None or not machine.nature.waits:  # A stock daemon of that age knows no ranges.
            return 200, SimBody(data, machine, self._sim)
        return (206 if data[range_from:] else 416), SimBody(data[range_from:], machine, self._sim)

    def _machine(self, url: str) -> Machine:
        return self._machines[str(urlsplit(url).hostname)]

    async def _exchange(self, machine: Machine, act: Callable[[], T], write: Callable[[], None] = lambda: None) -> T:
        """A connection, a request, and its answer.

        :param write: called when the request is written; if it raises, that comes out.
        """
        way, latency_s = machine.way()
        await self._sim.sleep(latency_s)
        if way is Way.REFUSED:
            raise BuilderUnreachable("connection refused")
        write()
        answered: Deferred[T] = Deferred()

        def arrive() -> None:
            answer = act()
            if way is Way.THROUGH:
                self._sim.callLater(latency_s, _give, answered, answer)

        if way is not Way.LOST:
            self._sim.clock.callLater(latency_s, arrive)
        return await answered

    async def _wait(self, machine: Machine, arguments: tuple[Any, ...]) -> bytes:
        """wait(): answered when the state is another, or the time is over."""
        status, cookie, seconds = arguments

        async def changed() -> None:
            while (str(machine.status), machine.cookie) == (status, cookie):
                told: Deferred[None] = Deferred()
                machine.watchers.append(partial(self._sim.callLater, 0.0, _give, told, None))
                over = self._sim.callLater(float(seconds), _give, told, None)
                await told
                if not over.active():
                    return
                over.cancel()

        await self._exchange(machine, lambda: None)
        await changed()
        return await self._exchange(machine, lambda: _say(machine, "status", ()))


def _give(waiting: "Deferred[T]", answer: T) -> None:
    if not waiting.called:
        waiting.callback(answer)


def _say(machine: Machine, method: str | None, arguments: tuple[Any, ...]) -> bytes:
    """A machine's answer, as it goes over the wire."""
    try:
        answer = machine.answer(method, *arguments)
    except xmlrpc.client.Fault as fault:
        return xmlrpc.client.dumps(fault).encode()
    values: Any = (answer,)
    return xmlrpc.client.dumps(values, methodresponse=True, allow_none=True).encode()


class SimBody(BodyReader):
    """A body that comes in pieces, each in its time, unless the machine goes away meanwhile."""

    def __init__(self, data: bytes, machine: Machine, reactor: MasterReactor) -> None:
        self.announced = len(data)
        self._pieces = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
        self._machine = machine
        self._sim = reactor

    async def read(self) -> bytes:
        way, latency_s = self._machine.way()
        await self._sim.sleep(latency_s)
        if way is Way.REFUSED:
            raise BuilderUnreachable("the answer broke off: connection reset")
        if way is not Way.THROUGH:
            await Deferred()
        return self._pieces.pop(0) if self._pieces else b""

    @property
    def is_whole(self) -> bool:
        return not self._pieces

    def put_back(self, data: bytes) -> None:
        self._pieces.insert(0, data)

    def drop(self) -> None:
        self._pieces = []
