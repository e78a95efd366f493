"""Publishing one package into an archive that has many, beside reprepro and aptly.

The packages are Debian's, by name and control file, in .debs with nothing in them. The others are spared what they
need not do: they sign nothing, compress by gzip alone, and make no list of contents; the farm signs, compresses by xz
as well, and syncs all to the disk. `debfarm-contents` is the farm with packages that have files; `reprepro-like` is
reprepro that is asked for the same as the farm: gzip and xz, signed. What is measured begins with a .deb, which all
read by a library, and ends when clients see it. (In truth the farm has a program read .debs, when a build ends. That is
not in it, and neither is its database.) Needs Debian's packages reprepro and aptly; takes some minutes, most of them
the others' first 60,000 packages.
"""

import argparse
import gzip
import lzma
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.debs import controls, field, renamed, write_deb
from benchmarks.repositories import Aptly, Ours, OursWithContents, Repository, Reprepro, SignedReprepro
from benchmarks.table import median, ms, show

COLUMNS = ("packages", "", "ms", "CPU ms", "ratio", "first s", "MB")
NOTES = """
ms, CPU   one package, from .deb to what clients see; the medians of all rounds, in which the three take turns
ratio     how many times as long as the farm
first     all packages but those; no comparison: the farm and aptly are given all at once, reprepro one after another,
          and reprepro-like has what reprepro had
MB        the compressed list of packages, as clients fetch it
"""
KINDS: dict[str, Callable[[Path], Repository]] = {
    "debfarm": Ours,
    "debfarm-contents": OursWithContents,
    "reprepro": Reprepro,
    "reprepro-like": SignedReprepro,
    "aptly": Aptly,
}


@dataclass(frozen=True)
class Took:
    """What a publication took, in seconds."""

    wall: float
    cpu: float  # Of this process and of those that it started.


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument(
        "--packages", type=int, nargs="+", default=[2000, 20_000, 60_000], help="default: 2000 20000 60000"
    )
    parser.add_argument("--rounds", type=int, default=7, help="packages published, one by one (default: %(default)d)")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=list(KINDS), help="do without the others")
    parser.add_argument("--quick", action="store_true", help="just see that it works: 200 packages, one round")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.packages, arguments.rounds = [200], 1
    rows = []
    for number in arguments.packages:
        with tempfile.TemporaryDirectory(prefix="debfarm-publish-") as folder:
            rows += measure(Path(folder), number, arguments.rounds, arguments.only)
    show("One package published", COLUMNS, rows)
    print(NOTES)


def measure(folder: Path, number: int, rounds: int, kinds: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows of archives that have so many packages."""
    (folder / "debs").mkdir()
    (folder / "more").mkdir()
    texts = list(controls(number))
    debs = [write_deb(folder / "debs", text) for text in texts]
    # Anywhere in the index; the first is no measurement.
    more = [renamed(texts[at * number // (rounds + 1)], "-published") for at in range(rounds + 1)]
    new = [write_deb(folder / "more", text) for text in more]
    repositories = {kind: KINDS[kind](folder / kind) for kind in kinds}
    first = {kind: took(lambda kind=kind: repositories[kind].fill(debs)) for kind in kinds}  # type: ignore[misc]
    found: dict[str, list[Took]] = {kind: [] for kind in kinds}
    for deb in new:
        for kind in kinds:
            found[kind].append(took(lambda kind=kind, deb=deb: repositories[kind].publish(deb)))  # type: ignore[misc]
    wanted = {field(text, "Package") for text in (*texts, *more)}
    for kind in kinds:
        check(repositories[kind], wanted)
    walls = {kind: median([each.wall for each in found[kind][1:]]) for kind in kinds}
    return [
        (
            f"{number:,}",
            kind,
            ms(walls[kind]),
            ms(median([each.cpu for each in found[kind][1:]])),
            f"{walls[kind] / walls[kinds[0]]:.1f}",
            f"{first[kind].wall:.1f}",
            f"{repositories[kind].packages.stat().st_size / 1e6:.2f}",
        )
        for kind in kinds
    ]


def took(act: Callable[[], None]) -> Took:
    """What it took."""
    wall, cpu = time.monotonic(), _cpu()
    act()
    return Took(time.monotonic() - wall, _cpu() - cpu)


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def check(repository: Repository, wanted: set[str]) -> None:
    """See that all packages are in what clients read.

    :raises SystemExit: some are not.
    """
    content = repository.packages.read_bytes()
    plain = (lzma if repository.packages.suffix == ".xz" else gzip).decompress(content).decode()
    found = {line.removeprefix("Package: ") for line in plain.splitlines() if line.startswith("Package: ")}
    if found != wanted:
        raise SystemExit(f"{repository.packages} has {len(found)} packages, not the {len(wanted)} that were published")


if __name__ == "__main__":
    main()
