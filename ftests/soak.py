"""Builds in a row that end in every way, on one real daemon: whether anything is left of them, by count.

`python -m ftests.soak --builds 200 --seed 7`: each build is of a random kind (one that succeeds, that fails, a fork
bomb, ...) by a random package builder, and to some something happens at a random moment: abort, SIGTERM or kill -9 of
the daemon, a full disk. What there is of processes, mounts, files and so on is counted before and after. The daemon is
ended only in the first half, so that what it takes in memory in the second can be compared with its beginning.

The same seed gives the same builds; the moments differ, as the machine does. Exit status 1: something is left, or a
build ended as it should not.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftests.counts import Counts
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, FileServer, base_chroot
from tools.places import Places, default_root

DISK_BYTES = 4 << 30
LEFT_BYTES = 30 << 20  # Of a full disk.
BUILD_S = 60.0  # A build takes 3; this one hangs.
SETTLE_S = 15.0
LIMITS = {"processes": 150, "memory": str(800 << 20), "silence": 20, "timeout": 40}
MOMENT_MAX_S = 3.0  # When something happens, after the build began.

# What each kind does as it builds, and how that ends when nothing happens to it; $ doubled is the shell's.
KINDS: dict[str, tuple[str, str]] = {
    "succeeds": ("true", "OK"),
    "fails": ("exit 1", "PACKAGEFAIL"),
    "fork bomb": ("perl -e 'for (;;) { fork }'", "PACKAGEFAIL"),
    "leaves a daemon": ("setsid sh -c 'trap : TERM HUP; exec sleep 7321' &", "OK"),
    "prints much": ("head -c 5000000 /dev/urandom | base64", "OK"),
    "fills memory": ("perl -e '$$x = \"x\" x 2_000_000_000; sleep 30'", "PACKAGEFAIL"),
    "many files": ("perl -e 'for (1..3000) { open F, \">$$_\" }'", "OK"),
    "is slow": ("sleep 4", "OK"),
    "needs what is not there": ("true", "DEPFAIL"),
}
EVENTS = ("nothing", "nothing", "nothing", "abort", "full disk", "SIGTERM", "kill -9")
ENDS_DAEMON = ("SIGTERM", "kill -9")


@dataclass(frozen=True)
class Step:
    """One build, and what happens to it."""

    kind: str
    builder: str
    event: str
    moment_s: float


def plan(builds: int, seed: int) -> list[Step]:
    """What is going to happen."""
    chance = random.Random(seed)
    steps = []
    for number in range(builds):
        events = EVENTS if number < builds / 2 else [event for event in EVENTS if event not in ENDS_DAEMON]
        kind, builder = chance.choice(list(KINDS)), chance.choice(("sbuild", "direct"))
        steps.append(Step(kind, builder, chance.choice(events), chance.uniform(0, MOMENT_MAX_S)))
    return steps


@dataclass
class Soak:
    """The builds, one after another."""

    setup: BuilddTestSetup
    folder: Path
    disk: Path | None  # To be filled, where there is one of its own.
    ended: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # Kind, event, how it ended.
    wrong: list[str] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self.files = FileServer()
        self.client = StockClient(self.setup.url, self.files)
        self._chroot = base_chroot()
        self._sources = {
            kind: tiny_source(
                self.folder / f"source-{number}",
                f"soak{number}",
                build=build,
                needs="libdebfarm-none" if what == "DEPFAIL" else "",
            )
            for number, (kind, (build, what)) in enumerate(KINDS.items())
        }

    def warm_up(self) -> None:
        """Have all files sent, and builds of those kinds that leave layers and the like, which are to stay."""
        for dsc in self._sources.values():
            for path in dsc.parent.iterdir():
                self.client.send(path)
        for kind in ("succeeds", "needs what is not there"):
            self.take(Step(kind, "direct", "nothing", 0))

    def settle_in(self) -> None:
        """Have a new daemon take what memory such builds need; an explanation of what is missing takes most."""
        for kind in ("succeeds", "needs what is not there", "prints much"):
            for builder in ("sbuild", "direct"):
                self.take(Step(kind, builder, "nothing", 0))

    def take(self, step: Step) -> None:
        """One build, from an idle daemon to an idle daemon."""
        self._number += 1
        build_id = f"soak-{self._number}"
        event = step.event if step.event != "full disk" or self.disk else "nothing"
        with contextlib.ExitStack() as stack:
            if event == "full disk":
                stack.enter_context(_full(self.disk or Path()))
            try:
                source = self._sources[step.kind]
                self.client.begin(
                    build_id, source, self._chroot, package_builder=step.builder, limits=LIMITS, build_url=None
                )
            except xmlrpc.client.Fault as fault:
                self._note(step, event, f"not begun: {fault.faultString[:60]}", event == "full disk")
                return
            self._happen(event, step.moment_s)
            how = self._end()
        self._note(step, event, how, self._expected(step.kind, event, how))

    def _happen(self, event: str, moment_s: float) -> None:
        """Let it happen at that moment, if the build still runs."""
        if event not in ("abort", *ENDS_DAEMON):
            return
        time.sleep(moment_s)
        if event == "abort":
            with contextlib.suppress(xmlrpc.client.Fault):  # It has ended by itself.
                self.client.proxy.abort()
            return
        if event == "kill -9":
            self.setup.crash()
        else:
            self.setup.process.process.terminate()
            self.setup.process.process.wait(20)
        self.setup.restart()
        self.client = StockClient(self.setup.url, self.files)

    def _end(self) -> str:
        """Wait for the end, and clean up; how it ended."""
        if self.client.proxy.status()["builder_status"] == "BuilderStatus.IDLE":
            return "gone"
        status = self.client.wait(BUILD_S)
        self.client.proxy.clean()
        return str(status["build_status"]).removeprefix("BuildStatus.")

    @staticmethod
    def _expected(kind: str, event: str, how: str) -> bool:
        match event:
            case "nothing":
                return how == KINDS[kind][1]
            case "abort":
                return how in ("ABORTED", KINDS[kind][1])
            case "full disk":  # Some need none of it.
                return how in ("BUILDERFAIL", KINDS[kind][1])
        return how == "gone"

    def _note(self, step: Step, event: str, how: str, expected: bool) -> None:
        self.ended[step.kind, event, how] += 1
        if not expected:
            self.wrong.append(f"build {self._number}: {step.kind} by {step.builder}, {event}: {how}")

    def count(self) -> Counts:
        """What there is now, without connections of ours."""
        self.client.proxy("close")()
        self.client = StockClient(self.setup.url, self.files)
        return Counts.of(self.setup)


def soak(builds: int, seed: int, *, tell: bool = True) -> list[str]:
    """Build so many times; what is wrong afterwards, in words."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        disk = stack.enter_context(own_disk()) if os.geteuid() == 0 else None
        setup = BuilddTestSetup(directory=disk / "buildd" if disk else None, settings={"free_space": "1M"})
        stack.callback(setup.tearDown)
        setup.setUp()
        soaking = Soak(setup, folder, disk)
        stack.callback(soaking.files.close)
        soaking.warm_up()
        steps, half = plan(builds, seed), -(-builds // 2)
        before = soaking.count()
        began = time.monotonic()
        for step in steps[:half]:
            soaking.take(step)
        soaking.settle_in()
        middle = soaking.count()
        for step in steps[half:]:
            soaking.take(step)
        left = _settled(soaking, before, middle)
        after = soaking.count()
        if tell:
            where = "with a small disk" if disk else "without full disks, for which one has to be root"
            print(f"{builds} builds in {time.monotonic() - began:.0f} s, {where}")
            _show(soaking, before, middle, after)
        wrong = [*soaking.wrong, *left]
        log = setup.log()
        if (place := log.find("Traceback")) >= 0:
            wrong.append(f"the daemon's log has a traceback:\n{log[max(0, place - 2000) : place + 4000]}")
        return wrong


def _settled(soaking: Soak, before: Counts, middle: Counts) -> list[str]:
    """What is left, once what is being removed has had a moment for it."""
    deadline = time.monotonic() + SETTLE_S
    while (left := soaking.count().beyond(before, middle)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _show(soaking: Soak, before: Counts, middle: Counts, after: Counts) -> None:
    for (kind, event, how), number in sorted(soaking.ended.items()):
        print(f"  {number:3} {kind:24} {event:10} {how}")
    print(f"\n  {'':24}{'before':>12}{'middle':>12}{'after':>12}")
    for name, figures in Counts.rows(before, middle, after):
        print(f"  {name:24}" + "".join(f"{figure:>12}" for figure in figures))


@contextlib.contextmanager
def own_disk() -> Iterator[Path]:
    """A small ext4 of one's own, in a file, with the daemon's directory to be: as only root can mount it."""
    place = Path(tempfile.mkdtemp(prefix="soak-", dir=Places(default_root()).make().tests))
    image, disk = place / "image", place / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        place.chmod(0o755)
        disk.chmod(0o755)
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)
        image.unlink()
        disk.rmdir()
        place.rmdir()


@contextlib.contextmanager
def _full(disk: Path) -> Iterator[None]:
    """The disk has next to nothing left, as long as this lasts."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - LEFT_BYTES))
    try:
        yield
    finally:
        ballast.unlink()


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and tell."""
    parser = argparse.ArgumentParser(prog="python -m ftests.soak", description=__doc__)
    parser.add_argument("--builds", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    arguments = parser.parse_args(argv)
    print(f"seed {arguments.seed}", flush=True)
    wrong: list[Any] = soak(arguments.builds, arguments.seed)
    for line in wrong or ["\nnothing is left"]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
