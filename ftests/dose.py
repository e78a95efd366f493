"""Debian's sources judged twice: by the master, and by dose-builddebcheck, which solves the same question on its own.

The archive of a stable release is in order, so nearly all of its sources can be built, and whoever said yes to each
would be right. So they are judged by an archive with holes as well, some of whose packages are gone, and others older.
"""

import re
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apt_pkg

from buildd.relations import build_conflicts_of, build_depends_of, is_for
from buildmaster.available import FIELDS, prepared
from buildmaster.dependencies import Packages
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import PrivateApt

SUITE, ARCHITECTURE = "bookworm", "amd64"

# Sources on which the two do not agree, each with the reason; only of these may they differ.
EXPLAINED: dict[str, str] = {}

# Packages that no build needs as such: those that an archive with holes may lack.
_DISPENSABLE = re.compile(rb"(?:python3-|node-|ruby-|golang-|libghc-|librust-|libjs-|libx|libq|texlive-|r-cran-).*")


@dataclass(frozen=True)
class Source:
    """A source package that is to be built."""

    name: str
    version: str
    stanza: str

    def field(self, name: str) -> str:
        found = apt_pkg.TagSection(self.stanza).get(name)
        return str(found) if found is not None else ""


@dataclass(frozen=True)
class Judged:
    """The sources that cannot be built, each with the reason, and how long that took."""

    broken: dict[str, str]  # NAME_VERSION to the reason.
    loaded_s: float
    seconds: float


def debian() -> tuple[bytes, list[Source]]:
    """What apt has of the suite's binary packages, and its sources; fetched where that is not known yet.

    :raises NoSource: the mirror does not answer.
    """
    apt = PrivateApt(Places(default_root()).apt / f"{SUITE}-both", find_mirror(SUITE), SUITE, ("deb", "deb-src"))
    lists = apt.lists()
    available = subprocess.check_output(["apt-cache", "dumpavail"], env=apt.environment)
    (path,) = lists.glob("*_source_Sources*")
    with tempfile.TemporaryFile() as file:
        subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], env=apt.environment, check=True, stdout=file)
        file.seek(0)
        stanzas = [(section["Package"], section["Version"], str(section)) for section in apt_pkg.TagFile(file)]
    sources = [Source(*each) for each in stanzas]
    return _reduced(available), [source for source in sources if _is_to_be_built(source)]


def _reduced(available: bytes) -> bytes:
    """Without what the master does not look at."""
    kept = re.compile(rf"^(?!(?:{'|'.join(FIELDS)}):).+\n?".encode(), re.MULTILINE)
    return kept.sub(b"", available)


def _is_to_be_built(source: Source) -> bool:
    """Whether it is for this architecture, and not kept only for what others were built with."""
    extra = source.field("Extra-Source-Only") == "yes"
    return not extra and is_for(ARCHITECTURE, source.field("Architecture").split(), True)


def with_holes(available: bytes) -> bytes:
    """The same archive, in which every 23rd of the packages that can be spared is gone, and every 23rd is too old."""
    return b"\n\n".join([*filter(None, map(_perhaps, available.split(b"\n\n"))), b""])


def _perhaps(stanza: bytes) -> bytes:
    name = stanza.partition(b"\n")[0].removeprefix(b"Package: ")
    if not _DISPENSABLE.fullmatch(name):
        return stanza
    match zlib.crc32(name) % 23:
        case 7:
            return b""
        case 8:
            return re.sub(rb"\nVersion: .*", b"\nVersion: 0", stanza, count=1)
    return stanza


def ours(available: bytes, sources: Iterable[Source]) -> Judged:
    """The master's judgement."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        file.write(prepared(available, ARCHITECTURE))
        file.seek(0)
        packages = Packages(file, ARCHITECTURE)
    loaded, broken = time.perf_counter(), {}
    for source in sources:
        indep = "all" in source.field("Architecture").split()
        wanted = build_depends_of(source.field, ARCHITECTURE, frozenset(), indep)
        lack = packages.lack(wanted, build_conflicts_of(source.field, ARCHITECTURE, frozenset(), indep))
        if lack is not None:
            broken[f"{source.name}_{source.version}"] = lack.reason
    return Judged(broken, loaded - began, time.perf_counter() - loaded)


def doses(available: bytes, sources: Iterable[Source]) -> Judged:
    """dose-builddebcheck's judgement."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        packages, listed = Path(folder, "Packages"), Path(folder, "Sources")
        packages.write_bytes(available)
        listed.write_text("\n".join(source.stanza for source in sources))
        said = subprocess.run(
            [
                *("dose-builddebcheck", "--quiet", "--failures", "--explain", "--deb-emulate-sbuild"),
                *(f"--deb-native-arch={ARCHITECTURE}", str(packages), str(listed)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=False,  # It fails when a source does.
        ).stdout
    if not re.search(r"^source-packages: \d", said, re.MULTILINE):
        raise RuntimeError(f"dose-builddebcheck did not end well: {said[-2000:]}")
    found = re.findall(r"^ -\n  package: (\S+)\n  version: (\S+)\n((?:   ?.*\n)*)", said, re.MULTILINE)
    broken = {f"{name}_{version}": " ".join(rest.split()) for name, version, rest in found}
    return Judged(broken, 0.0, time.perf_counter() - began)


def differences(first: Judged, second: Judged) -> dict[str, str]:
    """The sources on which they do not agree, without those that are EXPLAINED, and what was said of each."""
    both = {**second.broken, **first.broken}
    unlike = first.broken.keys() ^ second.broken.keys()
    return {source: both[source] for source in sorted(unlike) if source.partition("_")[0] not in EXPLAINED}


def every(sources: Sequence[Source], wanted: int) -> list[Source]:
    """So many of them, evenly spread: always the same, as long as the suite is."""
    return list(sources[:: max(1, len(sources) // wanted)][:wanted])
