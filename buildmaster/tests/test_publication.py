"""A publication releases who waits for it: a master of its own process, apt, and an archive on the loopback."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from buildd.tests.small_archive import SmallArchive
from buildmaster import distributions
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.tables import build
from buildmaster.tests.factories import CONFIG, make_build, make_farm, make_series
from buildmaster.tests.test_examiner import make_chroot, released_within_s

COMMAND = [sys.executable, "-c", "from buildmaster.cli import main; main()"]
STARTS_S = 60.0


@contextmanager
def master(farm: Farm, poll: str) -> Iterator[list[str]]:
    """A master runs, which asks archives so often. Gives the command line's beginning, on this farm."""
    with (farm.directory / CONFIG).open("a") as file:
        file.write(f"[files]\nport = 0\n[archives]\nport = 0\n[uploads]\nftp_port =\n[dependencies]\npoll = {poll}\n")
    command = [*COMMAND, "--config", str(farm.directory / CONFIG), "--dir", str(farm.directory)]
    log = farm.directory.parent / "master.log"
    running = subprocess.Popen([*command, "--log-file", str(log), "run"], env=os.environ)
    try:
        yield command
    finally:
        running.terminate()
        assert running.wait(30) == 0, log.read_text()


def until(farm: Farm, build_id: int, state: BuildState, within_s: float) -> float:
    """Wait until a build is in a state; how long that took."""
    began = time.monotonic()
    query = select(build.c.state).where(build.c.id == build_id)
    while time.monotonic() - began < within_s:
        with farm.reading() as connection:
            if connection.execute(query).scalar_one() == state:
                return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"build {build_id} is not {state} after {within_s} s")


@pytest.mark.parametrize("way", ["poll", "archive-published"])
def test_released_within_5_s(way: str, tmp_path: Path) -> None:
    """By the master's own looks, every two seconds; or, where these are rare, since who publishes says so."""
    archive = SmallArchive()
    try:
        archive.publish()
        farm = make_farm(tmp_path)
        make_series(farm, chroot=make_chroot({}))
        with farm.transaction() as connection:
            distributions.set_apt_lines(connection, "debian", "primary", f"deb {archive.url} stable main")
            distributions.set_trusted_keys(connection, "debian", "primary", [archive.key])
        build_id = make_build(farm, relations="Build-Depends: late (>= 2)")
        with master(farm, "2s" if way == "poll" else "1h") as command:
            looked_s = until(farm, build_id, BuildState.DEP_WAIT, STARTS_S)
            archive.add("late", "2.0")
            archive.publish()
            published = time.monotonic()
            if way != "poll":
                subprocess.run([*command, way, "debian/primary"], check=True, capture_output=True)
            said_s = time.monotonic() - published
            took_s = until(farm, build_id, BuildState.NEEDS_BUILD, STARTS_S)
        print(f"released {took_s:.2f} s after publication, by {way}, which took {said_s:.2f} s")
        assert took_s < released_within_s(looked_s)
    finally:
        archive.close()
