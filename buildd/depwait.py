"""Which build-dependencies keep a package from being built. Pure.

The answer comes first from what the archives have, compared with what the source asks for. Only when every direct
dependency is there is apt's explanation read, for the ones further down that are missing.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from debian.debian_support import Version

from buildd.control import ControlError
from buildd.relations import Alternatives, Relation, parse_relations, show_relations

# Package name to the versions there are of it; None: provided without a version (Debian Policy 7.5).
Available = Mapping[str, frozenset[str | None]]

# " libfoo-dev : Depends: libbar (>= 2) but it is not installable", or "... but 1.1 is to be installed".
_APT_UNMET = re.compile(
    r"(?:Pre-)?Depends: (\S+(?: \([<>=]+ [^)\s]+\))?) but (?:it is not installable|\S+ is to be installed)"
)
_EXPLANATION_MAX = 1 << 20
COMPLETE = "debfarm: that is all"  # The last line of the list of what apt has.


class IncompleteList(Exception):
    """The list of what apt has breaks off: what is not in it may be there all the same."""


def parse_available(text: str) -> Available:
    """Names and versions, provided ones included, from the lines Package, Version and Provides of what apt has.

    There are 60,000 such stanzas in Debian, so they come reduced to these one-line fields (apt.DUMP_AVAILABLE). A
    version that dpkg would refuse satisfies nothing.

    :raises IncompleteList: COMPLETE is not its last line.
    """
    *lines, last, rest = ["", *text.split("\n")]
    if last != COMPLETE or rest:
        raise IncompleteList
    found: defaultdict[str, set[str | None]] = defaultdict(set)
    package = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "Package":
            package = value.strip()
        elif field == "Version" and _is_version(value.strip()):
            found[package].add(value.strip())
        elif field == "Provides":
            for clause in value.split(","):
                name, _, version = clause.strip().partition(" ")
                version = version.strip("()= ")
                if not version or _is_version(version):
                    found[name].add(version or None)
    return {name: frozenset(versions) for name, versions in found.items()}


def missing(wanted: Iterable[Alternatives], available: Available) -> str:
    """Those of `wanted` that nothing satisfies, as a relationship field: versions kept, qualifiers stripped."""
    unmet = [
        tuple(relation.without_qualifier() for relation in alternatives)
        for alternatives in wanted
        if not any(_is_there(relation, available) for relation in alternatives)
    ]
    return show_relations(dict.fromkeys(unmet))


def missing_further_down(explanation: str, available: Available) -> str:
    """What apt's explanation names as missing and the archives do not have, as a relationship field.

    A dependency that is there but conflicts with another is left out: no publication of a package by that name is
    bound to help.
    """
    found: dict[Alternatives, None] = {}
    for match in _APT_UNMET.finditer(explanation[:_EXPLANATION_MAX]):
        try:
            clauses = parse_relations(match.group(1))
        except ControlError:
            continue
        for clause in clauses:
            if not any(_is_there(relation, available) for relation in clause):
                found[tuple(relation.without_qualifier() for relation in clause)] = None
    return show_relations(found)


def _is_there(relation: Relation, available: Available) -> bool:
    versions = available.get(relation.package, frozenset())
    if not relation.operator:
        return bool(versions)
    return any(version is not None and relation.takes(version) for version in versions)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except ValueError:
        return False
    return True
