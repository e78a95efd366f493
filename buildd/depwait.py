"""Which build-dependencies keep a package from being built. Pure.

The answer comes first from what the archives have, compared with what the source asks for. Only when every direct
dependency is there is apt's explanation read, for the ones further down that are missing.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from debian.debian_support import Version

from buildd.control import ControlError
from buildd.relations import Alternatives, Relation, parse_relations, show_relations

_Versions = frozenset[str | None]  # None: provided without a version (Debian Policy 7.5).
_WHICHEVER = ""  # In place of an architecture: what is good for each.

# " libfoo-dev : Depends: libbar (>= 2) but it is not installable", or "... but 1.1 is to be installed".
_APT_UNMET = re.compile(
    r"(?:Pre-)?Depends: (\S+(?: \([<>=]+ [^)\s]+\))?) but (?:it is not installable|\S+ is to be installed)"
)
_EXPLANATION_MAX = 1 << 20
_STANZA = re.compile(r"(?:.+\n)+")
FIELDS = "Package|Version|Architecture|Multi-Arch|Provides"  # Of what apt has, those that are looked at.
COMPLETE = "debfarm: that is all"  # The last line of the list of what apt has.


class IncompleteList(Exception):
    """The list of what apt has breaks off: what is not in it may be there all the same."""


@dataclass(frozen=True)
class Available:
    """What the archives have of some packages."""

    native: str  # The architecture of the chroot.
    versions: Mapping[str, Mapping[str, _Versions]]  # By the name of a package, and what architecture it is good for.

    def satisfies(self, relation: Relation, architecture: str) -> bool:
        """Whether there is something for a relation.

        :param architecture: what it means where it has no qualifier.
        """
        versions = self._good_for(relation, architecture)
        if not relation.operator:
            return bool(versions)
        return any(version is not None and relation.takes(version) for version in versions)

    def _good_for(self, relation: Relation, architecture: str) -> _Versions:
        found = self.versions.get(relation.package, {})
        if relation.qualifier == "any":
            return frozenset().union(*found.values())
        wanted = {"": architecture, "native": self.native}.get(relation.qualifier, relation.qualifier)
        return found.get(wanted, frozenset()) | found.get(_WHICHEVER, frozenset())


def asked_for(wanted: Iterable[Alternatives], explanation: str) -> frozenset[str]:
    """The packages that have to be looked for, to tell what is missing of what is wanted or of what apt explains."""
    clauses = (*wanted, *_unmet(explanation))
    return frozenset(relation.package for clause in clauses for relation in clause)


def parse_available(text: str, native: str, names: Container[str]) -> Available:
    """What apt has of some packages, provided ones included, from the lines of FIELDS.

    There are 60,000 such stanzas in Debian, so they come reduced to these one-line fields (apt.DUMP_AVAILABLE). A
    version that dpkg would refuse satisfies nothing. A package for all architectures is one of the chroot's to apt,
    unless it is Multi-Arch: foreign, as then packages of any other architecture are good for all, too.

    :param native: the architecture of the chroot.
    :param names: the packages that will be asked about; all others are passed over, which saves some 50 MB.
    :raises IncompleteList: COMPLETE is not its last line.
    """
    if text != f"{COMPLETE}\n" and not text.endswith(f"\n{COMPLETE}\n"):
        raise IncompleteList
    found: defaultdict[str, defaultdict[str, set[str | None]]] = defaultdict(lambda: defaultdict(set))
    for stanza in _stanzas(text):
        architecture = stanza.get("Architecture", "all")
        if stanza.get("Multi-Arch") == "foreign":
            architecture = _WHICHEVER
        elif architecture == "all":
            architecture = native
        for name, version in _names(stanza, names):
            found[name][architecture].add(version)
    return Available(native, {name: {a: frozenset(v) for a, v in each.items()} for name, each in found.items()})


def missing(wanted: Iterable[Alternatives], available: Available, architecture: str) -> str:
    """Those of `wanted` that nothing satisfies, as a relationship field: versions kept, qualifiers stripped.

    :param architecture: what is built for.
    """
    unmet = [
        tuple(relation.without_qualifier() for relation in alternatives)
        for alternatives in wanted
        if not any(available.satisfies(relation, architecture) for relation in alternatives)
    ]
    return show_relations(dict.fromkeys(unmet))


def missing_further_down(explanation: str, available: Available) -> str:
    """What apt's explanation names as missing and the archives do not have, as a relationship field.

    A dependency that is there but conflicts with another is left out: no publication of a package by that name is
    bound to help. apt writes the architecture behind each name that is not of the chroot's.
    """
    found: dict[Alternatives, None] = {}
    for clause in _unmet(explanation):
        if not any(available.satisfies(relation, available.native) for relation in clause):
            found[tuple(relation.without_qualifier() for relation in clause)] = None
    return show_relations(found)


def _unmet(explanation: str) -> Iterator[Alternatives]:
    for match in _APT_UNMET.finditer(explanation[:_EXPLANATION_MAX]):
        with contextlib.suppress(ControlError):
            yield from parse_relations(match.group(1))


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    """Field to value of each, one at a time."""
    for stanza in _STANZA.finditer(text):
        lines = (line.partition(": ") for line in stanza.group().split("\n"))
        yield {field: value.strip() for field, _, value in lines}


def _names(stanza: Mapping[str, str], names: Container[str]) -> Iterator[tuple[str, str | None]]:
    """What can be asked for, of these names, to get this package, with its versions."""
    if stanza.get("Package", "") in names and _is_version(stanza.get("Version", "")):
        yield stanza["Package"], stanza["Version"]
    for clause in filter(None, stanza.get("Provides", "").split(",")):
        name, _, version = clause.strip().partition(" ")
        version = version.strip("()= ")
        if name in names and (not version or _is_version(version)):
            yield name, version or None


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except ValueError:
        return False
    return True
