"""How long a reactor keeps others waiting while, beside it, an archive is published again and again.

As a master does, a thread of the same process publishes one package into an archive that has many, with files in its
packages, once a second. What is measured is how late a timer of the reactor is; beside it, how late it is when nothing
is published.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from benchmarks.debs import controls, renamed, write_deb
from benchmarks.probed_master import Probe, Prober
from benchmarks.repositories import Ours, OursWithContents
from benchmarks.table import median, ms, show

TARGET_S = 0.05
COLUMNS = ("", "publications", "ms", "delay p50 ms", "p99 ms", "max ms", "processor")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish_delay", description=__doc__)
    parser.add_argument("--packages", type=int, default=20_000, help="in the archive (default: %(default)d)")
    parser.add_argument("--seconds", type=int, default=60, help="of each of the two (default: %(default)d)")
    parser.add_argument("--without-contents", action="store_true", help="packages have no files")
    parser.add_argument("--quick", action="store_true", help="just see that it works: 200 packages, two seconds")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.packages, arguments.seconds = 200, 2
    with tempfile.TemporaryDirectory(prefix="debfarm-publish-") as name:
        folder = Path(name)
        (folder / "debs").mkdir()
        texts = list(controls(arguments.packages))
        archive = (Ours if arguments.without_contents else OursWithContents)(folder / "archive")
        archive.fill([write_deb(folder / "debs", text) for text in texts])
        more = [renamed(texts[at % len(texts)], f"-published{at}") for at in range(arguments.seconds)]
        new = [write_deb(folder / "debs", text) for text in more]
        archive.publish(write_deb(folder / "debs", renamed(texts[0], "-first")))
        rows = measure(archive, new)
    show(f"{arguments.packages:,} packages", COLUMNS, rows)


def measure(archive: Ours, new: Sequence[Path]) -> list[tuple[str, ...]]:
    """The rows of as many seconds without publications as with them."""
    rows: list[tuple[str, ...]] = []
    failed: list[BaseException] = []

    async def run() -> None:
        prober = Prober()
        await deferLater(reactor, len(new))
        rows.append(row("nothing published", [], prober.end()))
        prober.begin()
        took = [await published(archive, deb) for deb in new]
        rows.append(row("published", took, prober.end()))

    def ended(outcome: Any) -> None:
        if outcome is not None:
            failed.append(outcome.value)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addBoth(ended))
    reactor.run()
    if failed:
        raise failed[0]
    return rows


async def published(archive: Ours, deb: Path) -> float:
    """How long it took to publish a package; a second is over then, at least."""
    began = time.monotonic()
    await deferToThread(archive.publish, deb)
    took = time.monotonic() - began
    await deferLater(reactor, max(0.0, 1 - took))
    return took


def row(words: str, took: Sequence[float], probe: Probe) -> tuple[str, ...]:
    delays = (probe.delay_p50_s, probe.delay_p99_s, probe.delay_max_s)
    cells = (str(len(took)), ms(median(took)), *map(ms, delays), f"{probe.cpu_s / probe.seconds:.0%}")
    return (words, *cells)


if __name__ == "__main__":
    main()
