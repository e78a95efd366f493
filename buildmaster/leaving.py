"""Which packages leave a suite because they were superseded, as queries; and which stay, since others depend on them.

What belongs to the changes of a suite is looked at, and not all of the suite. So of a package that stays for others one
of these is written down: when that one leaves, it is looked at again.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from debian.deb822 import Deb822, PkgRelation
from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, or_, select

from buildmaster import domination, publications, rows
from buildmaster.architectures import matches
from buildmaster.domination import Package
from buildmaster.publications import LISTED, STATE_OF_FOUND, Publication, State, Suite
from buildmaster.tables import binary, publication, source

_MENTIONS_MAX = 200  # SQLite takes no more than 1,000 conditions that are joined by OR.
_RELATIONS = ("Depends", "Pre-Depends")


@dataclass(frozen=True)
class Dependant:
    """A package that depends on another one."""

    id: int
    name: str


@dataclass(frozen=True)
class Kept:
    """That a package stays though it was superseded."""

    for_id: int | None  # The publication of a package that depends on it. None: it does not.
    reason: str  # In words.


NOT_KEPT = Kept(None, "")


@dataclass(frozen=True)
class Verdict:
    """What becomes of the packages that changes concern."""

    changes: list[Publication]  # With all that is to enter of what belongs to them.
    related: list[Publication]  # All that is listed of it, and of what stayed for something that leaves now.
    leaves: Mapping[int, str]  # What of that was superseded, by its id, and why.
    kept: Mapping[int, Kept]  # What stays although it was, by its id, since something that stays depends on it.


@dataclass(frozen=True)
class Terms:
    """By what is judged what leaves a suite."""

    suite: Suite
    architectures: Collection[str]
    keep: int  # So many older versions of each name stay.


@dataclass(frozen=True)
class _Related:
    """What changes concern, and what would leave of it if nothing was needed by others."""

    listed: list[Publication]
    packages: list[Package]  # The same, as domination takes them.
    builds_on: Mapping[str, frozenset[str]]
    alone: Mapping[int, str]

    @classmethod
    def of(cls, connection: Connection, terms: Terms, listed: list[Publication]) -> "_Related":
        """See what is to be seen of these packages."""
        packages = [
            Package(each.id, each.source, each.source_version, each.name, each.version, each.architecture)
            for each in listed
        ]
        builds_on = _builds_on(connection, packages, terms.architectures)
        alone = domination.superseded(packages, terms.architectures, terms.keep, builds_on=builds_on)
        return cls(listed, packages, builds_on, alone)


def judge(connection: Connection, terms: Terms, changes: list[Publication], *, full: bool = False) -> Verdict:
    """Find what leaves a suite when these changes come.

    :param full: look at all of the suite, not at what is related to the changes.
    """
    changes, related = _whole(connection, terms, changes)
    if full:
        known = {each.id for each in changes}
        every = publications.listed(connection, terms.suite)
        listed = [each for each in every if each.state is State.PUBLISHED or each.id in known]
        related = _Related.of(connection, terms, listed)
    return Verdict(changes, related.listed, *_superseded(connection, terms, related))


def _whole(connection: Connection, terms: Terms, changes: list[Publication]) -> tuple[list[Publication], _Related]:
    """Some changes with all that is to enter of what is related to them, and what that is: nothing leaves because of a
    package that follows later, or came while we looked. Related is also what has stayed for something that may leave
    now, and what stayed for that in turn: who is to judge has to see all who depend on each other."""
    around = changes
    while True:
        related = _Related.of(connection, terms, _related(connection, terms.suite, around))
        known = {each.id for each in changes}
        entering = [each for each in related.listed if each.state is State.PENDING and each.id not in known]
        changes = [*changes, *entering]
        more = entering or _kept_for_what_leaves(connection, terms.suite, changes, related)
        if not more:
            return changes, related
        around = [*around, *more]


def _related(connection: Connection, where: Suite, changes: Collection[Publication]) -> list[Publication]:
    """All that is listed of the sources that are concerned by changes, and all that has the names of their packages."""
    sources, names = {each.source for each in changes}, {each.name for each in changes if each.binary_id is not None}
    near = publications.related(connection, where, sources, names)
    sources |= {each.source for each in near}
    names |= {each.name for each in near if each.binary_id is not None}
    return publications.related(connection, where, sources, names)


def _kept_for_what_leaves(
    connection: Connection, where: Suite, changes: Iterable[Publication], related: _Related
) -> list[Publication]:
    """What is not related yet, and stays for something that leaves, or that stays itself only if it is needed.

    What is elsewhere stays for something of which the row is gone, and SQLite gave its number to another.
    """
    leave = {each.id for each in changes if each.state is State.LEAVING} | related.alone.keys()
    known = {each.id for each in related.listed}
    kept = publications.kept_for(connection, sorted(leave))
    return [each for each in kept if each.id not in known and each.suite == where]


def _superseded(connection: Connection, terms: Terms, related: _Related) -> tuple[Mapping[int, str], dict[int, Kept]]:
    """What leaves because it was superseded, and why; what of that stays, as something that stays depends on it."""
    packages, leaves = related.packages, related.alone
    before = {each.id: each.kept_for_id for each in related.listed if each.kept_for_id is not None}
    needed: dict[str, Dependant] = {}
    while True:
        lost = _lost(packages, leaves)
        near = {each.id for each in packages} | {before[each.id] for each in lost if each.id in before}
        more = _needed(connection, terms.suite, lost, near, leaves)
        if more.keys() <= needed.keys():
            break
        needed = more | needed
        leaves = domination.superseded(packages, terms.architectures, terms.keep, needed.keys(), related.builds_on)
    return leaves, {
        each.id: Kept(needed[each.name].id, f"{related.alone[each.id]}, but {needed[each.name].name} depends on it")
        for each in packages
        if each.id in related.alone and each.id not in leaves and each.name in needed
    }


def _builds_on(
    connection: Connection, packages: Iterable[Package], available: Collection[str]
) -> dict[str, frozenset[str]]:
    """For which architectures the newest version of each source has packages."""
    newest: dict[str, Package] = {}
    for each in packages:
        if each.architecture == domination.SOURCE:
            other = newest.setdefault(each.name, each)
            if Version(other.version) < Version(each.version):
                newest[each.name] = each
    found = {}
    for part in rows.parts([each.id for each in newest.values()]):
        for row in connection.execute(_ARCHITECTURES_OF, {"ids": part}):
            words = row.architectures.split()
            here = {name for name in available if any(matches(name, word) for word in words if word != domination.ALL)}
            found[row.name] = frozenset(here | {domination.ALL}.intersection(words))
    return found


def _lost(packages: Collection[Package], leaves: Collection[int]) -> list[Package]:
    """The binary packages that leave, and no other version of them stays."""
    stay = {(each.name, each.architecture) for each in packages if each.id not in leaves}
    gone = (each for each in packages if each.id in leaves and each.architecture != domination.SOURCE)
    return [each for each in gone if (each.name, each.architecture) not in stay]


def _needed(
    connection: Connection, where: Suite, lost: Collection[Package], near: set[int], leaves: Collection[int]
) -> dict[str, Dependant]:
    """Which of these packages others that stay in the suite depend on, be it by a name that they provide, and for each
    one of these others.

    :param near: who is asked first. Where they do not need it all of the suite is looked through, in the database.
    """
    asked: dict[str, set[str]] = {}  # Which of them are meant by a name.
    for each in lost:
        asked.setdefault(each.name, set()).add(each.name)
    for part in rows.parts([each.id for each in lost]):
        for row in connection.execute(_CONTROLS_OF, {"ids": part}):
            for name in _names_in(row.control, "Provides"):
                asked.setdefault(name, set()).add(row.name)
    found: dict[str, Dependant] = {}
    nearest = ((_NEAR, {"ids": part}) for part in rows.parts(sorted(near.difference(leaves))))
    for query, those in [*nearest, (_ALL, vars(where))]:
        left = sorted(name for name, meant in asked.items() if not meant <= found.keys())
        for some in rows.parts(left, _MENTIONS_MAX):
            mentions = or_(*(binary.c.control.contains(name, autoescape=True) for name in some))
            for row in connection.execute(query.where(mentions), those):
                if row.id not in leaves:
                    for name in _names_in(row.control, *_RELATIONS).intersection(some):
                        found |= {each: Dependant(row.id, row.name) for each in asked[name] if each not in found}
    return found


def _names_in(control: str, *names: str) -> set[str]:
    """The names of packages in these fields of a control file."""
    fields = Deb822(control.split("\n"))
    relations = [PkgRelation.parse_relations(fields[name]) for name in names if fields.get(name)]
    return {one["name"] for each in relations for alternatives in each for one in alternatives}


# Made once: to make a statement takes longer than to execute it.
_ARCHITECTURES_OF = (
    select(source.c.name, source.c.architectures)
    .join_from(publication, source, source.c.id == publication.c.source_id)
    .where(publication.c.id.in_(bindparam("ids", expanding=True)))
)
_CONTROLS = select(publication.c.id, binary.c.name, binary.c.control).join_from(
    publication, binary, binary.c.id == publication.c.binary_id
)
_CONTROLS_OF = _CONTROLS.where(publication.c.id.in_(bindparam("ids", expanding=True)))
_NEAR = _CONTROLS_OF.where(STATE_OF_FOUND.in_(sorted(LISTED)))
_ALL = _CONTROLS.where(
    *(publication.c[name] == bindparam(name) for name in ("archive_id", "series_id", "pocket")),
    publication.c.state.in_(sorted(LISTED)),
)
