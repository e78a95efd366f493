"""The packages that a farm builds are those that sbuild alone builds: byte for byte, as reproducible packages allow.

Debian's own packages, by both package builders. DEBFARM_COMPARE="zlib bc" names others, DEBFARM_COMPARE=all is the list
in fifty_packages.txt: it takes hours, and writes a table as it goes, to DEBFARM_COMPARE_TABLE or below the place of all
tests. A package that is in the table as the same is not built again; to begin anew, remove the table.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftests.comparing import BUILDERS, SUITE, Candidate, Compared, Comparison, candidates, unwrapped
from ftests.stock_client import StockClient
from harness import BuilddTestSetup, FileServer, base_chroot
from tools.account import build_account
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import NoSource, fetch_source

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        os.geteuid() != 0, reason="the chroot is made over for sbuild, which needs root to keep its owners"
    ),
]

WANTED = os.environ.get("DEBFARM_COMPARE", "")
# A native package with a compiler, and one that is for all architectures, with patches.
PACKAGES = list(candidates()) if WANTED == "all" else WANTED.split() or ["hostname", "cowsay"]
_COLUMNS = ("package", "version", "kind", *BUILDERS, "seconds")


class Table:
    """A line each package, tabs between columns; what is the same was not always built in this run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = [line.split("\t") for line in path.read_text().splitlines()[1:]] if path.exists() else []
        self._rows = {row[0]: row for row in rows}

    def has(self, package: str) -> bool:
        """Whether it was the same."""
        return package in self._rows and all(verdict.startswith("same") for verdict in self._rows[package][3:5])

    def add(self, candidate: Candidate, compared: Compared) -> None:
        """Write the table with one more row."""
        seconds = " ".join(f"{who}={taken:.1f}" for who, taken in compared.seconds.items())
        verdicts = [compared.verdicts.get(builder, "not built") for builder in BUILDERS]
        self._rows[candidate.package] = [candidate.package, compared.version, candidate.kind, *verdicts, seconds]
        lines = ["\t".join(row) for row in ([*_COLUMNS], *(self._rows[name] for name in sorted(self._rows)))]
        self._path.write_text("\n".join([*lines, ""]))


@pytest.fixture(scope="module")
def table() -> Table | None:
    if not WANTED:
        return None
    default = Places(default_root()).make().tests / f"compared-{SUITE}.tsv"
    return Table(Path(os.environ.get("DEBFARM_COMPARE_TABLE", default)))


@pytest.fixture(scope="module")
def comparison() -> Iterator[Comparison]:
    account, places = build_account(), Places(default_root()).make()
    folder = account.make_directory(places.tests / f"same-{os.getpid()}")
    setup, files = BuilddTestSetup(), FileServer()
    setup.setUp()
    chroot = base_chroot(SUITE)
    yield Comparison(StockClient(setup.url, files), chroot, unwrapped(chroot, folder / "chroot.tar"), folder)
    setup.tearDown()
    files.close()
    account.remove_tree(folder)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_the_same_as_those_of_sbuild_alone(
    comparison: Comparison, table: Table | None, package: str
) -> None:
    """Every .deb, byte for byte; of one that sbuild does not build the same twice, all that it does."""
    if table is not None and table.has(package):
        return
    candidate = candidates().get(package, Candidate(package))
    compared = Compared("")
    try:
        dsc = fetch_source(package, SUITE, find_mirror(SUITE), Places(default_root()))
        compared = comparison.compare(candidate, dsc)
    except NoSource as exc:
        pytest.skip(f"no mirror has it: {exc}")
    except subprocess.CalledProcessError as exc:
        compared.verdicts = dict.fromkeys(BUILDERS, f"sbuild alone does not build it: {exc}")
    finally:
        if table is not None:
            table.add(candidate, compared)
    assert compared.good, compared
