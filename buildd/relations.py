"""Debian relationship fields (Debian Policy 7.1): parsed, reduced to what applies to one build, and compared.

Pure, over python-debian's parser and version order. The reductions are those that sbuild makes before it asks apt
(sbuild(1), $resolve_alternatives): restrictions to other architectures and build profiles fall away, and of
alternatives the first stays, with those directly after it that name the same package.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

from debian.deb822 import PkgRelation
from debian.debian_support import DpkgArchTable, Version

from buildd.control import ControlError

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)
_FIELD_MAX = 1 << 16  # The longest Build-Depends in Debian has 10 kB.
_ALTERNATIVE_MAX = 2000


@dataclass(frozen=True)
class Relation:
    """One alternative: a package, perhaps with a version, such as `libfoo-dev:any (>= 1.2)`."""

    package: str
    qualifier: str = ""  # any, native or an architecture.
    operator: str = ""  # <<, <=, =, >= or >>; "" when any version will do.
    version: str = ""

    def __str__(self) -> str:
        name = f"{self.package}:{self.qualifier}" if self.qualifier else self.package
        return f"{name} ({self.operator} {self.version})" if self.operator else name

    def without_qualifier(self) -> "Relation":
        """The same relation, of whichever architecture."""
        return replace(self, qualifier="")

    def takes(self, version: str) -> bool:
        """Whether a package of this version satisfies the relation."""
        if not self.operator:
            return True
        have, want = Version(version), Version(self.version)
        return {
            "<<": have < want,
            "<=": have <= want,
            "=": have == want,
            ">=": have >= want,
            ">>": have > want,
        }[self.operator]


Alternatives = tuple[Relation, ...]  # Any one of them will do.


def parse_relations(
    text: str, architecture: str = "", profiles: frozenset[str] = frozenset()
) -> tuple[Alternatives, ...]:
    """Parse a build relationship field and keep what applies.

    :param architecture: what is built for; decides `[linux-any !amd64]`. Without one, no such restriction is allowed.
    :param profiles: the active build profiles; decide `<!nocheck>`.
    :raises ControlError: it is not a relationship.
    """
    if len(text) > _FIELD_MAX:
        raise ControlError(f"a relationship field of {len(text)} characters is too long")
    clauses = []
    for clause in filter(None, (part.strip() for part in " ".join(text.split()).split(","))):
        alternatives = tuple(filter(None, (_parse_one(one, architecture, profiles) for one in clause.split("|"))))
        if alternatives:
            clauses.append(alternatives)
    return tuple(clauses)


def first_alternatives(clauses: Iterable[Alternatives]) -> tuple[Alternatives, ...]:
    """Keep of each clause the first alternative and those directly after it that name the same package."""
    kept = []
    for clause in clauses:
        same = 1
        while same < len(clause) and clause[same].package == clause[0].package:
            same += 1
        kept.append(clause[:same])
    return tuple(kept)


def build_depends_of(
    field: Callable[[str], str], architecture: str, profiles: frozenset[str], arch_indep: bool
) -> tuple[Alternatives, ...]:
    """What a source needs to be built, reduced as sbuild reduces it (Debian Policy 7.7).

    :param field: a field of the .dsc, by its name; "" when it is absent.
    :param arch_indep: packages for all architectures are built, too.
    :raises ControlError: one of the fields is not a relationship.
    """
    return first_alternatives(_applicable(field, "Build-Depends", architecture, profiles, arch_indep))


def build_conflicts_of(
    field: Callable[[str], str], architecture: str, profiles: frozenset[str], arch_indep: bool
) -> tuple[Alternatives, ...]:
    """What must not be installed while a source is built; see :func:`build_depends_of`."""
    return _applicable(field, "Build-Conflicts", architecture, profiles, arch_indep)


def _applicable(
    field: Callable[[str], str], name: str, architecture: str, profiles: frozenset[str], arch_indep: bool
) -> tuple[Alternatives, ...]:
    """A field and its -Arch and -Indep forms, as far as they apply."""
    names = [name, f"{name}-Arch", *([f"{name}-Indep"] if arch_indep else [])]
    return tuple(clause for one in names for clause in parse_relations(field(one), architecture, profiles))


def show_relations(clauses: Iterable[Alternatives]) -> str:
    """The clauses as a relationship field has them."""
    return ", ".join(" | ".join(map(str, clause)) for clause in clauses)


def is_for(architecture: str, wanted: Iterable[str], arch_indep: bool) -> bool:
    """Whether packages for an architecture can be made of a source.

    :param wanted: the .dsc's Architecture (Debian Policy 5.6.8); none means any.
    :param arch_indep: packages for all architectures are wanted, too.
    """
    names = tuple(wanted)
    return (
        not names
        or any(_arch_table().matches_architecture(architecture, name) for name in names if name != "all")
        or (arch_indep and "all" in names)
    )


def _parse_one(text: str, architecture: str, profiles: frozenset[str]) -> Relation | None:
    """One alternative; None when it does not apply to this architecture or these profiles."""
    # python-debian writes what it cannot parse to the program's log, whole.
    parsed = PkgRelation.parse_relations(text.strip()) if len(text) <= _ALTERNATIVE_MAX else []
    if len(parsed) != 1 or len(parsed[0]) != 1 or not _NAME.fullmatch(parsed[0][0]["name"]):
        raise ControlError(f"not a package relationship: {text.strip()[:80]!r}")
    found = parsed[0][0]
    if found["arch"] and not architecture:
        raise ControlError(f"not for all architectures: {text.strip()[:80]!r}")
    if found["arch"] and not _applies_to(architecture, found["arch"]):
        return None
    if found["restrictions"] and not _profiles_apply(profiles, found["restrictions"]):
        return None
    operator, version = found["version"] or ("", "")
    operator = {"<": "<=", ">": ">="}.get(operator, operator)  # Policy 7.1: the old spellings include equality.
    if operator:
        try:
            Version(version)
        except ValueError as exc:
            raise ControlError(f"not a version: {version[:80]!r} in {text.strip()[:80]!r}") from exc
    return Relation(found["name"], found["archqual"] or "", operator, version)


def _applies_to(architecture: str, restrictions: Iterable[PkgRelation.ArchRestriction]) -> bool:
    """`[a b]`: any of them; `[!a !b]`: none of them."""
    matches = [(enabled, _arch_table().matches_architecture(architecture, name)) for enabled, name in restrictions]
    if any(enabled for enabled, _ in matches):
        return any(enabled and hit for enabled, hit in matches)
    return not any(hit for _, hit in matches)


def _profiles_apply(profiles: frozenset[str], formula: Iterable[Iterable[PkgRelation.BuildRestriction]]) -> bool:
    """`<a !b> <c>`: one of the lists holds, and a list holds when every term of it does."""
    return any(all((name in profiles) == enabled for enabled, name in terms) for terms in formula)


@cache
def _arch_table() -> DpkgArchTable:
    return DpkgArchTable.load_arch_table()
