"""Builds that build nothing, through one daemon and one master with a durable database; beside Buildbot, in one run.

It is for what a farm itself takes: builds a second, and how long it takes from submission to the beginning of the
build on an idle farm. Buildbot has one worker whose one step is a command of the shell, and SQLite as well.

Buildbot is measured where --buildbot names a virtual environment that has buildbot, buildbot-worker and buildbot-www:
`python3 -m venv DIR && DIR/bin/pip install buildbot==4.3.* buildbot-worker buildbot-www==4.3.* setuptools`.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import requests

from benchmarks.farm import empty_farm, probed_master
from benchmarks.noop_builders import source_name
from benchmarks.table import median, ms, show
from buildmaster import builders, packages
from buildmaster.farm import Farm
from buildmaster.tests.factories import write_source
from buildmaster.tests.waiting import wait_until
from tools.places import CHECKOUT

_START_S = 60.0
_BUILD_S = 60.0
COLUMNS = ("", "builds/s", "ours/its", "with queuing", "ours/its", "submit to start ms", "its/ours")
NOTES = """
builds/s         from the first that began when all were in the queue to the last that did
with queuing     the same from the very first that began on, while builds were still being queued, one after the other
submit to start  from the beginning of the submission of one build, on a farm that has nothing else to do, until its
                 command begins: the median
