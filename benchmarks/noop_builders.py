"""Many builders in one process that build nothing, but speak the real protocol, each at a port of its own.

`python -m benchmarks.noop_builders 1000` prints their URLs as one line of JSON, and then a line for each thing that
happens: the time (of time.monotonic()), the number of the builder, `begin`, `end` or `clean`, the id of the build.

How long a build takes is in the name of its source, as `source_name` writes it. It ends when the standard input does.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.web.xmlrpc import XMLRPC

from buildd.protocol import BuildAnswer
from buildmaster.tests.fakes import FakeBuilder, WaitingBuilder, WaitingRpc, make_results

JITTER = 0.1  # How much longer or shorter than usual a build may take.


def source_name(number: int, duration_s: float) -> str:
    """The name of a source whose builds usually take so long."""
    return f"noop{number}-{round(duration_s * 1000)}ms"


def _duration_s(filemap: dict[str, str]) -> float:
    name = next(name for name in filemap if name.endswith(".dsc"))
    return int(name.partition("_")[0].rpartition("-")[2].removesuffix("ms")) / 1000


@dataclass
class NoOpBuilder(FakeBuilder):
    """A builder whose builds take a given time, and have results of a given size that are no other build's."""

    number: int = 0
    result_bytes: int = 0

    def begin(self, build_id: str, chroot: str, filemap: dict[str, str]) -> list[str]:
        """build(); what is refused has not begun."""
        self.duration_s = _duration_s(filemap) * random.uniform(1 - JITTER, 1 + JITTER)
        self.log = b""
        answer = super().begin(build_id, chroot, filemap)
        if answer[0] == BuildAnswer.BUILDING:
            self._tell("begin")
            self.changed()
        return answer

    def end(self) -> None:
        super().end()
        self._tell("end")
        self.changed()

    def clean(self) -> str:
        """clean(); all that was fetched for the build goes as well."""
        for sha1 in (*self.filemap.values(), *self.sources.values()):
            self.cache.pop(sha1, None)
        self._tell("clean")
        answer = super().clean()
        self.changed()
        return answer

    def good_results(self) -> dict[str, bytes]:
        dsc = next(name for name in self.sources if name.endswith(".dsc"))
        name, _, version = dsc.removesuffix(".dsc").partition("_")
        words = f"{self.build_id} of builder {self.number}\n".encode()
        deb = (words * (self.result_bytes // len(words) + 1))[: max(self.result_bytes, len(words))]
        return make_results(name, version, {f"{name}_{version}_amd64.deb": deb})

    def changed(self) -> None:
        """It is in another state now."""

    def _tell(self, what: str) -> None:
        sys.stdout.write(f"{time.monotonic()} {self.number} {what} {self.build_id}\n")
        sys.stdout.flush()


class _Rpc(WaitingRpc):
    async def _wait(self, known: tuple[str, str], timeout_s: float) -> dict[str, object]:
        if self._same(known):
            await self.builder.next_change(timeout_s)  # type: ignore[attr-defined]
        return self.builder.tell()


@dataclass
class WaitingNoOpBuilder(NoOpBuilder, WaitingBuilder):
    """The same with wait(); it answers as soon as something changes, without looking now and then."""

    _waiting: Deferred[None] | None = None

    def rpc(self) -> XMLRPC:
        return _Rpc(self)

    def changed(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def next_change(self, timeout_s: float) -> None:
        """Wait for it, or until the time is over."""
        self.changed()  # There is one master: who waited before has gone.
        waiting = self._waiting = Deferred()
        timer = self.reactor.callLater(timeout_s, self.changed)
        await waiting
        if timer.active():
            timer.cancel()


class _UntilEnd(Protocol):
    """Ends the program when its standard input ends."""

    def connectionLost(self, reason: object = None) -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noop_builders", description=__doc__)
    parser.add_argument("builders", type=int, help="how many")
    parser.add_argument("--result-bytes", type=int, default=0, help="size of a build's one package; default: tiny")
    parser.add_argument("--stock", action="store_true", help="without wait(), as a stock daemon")
    arguments = parser.parse_args(argv)
    kind = NoOpBuilder if arguments.stock else WaitingNoOpBuilder
    builders = [
        kind(reactor, number=number, result_bytes=arguments.result_bytes) for number in range(arguments.builders)
    ]
    print(json.dumps([builder.listen() for builder in builders]), flush=True)
    StandardIO(_UntilEnd())  # type: ignore[no-untyped-call]
    reactor.run()


if __name__ == "__main__":
    main()
