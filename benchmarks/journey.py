"""How long it takes from an upload to an installed package, beside the build itself: with many packages in the archive.

The packages that are there already have names and control files of Debian's, and files with next to nothing in them;
they come into the archive as others do, but for their uploads and their builds.
"""

import argparse
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from benchmarks.debs import controls, field, renamed
from benchmarks.table import median, show
from buildd.protocol import FileName
from buildmaster import entering
from buildmaster.binaries import Deb
from buildmaster.farm import Farm
from buildmaster.store import StoredFile
from ftests.journey import Client, PublishingFarm
from ftests.tiny_source import tiny_source
from harness import base_chroot

SUITE = "bookworm"
START_S, INSTALLABLE_S, BEYOND_S = 3.0, 3.0, 5.0
NOTES = """
upload to start      from dput's start to the builder's: what is built by then was judged by its build-dependencies
end to installable   from the end on the builder, its results fetched, to the end of `apt-get update` that finds it
beyond the build     all from dput's start to the end of `apt-get install`, but for what the builder had it
"""
FILLER = "filler"
_NOT_OURS = re.compile(r"^(?:Essential|Important|Protected|Provides|Source):.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Journey:
    """One upload's; seconds."""

    start: float
    build: float
    installable: float
    beyond: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the table; 0 when all is within its limits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--packages", type=int, default=10_000, help="in the archive before [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--quick", action="store_true", help="see that it works")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.packages, arguments.rounds = 50, 1
    farm = PublishingFarm(SUITE)
    farm.setUp()
    client = Client(base_chroot(SUITE))
    try:
        fill(farm, arguments.packages)
        client.use(farm.url, SUITE)
        client.run("apt-get", "update")
        journey(farm, client, "warm")  # What is read once: the chroot, Debian's lists.
        journeys = [journey(farm, client, f"traveller-{number}") for number in range(arguments.rounds)]
    finally:
        client.close()
        farm.tearDown()
    return tell(journeys, arguments.packages)


def tell(journeys: Sequence[Journey], packages: int) -> int:
    """Print the table."""
    limits = {"start": START_S, "build": None, "installable": INSTALLABLE_S, "beyond": BEYOND_S}
    words = {
        "start": "upload to start",
        "build": "the build",
        "installable": "end to installable",
        "beyond": "beyond the build",
    }
    rows, worse = [], False
    for name, limit in limits.items():
        figures = [getattr(each, name) for each in journeys]
        worse |= limit is not None and median(figures) > limit
        told = (median(figures), min(figures), max(figures))
        rows.append((words[name], *(f"{figure:.2f}" for figure in told), "" if limit is None else f"{limit:g}"))
    title = f"From upload to installation, with {packages} packages in the archive (s, {len(journeys)} rounds)"
    show(title, ("", "median", "least", "most", "limit"), rows)
    print(NOTES)
    return int(worse)


def journey(farm: PublishingFarm, client: Client, name: str) -> Journey:
    """Upload a package, and install it as soon as it is there."""
    folder = Path(tempfile.mkdtemp(prefix="journey-"))
    try:
        changes = farm.sign(tiny_source(folder, name))
        began = time.time()
        farm.dput(changes)
        started, ended = _span(farm, name)
        while True:
            client.run("apt-get", "update")
            if client.run("apt-cache", "policy", name):
                break
        installable = time.time()
        client.run("apt-get", "install", "-y", name)
        installed = time.time()
    finally:
        shutil.rmtree(folder)
    build = ended - started
    return Journey(started - began, build, installable - ended, installed - began - build)


def _span(farm: PublishingFarm, name: str) -> tuple[float, float]:
    """When a builder was given the build of a source, and when that had ended; waits for it."""
    opened = Farm.open(farm.master.directory)
    try:
        while True:
            with opened.reading() as connection:
                row = connection.exec_driver_sql(
                    "SELECT started_at, finished_at FROM build JOIN source ON source.id = source_id WHERE name = ?",
                    (name,),
                ).first()
            if row is not None and row.finished_at is not None:
                return float(row.started_at), float(row.finished_at)
            time.sleep(0.005)
    finally:
        opened.close()


# What is there before


def fill(farm: PublishingFarm, number: int) -> None:
    """Have so many packages in the archive, and wait until they are published."""
    folder = Path(tempfile.mkdtemp(prefix="filler-"))
    try:
        source = farm.upload(tiny_source(folder, FILLER))
    finally:
        shutil.rmtree(folder)
    built = farm.wait_for(source)
    assert built["state"] == "built", built
    opened = Farm.open(farm.master.directory)
    try:
        with opened.reading() as connection:
            source_id = int(connection.exec_driver_sql("SELECT id FROM source").scalar_one())
        debs = list(_debs(opened, controls(number)))
        for begin in range(0, number, 1000):
            opened.write(_publish, source_id, debs[begin : begin + 1000])
        farm.wait_for_package(debs[-1].name, debs[-1].version, timeout_s=600.0)
    finally:
        opened.close()


def _publish(connection: Connection, source_id: int, debs: Sequence[Deb]) -> None:
    entering.add_binaries(connection, source_id, None, debs, time.time())


def _debs(farm: Farm, texts: Iterable[str]) -> Iterable[Deb]:
    """What Debian's packages say of themselves, of files with their names in them: called otherwise, so that nobody
    installs them, and by no other name either."""
    for original in texts:
        text = _NOT_OURS.sub("", renamed(original, "-before"))
        name, version, architecture = (field(text, each) for each in ("Package", "Version", "Architecture"))
        file_name = FileName(f"{name}_{version.partition(':')[2] or version}_{architecture}.deb")
        stored: StoredFile = farm.store.add([file_name.encode()])
        yield Deb(name, version, architecture, FILLER, "1.0", "misc", False, text, file_name, stored, None)


if __name__ == "__main__":
    raise SystemExit(main())
