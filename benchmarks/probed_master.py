"""A master that tells how long its reactor kept others waiting: `python -m benchmarks.probed_master DIRECTORY`.

It is the real one, with a timer beside it that is due every PROBE_S. SIGUSR1 begins a stretch anew; at SIGTERM it
prints, as JSON, a Probe of the last stretch.
"""

import argparse
import json
import resource
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from benchmarks.table import percentile
from buildmaster.config import load
from buildmaster.farm import Farm
from buildmaster.service import Master

PROBE_S = 0.01


@dataclass(frozen=True)
class Probe:
    """What a stretch came to; in seconds, of which `cpu_s` is processor time."""

    seconds: float
    cpu_s: float
    delay_p50_s: float
    delay_p99_s: float
    delay_max_s: float
    memory_kb: int  # At its end.
    memory_peak_kb: int  # Since the master began.


class Prober:
    """The timer, and what it was late."""

    def __init__(self) -> None:
        self.begin()
        self._due = time.monotonic() + PROBE_S
        reactor.callLater(PROBE_S, self._look)

    def begin(self, *_: object) -> None:
        """A stretch begins."""
        self._late: list[float] = []
        self._began, self._cpu = time.monotonic(), time.process_time()

    def _look(self) -> None:
        now = time.monotonic()
        self._late.append(max(0.0, now - self._due))
        self._due = now + PROBE_S
        reactor.callLater(PROBE_S, self._look)

    def end(self) -> Probe:
        """What it came to until now."""
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return Probe(
            seconds=time.monotonic() - self._began,
            cpu_s=time.process_time() - self._cpu,
            delay_p50_s=percentile(self._late, 0.5),
            delay_p99_s=percentile(self._late, 0.99),
            delay_max_s=max(self._late, default=0.0),
            memory_kb=int(status["VmRSS"].split()[0]),
            memory_peak_kb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the farm in a directory until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probed_master", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("config", type=Path)
    arguments = parser.parse_args(argv)
    config = load(arguments.config, arguments.directory)
    farm = Farm.open(config.places)
    master, prober = Master(config, farm, reactor), Prober()
    signal.signal(signal.SIGUSR1, prober.begin)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(master.start()))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(master.stop()))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: print(json.dumps(asdict(prober.end())), flush=True))
    reactor.run()
    farm.close()


if __name__ == "__main__":
    main()
