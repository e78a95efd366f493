"""Tables of figures, and what is said of several of them at once."""

import statistics
from collections.abc import Sequence

OTHER_RUN = "Reference: launchpad-buildd 254, in ANOTHER run, on a machine of the same kind; only ratios compare."


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, figures to the right."""
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    print(f"\n{title}")
    for row in (columns, tuple("-" * width for width in widths), *rows):
        first, *others = zip(row, widths, strict=True)
        line = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print("  " + "  ".join(line).rstrip())


def median(figures: Sequence[float]) -> float:
    """The middle one; 0 when there is none."""
    return statistics.median(figures) if figures else 0.0


def percentile(figures: Sequence[float], share: float) -> float:
    """The smallest figure that at least this share of all do not exceed; 0 when there is none."""
    ordered = sorted(figures)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else 0.0


def ms(seconds: float) -> str:
    """A time in milliseconds, for a cell."""
    return f"{seconds * 1e3:.1f}"
