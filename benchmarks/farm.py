"""A farm to be loaded: a master, builders that build nothing, a queue; each in a process of its own, on loopback."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.noop_builders import source_name
from benchmarks.probed_master import Probe
from buildmaster import builders, builds, packages
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.tests.factories import make_series, write_source
from tools.places import CHECKOUT

_START_S = 30.0


@dataclass(frozen=True)
class Happening:
    """What a builder did."""

    time: float  # Of time.monotonic().
    builder: int  # Its number.
    what: str  # begin, end or clean.
    build_id: str


@dataclass
class Builders:
    """Builders in a process of their own."""

    urls: list[str]
    happened: list[Happening] = field(default_factory=list)  # Grows.

    def gaps_s(self, since: float) -> list[float]:
        """How long a builder was left without a build after each one that has ended since then."""
        gaps, ended = [], {}
        for one in tuple(self.happened):
            if one.what == "end" and one.time >= since:
                ended[one.builder] = one.time
            elif one.what == "begin" and one.builder in ended:
                gaps.append(one.time - ended.pop(one.builder))
        return gaps

    def count(self, what: str) -> int:
        """How often this has happened."""
        return sum(one.what == what for one in tuple(self.happened))


@contextmanager
def noop_builders(number: int, *options: str, cpu: int | None = None) -> Iterator[Builders]:
    """So many builders while the context lasts.

    :param options: of noop_builders.py.
    :param cpu: the processor to run on.
    """
    command = [*_on(cpu), sys.executable, "-m", "benchmarks.noop_builders", str(number), *options]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        builders = Builders(json.loads(process.stdout.readline()))
        reader = threading.Thread(target=_read, args=(process.stdout, builders.happened), daemon=True)
        reader.start()
        try:
            yield builders
        finally:
            process.stdin.close()
            process.wait(_START_S)
            reader.join(_START_S)


def _read(lines: Iterator[str], happened: list[Happening]) -> None:
    for line in lines:
        when, builder, what, build_id = line.split()
        happened.append(Happening(float(when), int(builder), what, build_id))


def _on(cpu: int | None) -> Sequence[str]:
    return () if cpu is None else ("taskset", "--cpu-list", str(cpu))


@contextmanager
def empty_farm() -> Iterator[Farm]:
    """A farm for amd64 of one series, without builders and builds."""
    with tempfile.TemporaryDirectory(prefix="farm-") as folder:
        farm = Farm.create(Path(folder) / "farm")
        make_series(farm)
        try:
            yield farm
        finally:
            farm.close()


def add_builders(farm: Farm, urls: Sequence[str]) -> None:
    """Register builders."""
    with farm.transaction() as connection:
        for number, url in enumerate(urls):
            builders.add(connection, f"noop{number}", url, "amd64", time.time())


def queue_builds(farm: Farm, durations_s: Sequence[float]) -> None:
    """Queue builds that take so long each; the farm has seen each source built before."""
    sources: dict[float, Path] = {}
    for duration_s in durations_s:
        if duration_s not in sources:
            dsc = write_source(farm.directory / "sources", source_name(len(sources), duration_s))
            _build_once(farm, dsc, duration_s)
            sources[duration_s] = dsc
        packages.accept(
            farm, sources[duration_s], time.time(), distribution="debian", series_name="bookworm", rebuild=True
        )


def _build_once(farm: Farm, dsc: Path, duration_s: float) -> None:
    now = time.time()
    accepted = packages.accept(farm, dsc, now, distribution="debian", series_name="bookworm")
    with farm.transaction() as connection:
        builder = next(iter(builders.vitals(connection)))
        for build_id in accepted.build_ids:
            builds.claim(connection, build_id, builder, now - duration_s)
            builds.record(connection, build_id, Event.SUCCEEDED, now)
            builds.record(connection, build_id, Event.GATHERED, now)


@dataclass
class RunningMaster:
    """A master with a probe in it."""

    process: subprocess.Popen[str]
    probe: Probe | None = None  # Once it has ended.

    def begin(self) -> None:
        """What is told of it is to begin now."""
        self.process.send_signal(signal.SIGUSR1)


# Of a configuration: several masters run on this machine, of others as well.
ANY_PORTS = "[files]\nport = 0\n[archives]\nport = 0\n[uploads]\nftp_port =\n"


@contextmanager
def probed_master(farm: Farm, cpu: int | None = None, settings: str = "") -> Iterator[RunningMaster]:
    """A master on a farm, while the context lasts; its probe is there afterwards.

    :param settings: lines for its configuration.
    """
    config, log = farm.directory.parent / "buildmaster.conf", farm.directory.parent / "master.log"
    config.write_text(ANY_PORTS + settings)
    command = [*_on(cpu), sys.executable, "-m", "benchmarks.probed_master", str(farm.directory), str(config)]
    with (
        log.open("w") as stream,
        subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=stream, text=True) as process,
    ):
        master = RunningMaster(process)
        try:
            yield master
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=60)
            if process.returncode or not output:
                raise RuntimeError(f"the master ended with {process.returncode}: {log.read_text()[-2000:]}")
            master.probe = Probe(**json.loads(output.splitlines()[-1]))


def processors() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0))
