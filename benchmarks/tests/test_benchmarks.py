"""The benchmarks run from end to end; how fast things are is for people to judge, where nothing else runs."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks import filecache, journey, latency, load, masters, noops, overhead, publish, queue, rpc, scale, table
from benchmarks.debs import LISTS
from benchmarks.servers import baseline, daemon
from benchmarks.span import Watch, now
from harness import BuilddTestSetup

QUICK = ["--quick"]


@pytest.fixture(scope="module")
def setup() -> Iterator[BuilddTestSetup]:
    """One daemon for all of them."""
    with daemon() as setup:
        yield setup


def rows(output: str, beginning: str) -> list[list[float]]:
    """The figures in each row of a table that begins so."""
    lines = [line for line in output.splitlines() if line.startswith(f"  {beginning}  ")]
    return [[float(word.replace(",", "")) for word in re.findall(r"(?<= )\d[\d,.]*", line)] for line in lines]


def test_percentiles() -> None:
    """The smallest figure that this share of all do not exceed."""
    hundred = [float(number) for number in range(100, 0, -1)]
    assert [table.percentile(hundred, share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert [table.percentile([3.0], share) for share in (0.01, 0.99)] == [3, 3]
    assert table.percentile([], 0.99) == 0


def test_deafness_counts_for_every_call_that_was_due_in_it() -> None:
    """Calls go out on time, answered or not, so that a server which stops delays many and not only one."""
    with baseline("canned") as server:
        pauses = [
            threading.Timer(delay_s, os.kill, [server.pid, number])
            for delay_s, number in ((0.3, signal.SIGSTOP), (0.7, signal.SIGCONT))
        ]
        for pause in pauses:
            pause.start()
        end = time.perf_counter() + 1
        timed = load.steady([server], load.request("echo"), 50, lambda: time.perf_counter() < end)
    assert 40 <= len(timed) <= 51
    assert 8 <= sum(one.latency_s > 0.08 for one in timed) <= 40


def test_an_error_is_no_answer() -> None:
    """What a server refuses is not counted as a call."""
    with baseline("stdlib") as server, pytest.raises(load.WrongAnswer):
        load.one_connection(server, load.request("nothing"), 0.1)


def test_the_span_of_a_program_far_below() -> None:
    """Its beginning and end are those of its process, whoever started it."""
    began = now()
    process = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sh -c 'sleep 0.8; :' & wait")
    watch = Watch(process, "sleep")
    os.waitpid(process, 0)
    first, last = watch.span()
    assert began - 0.02 <= first < last <= now()
    assert 0.75 <= last - first <= 1.5


@pytest.mark.real
def test_calls(setup: BuilddTestSetup, capsys: pytest.CaptureFixture[str]) -> None:
    """Each call, server and way to call has its row."""
    rpc.measure(setup, rpc.parse(QUICK))
    output = capsys.readouterr().out
    for call in ("echo", "status"):
        assert all(figures[0] > 100 for figures in rows(output, f"{call} debfarm-buildd"))
        for server in ("debfarm-buildd", "twisted", "stdlib", "canned"):
            assert len(rows(output, f"{call} {server}")) == len(rpc.MODES)


@pytest.mark.real
def test_files(setup: BuilddTestSetup, capsys: pytest.CaptureFixture[str]) -> None:
    """A file goes in and comes out, by us and by others."""
    filecache.measure(setup, filecache.parse(QUICK))
    output = capsys.readouterr().out
    into, out = rows(output, "debfarm-buildd")
    assert 0 < into[0] < 20
    assert out[0] > 10
    assert all(len(rows(output, other)) == 1 for other in ("sha1sum", "dd", "sendfile", "http_server"))


@pytest.mark.real
def test_builds(capsys: pytest.CaptureFixture[str]) -> None:
    """A build's stages add up to it, and its limit is looked at; then echo is timed while another runs."""
    status = overhead.measure(overhead.parse(QUICK))
    output = capsys.readouterr().out
    total, compiling, overhead_s, *_, limit_s = rows(output, "ours, cold, sbuild")[0]
    assert overhead_s == pytest.approx(total - compiling, abs=0.02)
    assert status == int(overhead_s > limit_s)
    table = output.split("stages\n", 1)[1].split("\n\n")[0]
    stages = [float(line.split()[-1]) for line in table.splitlines()[2:]]
    assert sum(stages) == pytest.approx(total, abs=0.01 * len(stages))
    with daemon() as setup:
        latency.measure(setup, latency.parse(QUICK))
        output = capsys.readouterr().out
        calls, p50, p99, slowest, *_ = rows(output, "build and ensurepresent: debfarm-buildd")[0]
        assert calls >= 1
        assert p50 <= p99 <= slowest < 5000


