"""What a build costs beyond the run of dpkg-buildpackage, and whether that is slower than without us: by our daemon,
cold and warm, and by others; all in one run, in turns."""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.methods import Method, Place, methods
from benchmarks.runs import COMPILE, Run
from benchmarks.table import median, show
from ftests.tiny_source import tiny_source
from harness import FileServer, base_chroot
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import fetch_source

SUITE = "bookworm"
NAMES = {
    "reference": "reference-like, cold",
    "unshare": "sbuild, unshare mode",
    "schroot": "sbuild, schroot, overlay",
    "bare": "dpkg-buildpackage, bare",
    "cold": "ours, cold, sbuild",
    "cold-direct": "ours, cold, direct",
    "sbuild": "ours, warm, sbuild",
    "direct": "ours, warm, direct",
}
LIMITS_S = {"cold": 6.0, "cold-direct": 6.0, "sbuild": 2.0, "direct": 0.5}
SLOWER_MAX = 1.03  # Of the compile.
WARM = ("sbuild", "direct")
# The last one has 313 packages to install.
PACKAGES = ("hello", "htop", "galculator")
TINY = "tiny"
NOTES = f"""
s            medians: all of it, from the call build() to the answer of clean(), or from the tool's start to its end
{COMPILE}  the life of its process
overhead     all but that; and in how far from one another the rounds were
compile      {COMPILE} by its time in a plain chroot ("bare") in the same round
"reference-like" is what launchpad-buildd does, with plain tools: unpack the chroot, update and upgrade it, sbuild with
its own resolver, remove it. Its own overhead, in ANOTHER run: hello 13.7 s, htop 12.9.
"""

Rounds = dict[str, list[Run]]  # By method.


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables; 0 when all is within its limits."""
    return measure(parse(argv))


def measure(arguments: argparse.Namespace) -> int:
    """Build each package by each method in each round."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(arguments.image))
        files = FileServer()
        stack.callback(files.close)
        ways = {name: way for name, way in methods(_place(folder, files)).items() if name in arguments.methods}
        for way in ways.values():
            stack.callback(way.close)
        missed = []
        for package in arguments.packages:
            dsc = _source(package, folder)
            rounds = _rounds(dsc, ways, arguments.rounds)
            _show_stages(package, rounds)
            missed += [f"{package}: {miss}" for miss in _show_all(package, rounds)]
    print(NOTES)
    for miss in missed or ["all is within its limits"]:
        print(miss)
    return 1 if missed else 0


def _rounds(dsc: Path, ways: dict[str, Method], rounds: int) -> Rounds:
    """Have all methods build it so many times, in turns; each round begins with another one."""
    runs: Rounds = {name: [] for name in ways}
    for way in ways.values():
        way.prepare(dsc)
    for number in range(rounds):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            load = os.getloadavg()[0]
            run = ways[name].build(dsc)
            runs[name].append(run)
            print(
                f"{dsc.stem}, round {number + 1}, {NAMES[name]}: {run.total_s:.2f} s, overhead {run.overhead_s:.2f} s; "
                f"load average before it {load:.1f}",
                flush=True,
            )
    return runs


def _show_stages(package: str, rounds: Rounds) -> None:
    """Where the time goes: medians of the stages, as they came in the first round."""
    for name, runs in rounds.items():
        seconds: dict[str, list[float]] = {}
        for run in runs:
            for stage, stage_s in run.stages():
                seconds.setdefault(stage, []).append(stage_s)
        rows = [(stage, f"{median(all_s):.2f}") for stage, all_s in seconds.items()]
        show(f"{package}, {NAMES[name]}: stages", ("", "s"), rows)


def _show_all(package: str, rounds: Rounds) -> list[str]:
    """The table of a package; what is beyond its limit, in words."""
    rows, missed = [], []
    for name, runs in rounds.items():
        overheads = [run.overhead_s for run in runs]
        overhead, limit_s = median(overheads), LIMITS_S.get(name)
        slower = _slower(runs, rounds.get("bare", []))
        rows.append(
            (
                NAMES[name],
                f"{median([run.total_s for run in runs]):.2f}",
                f"{median([run.compile_s for run in runs]):.2f}",
                f"{overhead:.2f}",
                f"{min(overheads):.2f} to {max(overheads):.2f}",
                "" if limit_s is None else f"{limit_s:.1f}",
                "" if slower is None else f"{slower:.3f}",
            )
        )
        if limit_s is not None and overhead > limit_s:
            missed.append(f"{NAMES[name]}: overhead {overhead:.2f} s, wanted {limit_s} at most")
        if name in WARM and slower is not None and slower > SLOWER_MAX:
            missed.append(f"{NAMES[name]}: {COMPILE} {slower:.3f} times the bare one's, wanted {SLOWER_MAX} at most")
    show(f"{package}: in all", ("", "s", COMPILE, "overhead", "from, to", "limit", "compile"), rows)
    return missed


def _slower(runs: Sequence[Run], bare: Sequence[Run]) -> float | None:
    """By how much the compile is slower than bare, in the same round each."""
    if not bare or not runs:
        return None
    return median([one.compile_s / other.compile_s for one, other in zip(runs, bare, strict=True)])


def _place(folder: Path, files: FileServer) -> Place:
    return Place(folder, base_chroot(SUITE), SUITE, files)


def _source(package: str, folder: Path) -> Path:
    """A source package of Debian's, or one made here."""
    if package == TINY:
        return tiny_source(folder / TINY, TINY)
    return fetch_source(package, SUITE, find_mirror(SUITE), Places(default_root()))


@contextmanager
def _folder(image_gb: int) -> Iterator[Path]:
    """A new folder; on a journalled ext4 of its own, in a file, if it is to be. Only root can mount that."""
    place = Places(default_root()).make()
    with tempfile.TemporaryDirectory(prefix="overhead-", dir=place.tests, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        if not image_gb:
            yield folder
            return
        image, disk = folder / "image", folder / "disk"
        disk.mkdir()
        subprocess.run(["truncate", f"--size={image_gb}G", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        try:
            disk.chmod(0o755)
            yield disk
        finally:
            subprocess.run(["umount", disk], check=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    add = parser.add_argument
    add("--packages", nargs="+", default=PACKAGES, metavar="SOURCE", help="default: %(default)s")
    add("--methods", nargs="+", default=tuple(NAMES), choices=tuple(NAMES), metavar="METHOD", help="of %(choices)s")
    add("--rounds", type=int, default=5, help="of all methods (default: %(default)s)")
    add("--image", type=int, default=0, metavar="GB", help="build on an ext4 of this size in a file, as root only")
    add("--quick", action="store_true", help="just see that it works: a tiny package, once, by a new daemon of ours")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.packages, arguments.methods, arguments.rounds = (TINY,), ("cold",), 1
    return arguments


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        raise SystemExit(main())
