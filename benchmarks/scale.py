"""One master and many builders: how long its reactor keeps others waiting, and builders are left without a build.

Of the builders a tenth ends a build each minute, with 2 MB of results. They speak the real protocol, in processes of
their own; the master has one processor and they have another, where there are several. Each number of builders is
measured with wait(), and polled as stock daemons are.
"""

import argparse
import itertools
import time
from collections.abc import Sequence

from benchmarks.farm import (
    add_builders,
    empty_farm,
    noop_builders,
    probed_master,
    processors,
    queue_builds,
)
from benchmarks.probed_master import Probe
from benchmarks.table import ms, percentile, show
from buildmaster.tests.waiting import wait_until

BUILD_S = 600.0  # So a tenth of them ends each minute.
RESULT_BYTES = 2_000_000
CLASSES = 100  # Of builds, by how long they take.
COLUMNS = (
    "builders", "asked by", "all begun s", "ended", "delay p50 ms", "p99", "max", "gap p50 s", "p95", "CPU %", "MB",
)  # fmt: skip
NOTES = """
asked by   wait: a call that the builder answers when its state changes; poll: status(), now and then
all begun  from the start of the master until each builder has its first build
ended      builds that ended in the time that is measured; the rest of the figures is of that time
delay      how much too late a timer of the master's reactor was, which is due every 10 ms
gap        from the end of a build to the beginning of the next on that builder: results and log fetched and stored,
           builder cleaned, next build chosen, files sent, begun
CPU, MB    the master's: of one processor; at the end
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--builders", type=int, nargs="+", default=[100, 1000, 3000], help="default: 100 1000 3000")
    parser.add_argument("--seconds", type=float, default=120, help="how long each is measured (default: %(default)g)")
    parser.add_argument(
        "--settle", type=float, default=20, help="seconds before that, once all have begun (default: %(default)g)"
    )
    parser.add_argument("--quick", action="store_true", help="just see that it works: 20 builders, 5 seconds")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.builders, arguments.seconds, arguments.settle = [20], 5.0, 5.0
    rows = []
    for number in arguments.builders:
        for stock in (False, True):
            rows.append(measure(number, arguments.seconds, arguments.settle, stock=stock))
            print("  ".join(rows[-1]), flush=True)
    show("One master", COLUMNS, rows)
    print(NOTES)


def measure(number: int, seconds: float, settle_s: float, *, stock: bool) -> Sequence[str]:
    """One row."""
    own, *others = processors()
    other = others[0] if others else own
    options = ("--result-bytes", str(RESULT_BYTES), *(["--stock"] if stock else []))
    with empty_farm() as farm, noop_builders(number, *options, cpu=other) as builders:
        add_builders(farm, builders.urls)
        queue_builds(farm, _durations_s(number, settle_s + seconds))
        began = time.monotonic()
        with probed_master(farm, cpu=own) as master:
            wait_until(lambda: builders.count("begin") >= number, 60 + number)
            ramp_s = time.monotonic() - began
            time.sleep(settle_s)
            master.begin()
            since = time.monotonic()
            time.sleep(seconds)
            gaps, ended = builders.gaps_s(since), builders.count("end")
    assert master.probe is not None
    return _row((str(number), "poll" if stock else "wait", f"{ramp_s:.1f}"), ended, gaps, master.probe)


def _durations_s(number: int, seconds: float) -> list[float]:
    """First builds end evenly over the time that a build takes; then come builds that take it."""
    first = [BUILD_S * (1 + place) / CLASSES for place, _ in zip(itertools.cycle(range(CLASSES)), range(number))]
    later = int(number * (seconds + 60) / BUILD_S) + 10
    return [*first, *[BUILD_S] * later]


def _row(head: Sequence[str], ended: int, gaps: Sequence[float], probe: Probe) -> Sequence[str]:
    return (
        *head,
        str(ended),
        *map(ms, (probe.delay_p50_s, probe.delay_p99_s, probe.delay_max_s)),
        *(f"{percentile(gaps, share):.3f}" for share in (0.5, 0.95)),
        f"{100 * probe.cpu_s / probe.seconds:.0f}",
        f"{probe.memory_kb / 1024:.0f}",
    )


if __name__ == "__main__":
    main()
