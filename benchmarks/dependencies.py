"""Looking at build-dependencies: how many sources a second, beside dose-builddebcheck, and whether the two agree.

All of bookworm's main, in the archive as it is and in one with holes (see ftests/dose.py). Takes some minutes, most of
them dose's.
"""

import argparse
import resource
from collections.abc import Sequence

from benchmarks.table import show
from ftests import dose

COLUMNS = ("", "load s", "sources/s", "broken", "only it says so")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, metavar="N", help="so many of them, evenly spread; without it, all")
    wanted = parser.parse_args(argv).sources
    available, sources = dose.debian()
    sources = dose.every(sources, wanted) if wanted else sources
    for title, packages in (("as it is", available), ("with holes", dose.with_holes(available))):
        ours = dose.ours(packages, sources)
        doses = dose.doses(packages, sources)
        rows = [
            ("buildmaster", f"{ours.loaded_s:.2f}", f"{len(sources) / ours.seconds:,.0f}", *_broken(ours, doses)),
            ("dose-builddebcheck", "", f"{len(sources) / doses.seconds:,.0f}", *_broken(doses, ours)),
        ]
        show(f"{len(sources):,} sources of {dose.SUITE}, {dose.ARCHITECTURE}; the archive {title}", COLUMNS, rows)
        for source, reason in dose.differences(ours, doses).items():
            print(f"  not explained: {source}: {reason}")
    for name, reason in dose.EXPLAINED.items():
        print(f"  explained: {name}: {reason}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  memory: at most {peak:,.0f} MB, with all sources and two archives in it; dose's time includes loading")


def _broken(one: dose.Judged, other: dose.Judged) -> tuple[str, str]:
    """How many sources cannot be built, and how many of them the other takes for good."""
    return f"{len(one.broken):,}", f"{len(one.broken.keys() - other.broken.keys()):,}"


if __name__ == "__main__":
    main()
