"""Builds that take more than they may, on a real daemon: held by control groups, and where there are none."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildd.processes import below, look
from buildmaster.tests.waiting import wait_until
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, base_chroot

pytestmark = pytest.mark.real

GONE_S = 2.0  # How long what a build started may live on.
# Each name says what a build then does; \$ is make's.
HOG = "perl -e '$$x = \"x\" x 600_000_000; sleep 300'"
SHM = "dd if=/dev/zero of=/dev/shm/big bs=1M count=600; sleep 300"
FORK_BOMB = "echo begun; perl -e 'for (;;) { fork; $$SIG{TERM} = \"IGNORE\" }' debfarm-bomb"
MANY = "i=0; while [ $$i -lt 200 ]; do sleep 60 & i=$$((i+1)); done"
# Half of it in a file that has no name any more, which du does not see.
FILL = "exec 3>gone; rm gone; head -c 300M /dev/zero >&3; head -c 300M /dev/zero >big; sleep 300"
# And before that, sessions of their own, double forks, ignored signals.
STUBBORN = (
    "(trap : TERM INT HUP; setsid sh -c 'trap : TERM; exec sleep 8765' & (setsid sh -c '(sleep 8765 &) &'); "
    f"{FORK_BOMB})"
)
STUBBORN_PROCESSES = 550  # Of those that it may have, at least.


@pytest.fixture(scope="module", params=["control groups", "no control groups"])
def setup(request: pytest.FixtureRequest) -> Iterator[BuilddTestSetup]:
    groups = request.param == "control groups"
    buildd = BuilddTestSetup(groups=groups)
    buildd.setUp()
    if groups and not any("memory" in str(place) for place in buildd.groups):
        buildd.tearDown()
        pytest.skip(
            "only root may give control groups, and this machine has none with a memory controller of version 1"
        )
    yield buildd
    buildd.tearDown()


@pytest.fixture(autouse=True)
def nothing_left(setup: BuilddTestSetup) -> Iterator[None]:
    """Of a test's build, no control group is left."""
    yield
    assert not [below for place in setup.groups for below in place.glob("debfarm-*-build-*")]


def namespaces(setup: BuilddTestSetup) -> set[str]:
    """The pid namespaces that what descends from the daemon is in, besides this one."""
    found = {_namespace(each.pid) for each in below(setup.process.process.pid)}
    return found - {_namespace(os.getpid()), ""}


def inside(namespaces: set[str]) -> list[int]:
    """What runs in these, whomever it descends from by now; not what is dead and waits for its parent to notice."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    members = [look(pid) for pid in pids if _namespace(pid) in namespaces]
    return [process.pid for process in members if process is not None and process.state not in "ZX"]


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:  # It has ended, if only a moment ago.
        return ""


TOO_MUCH: dict[str, tuple[str, dict[str, int], str]] = {
    "memory": (HOG, {"memory": 400 << 20}, "it needed more memory than a build may use (400M)"),
    "memory in files": (SHM, {"memory": 400 << 20}, "it needed more memory than a build may use (400M)"),
    "processes": (MANY, {"processes": 150}, "it needed more processes than a build may have (150)"),
    "fork bomb": (FORK_BOMB, {"processes": 300}, "it needed more processes than a build may have (300)"),
    "disk": (FILL, {"disk": 500 << 20, "silence": 100}, "it took more of the disk than a build may (500M)"),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_build_that_takes_too_much(client: StockClient, tmp_path: Path, what: str) -> None:
    """It is ended, the limit is named with its number in reason and log, and the package has failed."""
    build, limits, sentence = TOO_MUCH[what]
    client.begin("b-1", tiny_source(tmp_path, build=build), base_chroot(), limits=limits)
    status = client.wait(180)
    log = client.fetch("buildlog").decode(errors="replace")
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
    assert status["reason"] == f"the build was ended: {sentence}", log[-3000:]
    assert sentence in log


def test_a_build_for_which_the_builder_has_too_little_memory(
    client: StockClient, setup: BuilddTestSetup, tmp_path: Path
) -> None:
    """Where what all builds here may have together is less than what one may: it is the builder that has failed."""
    memory = [place for place in setup.groups if "memory" in str(place)]
    if not memory:
        pytest.skip("without control groups only the kernel's count for the whole machine tells")
    limit = memory[0] / "memory.limit_in_bytes"
    limit.write_text(f"{300 << 20}\n")
    try:
        client.begin("b-4", tiny_source(tmp_path, build=HOG), base_chroot(), limits={"memory": str(1 << 30)})
        status = client.wait(180)
    finally:
        limit.write_text("-1\n")
    why = "the builder ran out of memory, and its kernel ended a process of the build"
    assert (status["build_status"], status["cause"]) == ("BuildStatus.BUILDERFAIL", "memory")
    assert status["reason"] == f"the build was ended: {why}"


@pytest.mark.parametrize("how", ["abort", "stop", "kill"])
def test_a_build_that_does_not_want_to_end(
    client: StockClient, setup: BuilddTestSetup, tmp_path: Path, how: str
) -> None:
    """Two seconds after abort, SIGTERM or kill -9 of the daemon nothing of it runs, whatever it does against that."""
    client.begin("b-2", tiny_source(tmp_path, build=STUBBORN), base_chroot(), limits={"processes": 600})
    spaces = wait_until_it_runs(setup, client, STUBBORN_PROCESSES)
    began = time.monotonic()
    match how:
        case "abort":
            client.proxy.abort()
            assert time.monotonic() - began < 1, "the daemon does not answer"
        case "stop":
            setup.process.process.terminate()
        case _:
            setup.process.process.kill()
    while (left := inside(spaces)) and time.monotonic() < began + 20:
        time.sleep(0.05)
    took = time.monotonic() - began
    if how == "abort":
        assert client.wait(20)["build_status"] == "BuildStatus.ABORTED"
    else:
        setup.process.process.wait(10)
        setup.restart()
    assert not left
    assert took < GONE_S


def wait_until_it_runs(setup: BuilddTestSetup, client: StockClient, number: int) -> set[str]:
    """Wait until the package builds in so many processes; the pid namespaces that these are in."""

    def begun() -> bool:
        assert client.proxy.status()["builder_status"] == "BuilderStatus.BUILDING"
        return "\nbegun" in client.fetch("buildlog").decode(errors="replace")

    wait_until(begun, 60.0)
    spaces = namespaces(setup)
    wait_until(lambda: len(inside(spaces)) >= number, 60.0)
    return spaces