"""

_MASTER_CFG = """\
from buildbot.plugins import schedulers, steps, util, worker
noop = steps.ShellCommand(command=["sh", "-c", "cut -d ' ' -f 1 /proc/uptime >> {begun}"], logEnviron=False)
BuildmasterConfig = {{
    "workers": [worker.Worker("noop", "noop")],
    "protocols": {{"pb": {{"port": "tcp:{worker_port}:interface=127.0.0.1"}}}},
    "builders": [
        util.BuilderConfig(
            name="noop", workernames=["noop"], factory=util.BuildFactory([noop]), collapseRequests=False
        )
    ],
    "schedulers": [schedulers.ForceScheduler(name="force", builderNames=["noop"])],
    "www": {{"port": "tcp:{port}:interface=127.0.0.1", "plugins": {{}}}},
    "db": {{"db_url": "sqlite:///state.sqlite"}},
    "buildbotNetUsageData": None,
}}
"""
_PORT, _WORKER_PORT = 28010, 29989


class Contender(Protocol):
    """A farm of one builder."""

    def submit(self, count: int) -> None:
        """Queue so many builds."""

    def begun(self) -> Sequence[float]:
        """When each build began that did so far; seconds since boot."""


@dataclass
class Ours:
    """The master's farm, and what the daemon prints."""

    farm: Farm
    printed: Path
    _number: int = 0

    def submit(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            dsc = write_source(self.farm.directory / "sources", source_name(self._number, 0))
            packages.accept(self.farm, dsc, time.time(), distribution="debian", series_name="bookworm")

    def begun(self) -> Sequence[float]:
        return [float(line.split()[0]) for line in self.printed.read_text().splitlines()[1:]]


@contextmanager
def ours() -> Iterator[Ours]:
    """One daemon and one master of ours."""
    with empty_farm() as farm:
        printed = farm.directory.parent / "daemon.out"
        with printed.open("w") as stream:
            command = [sys.executable, "-m", "benchmarks.noop_daemon", str(farm.directory.parent / "daemon")]
            with subprocess.Popen(command, cwd=CHECKOUT, stdout=stream) as daemon:
                try:
                    wait_until(lambda: "port" in printed.read_text(), _START_S)
                    port = printed.read_text().split()[-1]
                    with farm.transaction() as connection:
                        builders.add(connection, "noop", f"http://127.0.0.1:{port}/", "amd64", time.time())
                    with probed_master(farm):
                        yield Ours(farm, printed)
                finally:
                    daemon.terminate()


@dataclass
class Buildbot:
    """What its web server takes, and what its worker's step writes."""

    written: Path

    def submit(self, count: int) -> None:
        url = f"http://127.0.0.1:{_PORT}/api/v2/forceschedulers/force"
        call = {"id": 1, "jsonrpc": "2.0", "method": "force", "params": {"owner": "noop", "builderNames": ["noop"]}}
        for _ in range(count):
            requests.post(url, json=call, timeout=_START_S).raise_for_status()

    def begun(self) -> Sequence[float]:
        return [float(line) for line in self.written.read_text().splitlines()] if self.written.exists() else []


@contextmanager
def buildbot(environment: Path) -> Iterator[Buildbot]:
    """One master and one worker of Buildbot.

    :param environment: the virtual environment that it is in.
    """
    programs = environment / "bin"
    with TemporaryDirectory(prefix="buildbot-") as folder:
        place = Path(folder)
        written = place / "begun"
        quiet = {"cwd": place, "stdout": subprocess.DEVNULL}
        subprocess.run([programs / "buildbot", "create-master", "master"], check=True, **quiet)  # type: ignore[call-overload]
        cfg = _MASTER_CFG.format(begun=written, port=_PORT, worker_port=_WORKER_PORT)
        (place / "master/master.cfg").write_text(cfg)
        worker = ["create-worker", "worker", f"127.0.0.1:{_WORKER_PORT}", "noop", "noop"]
        subprocess.run([programs / "buildbot-worker", *worker], check=True, **quiet)  # type: ignore[call-overload]
        with (
            (place / "log").open("w") as log,
            subprocess.Popen([programs / "buildbot", "start", "--nodaemon", "master"], cwd=place, stdout=log) as master,
            subprocess.Popen(
                [programs / "buildbot-worker", "start", "--nodaemon", "worker"], cwd=place, stdout=log
            ) as its_worker,
        ):
            try:
                wait_until(_answers, _START_S)
                yield Buildbot(written)
            finally:
                its_worker.terminate()
                master.terminate()


def _answers() -> bool:
    try:
        url = f"http://127.0.0.1:{_PORT}/api/v2/workers/1"
        workers = requests.get(url, timeout=_START_S).json().get("workers", [])
    except requests.ConnectionError:
        return False
    return any(worker["connected_to"] for worker in workers)


@dataclass(frozen=True)
class Figures:
    """What was measured of one."""

    rate: float  # Builds a second, nothing being queued any more;
    rate_with_queuing: float  # and all in all.
    latency_s: float


def measure(contender: Contender, count: int, rounds: int) -> Figures:
    """Submit builds one by one, and then many at once."""
    latencies = []
    for _ in range(rounds + 1):  # The first is for what comes but once: the chroot is sent.
        before = len(contender.begun())
        submitted = time.monotonic()
        contender.submit(1)
        _wait_for(contender, before + 1)
        latencies.append(contender.begun()[before] - submitted)
        time.sleep(1)
    before = len(contender.begun())
    contender.submit(count)
    queued = len(contender.begun())
    _wait_for(contender, before + count)
    begun = contender.begun()
    return Figures(_rate(begun[queued:]), _rate(begun[before:]), median(latencies[1:]))


def _rate(begun: Sequence[float]) -> float:
    return (len(begun) - 1) / (begun[-1] - begun[0]) if len(begun) > 1 else math.nan


def _wait_for(contender: Contender, count: int) -> None:
    wait_until(lambda: len(contender.begun()) >= count, _BUILD_S + count)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--buildbot", type=Path, metavar="DIR", help="a virtual environment that has Buildbot")
    parser.add_argument("--builds", type=int, default=300, help="queued at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="builds on an idle farm (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="just see that it works: few builds")
    arguments = parser.parse_args(argv)
    builds, rounds = (20, 1) if arguments.quick else (arguments.builds, arguments.rounds)
    figures = {}
    with ours() as farm:
        figures["debfarm"] = measure(farm, builds, rounds)
    if arguments.buildbot:
        with buildbot(arguments.buildbot.absolute()) as other:
            figures["Buildbot"] = measure(other, max(5, builds // 5), rounds)
    show("One builder", COLUMNS, [_row(name, each, figures["debfarm"]) for name, each in figures.items()])
    print(NOTES)


def _row(name: str, its: Figures, ours: Figures) -> Sequence[str]:
    rates = ((its.rate, ours.rate), (its.rate_with_queuing, ours.rate_with_queuing))
    shown = [words for mine, best in rates for words in (f"{mine:.1f}", f"{best / mine:.1f}")]
    return name, *shown, ms(its.latency_s), f"{its.latency_s / ours.latency_s:.1f}"


if __name__ == "__main__":
    main()
