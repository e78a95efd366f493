"""Which packages of a suite have been superseded, and may leave it. Pure.

Of each name the newest version stays, on each architecture, and as many older ones as are kept. A source stays as long
as a package of it does, so that there is a source for whatever is published. Packages for all architectures are in step
with the others of their source: as long as one architecture has no newer build, those of both versions are there. Where
a newer version has no packages any more, the older ones leave when that version is built.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from debian.debian_support import Version

SOURCE = "source"  # The architecture of a source package.
ALL = "all"


@dataclass(frozen=True)
class Package:
    """A package in a suite."""

    id: int
    source: str  # What it is, or was built of.
    source_version: str
    name: str
    version: str
    architecture: str


def superseded(
    packages: Collection[Package],
    architectures: Iterable[str],
    keep: int = 0,
    needed: Set[str] = frozenset(),
    builds_on: Mapping[str, Set[str]] = MappingProxyType({}),
) -> dict[int, str]:
    """Which of these leave, by their ids, and why.

    :param packages: some packages of a suite; for each of them, those of the same name and of the same source, too.
    :param architectures: those of the suite, without "all".
    :param keep: so many older versions of each name stay.
    :param needed: names of packages that others depend on. They stay until a newer version is there, even though the
        newest version of their source does not make them any more.
    :param builds_on: by source, the architectures, "all" among them, that its newest version has packages for. Of one
        that is not there, nobody knows: it may still be built on all.
    """
    leaves: dict[int, str] = {}
    # What leaves may have been all that others stayed for.
    while more := _leaving(
        [each for each in packages if each.id not in leaves], architectures, keep, needed, builds_on
    ):
        leaves |= more
    return leaves


def _leaving(
    packages: Collection[Package],
    architectures: Iterable[str],
    keep: int,
    needed: Set[str],
    builds_on: Mapping[str, Set[str]],
) -> dict[int, str]:
    own = [each for each in packages if each.architecture != SOURCE]
    sources = [each for each in packages if each.architecture == SOURCE]
    newest, old_sources = _newest_sources(sources, keep)
    leaves = _outdated(own, sorted({*architectures, *(each.architecture for each in own)} - {ALL}), keep)
    leaves |= {
        each.id: f"{each.source} {newest[each.source]} does not make it any more"
        for each in _not_made(own, newest, old_sources, builds_on)
        if each.id not in leaves and each.name not in needed
    }
    stay = {_of(each) for each in own if each.architecture != ALL and each.id not in leaves}
    in_step = {each.id for each in own if each.architecture == ALL and _of(each) in stay}
    leaves = {id: why for id, why in leaves.items() if id not in in_step}
    stay |= {_of(each) for each in own if each.id not in leaves}
    for each in sources:
        if _of(each) in old_sources and _of(each) not in stay:
            leaves[each.id] = _took_its_place(each.name, newest[each.name])
    return leaves


def _of(package: Package) -> tuple[str, str]:
    """Of which source it is."""
    return package.source, package.source_version


def _newest_sources(sources: Iterable[Package], keep: int) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """The newest version of each source; and those that are so old that they need not stay."""
    newest, old = {}, set()
    for name, versions in _versions(sources).items():
        newest[name] = versions[0]
        old |= {(name, version) for version in versions[keep + 1 :]}
    return newest, old


def _outdated(binaries: Collection[Package], architectures: Iterable[str], keep: int) -> dict[int, str]:
    """Those of which there are enough newer versions, on each architecture where they are."""
    fresh: set[int] = set()
    newest: dict[int, str] = {}
    for architecture in architectures:
        here = [each for each in binaries if each.architecture in (architecture, ALL)]
        versions = _versions(here)
        for each in here:
            newest[each.id] = versions[each.name][0]
            if each.version in versions[each.name][: keep + 1]:
                fresh.add(each.id)
    return {
        each.id: _took_its_place(each.name, newest[each.id])
        for each in binaries
        if each.id not in fresh and each.id in newest
    }


def _not_made(
    binaries: Collection[Package],
    newest: Mapping[str, str],
    old_sources: Set[tuple[str, str]],
    builds_on: Mapping[str, Set[str]],
) -> list[Package]:
    """Those of old sources that the newest version of their source, once it is built there, does not make. Where it is
    not to be built at all that is so once it is built wherever there were packages of it."""
    made: dict[str, set[str]] = defaultdict(set)  # Architectures that have packages of a source,
    made_newest: dict[str, set[str]] = defaultdict(set)  # and of its newest version.
    names: set[tuple[str, str]] = set()  # What that makes anywhere.
    for each in binaries:
        made[each.source].add(each.architecture)
        if newest.get(each.source) == each.source_version:
            made_newest[each.source].add(each.architecture)
            names.add((each.source, each.name))

    def is_for(source: str, architecture: str) -> bool:
        return source not in builds_on or architecture in builds_on[source]

    def is_built(source: str, architecture: str) -> bool:
        there = made_newest[source]
        before = {each for each in made[source] - {ALL} if is_for(source, each)}
        everywhere = bool(there) and before <= there
        return architecture in there or (everywhere and (architecture == ALL or not is_for(source, architecture)))

    def is_made(each: Package) -> bool:
        return (each.source, each.name) in names and (
            each.architecture == ALL or is_for(each.source, each.architecture)
        )

    return [
        each
        for each in binaries
        if _of(each) in old_sources and not is_made(each) and is_built(each.source, each.architecture)
    ]


def _versions(packages: Iterable[Package]) -> dict[str, list[str]]:
    """The versions of each name, the newest first."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in packages:
        found[each.name].add(each.version)
    return {name: sorted(versions, key=_parsed, reverse=True) for name, versions in found.items()}


@cache
def _parsed(version: str) -> Version:
    return Version(version)


def _took_its_place(name: str, version: str) -> str:
    return f"{name} {version} took its place"