def test_scale(capsys: pytest.CaptureFixture[str]) -> None:
    """Builds end while it is measured, on builders that have wait() and on others, and the next ones begin."""
    scale.main(QUICK)
    output = capsys.readouterr().out
    for asked_by in ("wait", "poll"):
        figures = next(line.split() for line in output.splitlines() if line.split()[:2] == ["20", asked_by])
        assert float(figures[3]) >= 1
        assert 0 < float(figures[7]) <= float(figures[8]) < 30


def test_noops(capsys: pytest.CaptureFixture[str]) -> None:
    """Builds begin and end, one by one and queued together. Buildbot is measured where somebody has it."""
    noops.main(QUICK)
    ((rate, ratio, with_queuing, _, latency_ms, _),) = rows(capsys.readouterr().out, "debfarm")
    assert rate > 0.2 and with_queuing > 0.2 and ratio == 1
    assert 0 < latency_ms < 20_000


@pytest.mark.skipif(not list(LISTS.glob("*Packages*")), reason="needs apt's lists of packages")
def test_publishing(capsys: pytest.CaptureFixture[str]) -> None:
    """A package is published into archives, with files and without, and found there."""
    publish.main([*QUICK, "--only", "debfarm", "debfarm-contents"])
    found = {
        line.split()[1]: float(line.split()[2])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  200  ")
    }
    assert found.keys() == {"debfarm", "debfarm-contents"} and all(0 < each < 60_000 for each in found.values())


@pytest.mark.skipif(not list(LISTS.glob("*Packages*")), reason="needs apt's lists of packages")
def test_publishing_beside_a_reactor() -> None:
    """A timer is late by something, with publications and without. (A reactor runs once in a process.)"""
    command = [sys.executable, "-m", "benchmarks.publish_delay", *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ((_, _, p50, p99, most, _),) = rows(done.stdout, "published")
    assert 0 <= p50 <= p99 <= most < 5000


def test_masters_that_are_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Masters on PostgreSQL are killed under load: nothing is lost, done twice, or stuck."""
    with pytest.raises(SystemExit) as ended:
        masters.main(QUICK)
    output = capsys.readouterr().out
    assert not ended.value.code, output
    (figures,) = [line.split() for line in output.splitlines() if re.match(r"  \d+ ", line)]
    assert int(figures[0]) > 20 and int(figures[3]) >= 1 and figures[-3:] == ["0", "0", "0"]


def test_queue(capsys: pytest.CaptureFixture[str]) -> None:
    """A row with a figure in each of its columns."""
    queue.main(QUICK)
    (row,) = rows(capsys.readouterr().out, "SQLite")
    assert len(row) == len(queue.COLUMNS) - 1
    assert all(figure >= 0 for figure in row)


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="a system of its own needs root")
def test_a_journey(capsys: pytest.CaptureFixture[str]) -> None:
    """An upload comes to its end, whatever it takes, and each part of the way took something."""
    journey.main(QUICK)
    output = capsys.readouterr().out
    for part in ("upload to start", "the build", "end to installable", "beyond the build"):
        ((median, *_),) = rows(output, part)
        assert median > 0
