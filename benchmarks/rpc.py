"""Calls a second: echo and status, beside what does the same with less around it, in the same run."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks import load
from benchmarks.load import Load, Server
from benchmarks.servers import as_server, baseline, daemon, python_of
from benchmarks.table import OTHER_RUN, median, ms, percentile, show
from harness import BuilddTestSetup

Stretch = Callable[[Server, bytes, float], Load]

CALLS: dict[str, Sequence[str]] = {"echo": ("hello",), "status": ()}
MODES: dict[str, tuple[Stretch, str]] = {  # And the reference's figures.
    "one connection that stays open": (load.one_connection, "2,800 to 3,700 calls/s"),
    "a new connection for each call": (load.new_connections, "2,000 to 2,900 calls/s"),
    "50 calls at once": (load.at_once, "6,000 to 6,300 calls/s, p50 7.3 ms, p99 12 ms"),
}
COLUMNS = ("", "calls/s", "ours/its", "p50 ms", "p99 ms", "us a call", "client's us")
NOTES = """
ours/its  debfarm-buildd's calls a second by this server's: the median of the rounds, in which they take turns
us        processor time that a call takes the server, and the client that calls
twisted   twisted.web's XML-RPC resource with nothing around it, on the daemon's Python and Twisted
stdlib    SimpleXMLRPCServer with a thread a connection
canned    the same bytes for every call, unread: what the client and the machine could do at most
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    arguments = parse(argv)
    with daemon() as setup:
        measure(setup, arguments)


def measure(setup: BuilddTestSetup, arguments: argparse.Namespace) -> None:
    """Load a daemon that has nothing else to do."""
    with ExitStack() as stack:
        python = python_of(setup)
        others = [stack.enter_context(baseline(kind, python=python)) for kind in ("twisted", "stdlib", "canned")]
        servers = [as_server(setup), *others]
        for mode, (stretch, reference) in MODES.items():
            rows: list[Sequence[str]] = []
            for method, values in CALLS.items():
                keep = stretch is not load.new_connections
                call = load.request(method, *values, keep=keep)
                rounds = [
                    [stretch(server, call, arguments.seconds) for server in servers] for _ in range(arguments.rounds)
                ]
                rows += [_row(method, server, place, rounds) for place, server in enumerate(servers)]
            show(f"{mode} (reference: {reference})", COLUMNS, rows)
    print(NOTES, OTHER_RUN, sep="\n")


def _row(method: str, server: Server, place: int, rounds: Sequence[Sequence[Load]]) -> Sequence[str]:
    """What all rounds came to for one server; the daemon is in the first place."""
    whole = load.add([stretches[place] for stretches in rounds])
    rate = median([stretches[place].rate for stretches in rounds])
    ratio = median([stretches[0].rate / stretches[place].rate for stretches in rounds])
    return (
        f"{method} {server.name}",
        f"{rate:,.0f}",
        f"{ratio:.2f}" if place else "",
        ms(percentile(whole.latencies_s, 0.5)),
        ms(percentile(whole.latencies_s, 0.99)),
        f"{whole.server_cpu_s / whole.calls * 1e6:.0f}",
        f"{whole.own_cpu_s / whole.calls * 1e6:.0f}",
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rpc", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each stretch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="stretches of each kind (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="just see that it works: 1 round of 0.05 s")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.seconds, arguments.rounds = 0.05, 1
    return arguments


if __name__ == "__main__":
    main()
