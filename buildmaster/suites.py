"""What is to be changed of a suite as apt sees it, and that it was, as queries: what the publisher asks and says."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from debian.deb822 import Deb822, PkgRelation
from debian.debian_support import Version
from sqlalchemy import Connection, bindparam, func, or_, select, update

from buildmaster import depwaits, distributions, domination, goods, publications, repositories, rows
from buildmaster.architectures import matches
from buildmaster.domination import Package
from buildmaster.goods import Goods
from buildmaster.pockets import suite_name
from buildmaster.publications import LISTED, STATE_OF_FOUND, Publication, State, Suite
from buildmaster.repositories import ArchiveKey, Repository
from buildmaster.tables import archive_dependency, binary, publication, series, source, suite

ALWAYS = ("main", "main/debug")  # Components that every suite has.
CHANGES_MAX = 2000  # So many are published at once, and what belongs to them; what is more follows.
_MENTIONS_MAX = 200  # SQLite takes no more than 1,000 conditions that are joined by OR.
_RELATIONS = ("Depends", "Pre-Depends")


class PublishedMeanwhile(Exception):
    """Somebody else has published a suite since it was read: nothing is recorded, and it is to be read again."""


@dataclass(frozen=True)
class Plan:
    """What is to be done in a suite."""

    suite: Suite
    name: str  # As apt has it.
    repository: Repository
    keys: tuple[ArchiveKey, ...]  # Of the archive, all of them.
    architectures: tuple[str, ...]
    components: tuple[str, ...]  # That it has, and is to have.
    generation: int  # When this was read.
    enters: tuple[Goods, ...]
    leaves: tuple[Goods, ...]
    stays: tuple[Goods, ...]  # What has the name of something that leaves.
    more: bool  # There are more changes than one publication takes.
    why: Mapping[int, str]  # Of what leaves because it was superseded: by its id.


@dataclass(frozen=True)
class Shown:
    """What apt sees of a suite by now."""

    generation: int
    published_at: float
    valid_until: float | None
    components: tuple[str, ...]


def plan(connection: Connection, where: Suite, *, full: bool = False) -> Plan:
    """What is to be done, by what changed since the last time.

    :param full: what is superseded by now is looked for in all of the suite, not in what is related to the changes.
    :raises RepositoryRefused: its archive is not published by us.
    """
    changes = publications.changes(connection, where, CHANGES_MAX)
    more = len(changes) == CHANGES_MAX
    repository = repositories.get(connection, where.archive_id)
    architectures = distributions.architectures_of(connection, where.series_id)
    changes, related = _whole(connection, where, changes)
    if full:
        known = {each.id for each in changes}
        every = publications.listed(connection, where)
        related = [each for each in every if each.state is State.PUBLISHED or each.id in known]
    why = _superseded(connection, where, related, architectures, repository.keep_versions)
    enters = [each for each in changes if each.state is State.PENDING and each.id not in why]
    leaving = {each.id: each for each in changes if each.state is State.LEAVING}
    leaving |= {each.id: each for each in related if each.id in why}
    names = {(each.name, each.component) for each in leaving.values() if each.binary_id is not None}
    entering = {each.id for each in enters}
    stays = [
        each
        for each in related
        if (each.name, each.component) in names and each.id not in leaving and each.id not in entering
    ]
    found = connection.execute(_SUITE, vars(where)).one()
    return Plan(
        suite=where,
        name=suite_name(found.series, where.pocket),
        repository=repository,
        keys=tuple(repositories.keys(connection, where.archive_id)),
        architectures=tuple(architectures),
        components=_components(found.components, enters),
        generation=found.generation,
        enters=tuple(goods.of(connection, enters)),
        leaves=tuple(goods.of(connection, leaving.values())),
        stays=tuple(goods.of(connection, stays)),
        more=more,
        why=why,
    )


def _components(before: str, enters: Iterable[Publication]) -> tuple[str, ...]:
    """The components of a suite. One that has become empty stays, for who asks for it."""
    return tuple(sorted({*ALWAYS, *before.split(), *(each.component for each in enters)}))


def everything(connection: Connection, planned: Plan) -> Iterator[Goods]:
    """All that a suite names when this plan is carried out, a part of it at a time."""
    leaves, enters = ({each.publication.id for each in some} for some in (planned.leaves, planned.enters))
    named = [
        each
        for each in publications.listed(connection, planned.suite)
        if (each.id in enters or each.state is State.PUBLISHED) and each.id not in leaves
    ]
    for part in rows.parts(named):
        yield from goods.of(connection, part)


def done(connection: Connection, planned: Plan, shown: Shown, now: float) -> None:
    """Write down that apt sees what was planned.

    :raises PublishedMeanwhile: somebody else has done something there.
    """
    where = planned.suite
    refresh_at = _refresh_at(planned, shown, now)
    values = {**vars(shown), "components": " ".join(shown.components), "refresh_at": refresh_at}
    if connection.execute(_SHOWN, {**_these(where), "before": planned.generation, **values}).rowcount != 1:
        raise PublishedMeanwhile(planned.name)
    if _is_planned_otherwise(connection, planned):  # By who refreshed it meanwhile, which was just overwritten.
        publications.refresh(connection, where.archive_id, now)
    for part in rows.parts([each.publication.id for each in planned.enters]):
        connection.execute(_ENTERED, {"ids": part, "now": now})
    for each in planned.leaves:
        reason = planned.why.get(each.publication.id, each.publication.reason)
        connection.execute(_LEFT, {"this": each.publication.id, "now": now, "why": reason})
    # A source alone changes nothing for who waits for packages.
    if any(each.publication.binary_id is not None for each in (*planned.enters, *planned.leaves)):
        for archive_id in _users_of(connection, where.archive_id):
            depwaits.published(connection, archive_id, now)


def _is_planned_otherwise(connection: Connection, planned: Plan) -> bool:
    """Whether by now a suite says, or is signed, otherwise than it was planned."""
    where = planned.suite
    return (planned.repository, planned.keys, planned.architectures) != (
        repositories.get(connection, where.archive_id),
        tuple(repositories.keys(connection, where.archive_id)),
        tuple(distributions.architectures_of(connection, where.series_id)),
    )


def _refresh_at(planned: Plan, shown: Shown, now: float) -> float | None:
    """When the suite is to be signed anew: at half of the time that it is valid; when another key signs."""
    moments = [shown.published_at + planned.repository.valid_s / 2 + 1.0] if planned.repository.valid_s else []
    moments += [each.signs_from for each in planned.keys]
    moments += [each.signs_until for each in planned.keys if each.signs_until is not None]
    return min((each for each in moments if each > now), default=None)


def _users_of(connection: Connection, archive_id: int) -> list[int]:
    """An archive, and those whose builds may take packages from it."""
    uses = select(archive_dependency.c.archive_id).where(archive_dependency.c.depends_on_id == archive_id)
    return sorted({archive_id, *connection.execute(uses).scalars()})


def _whole(
    connection: Connection, where: Suite, changes: list[Publication]
) -> tuple[list[Publication], list[Publication]]:
    """Some changes with all that is to enter of what is related to them, and what that is: nothing leaves because of a
    package that follows later, or came while we looked."""
    while True:
        related, known = _related(connection, where, changes), {each.id for each in changes}
        entering = [each for each in related if each.state is State.PENDING and each.id not in known]
        if not entering:
            return changes, related
        changes = [*changes, *entering]


def _related(connection: Connection, where: Suite, changes: Collection[Publication]) -> list[Publication]:
    """All that is listed of the sources that are concerned by changes, and all that has the names of their packages."""
    sources, names = {each.source for each in changes}, {each.name for each in changes if each.binary_id is not None}
    near = publications.related(connection, where, sources, names)
    sources |= {each.source for each in near}
    names |= {each.name for each in near if each.binary_id is not None}
    return publications.related(connection, where, sources, names)


def _superseded(
    connection: Connection, where: Suite, related: Iterable[Publication], architectures: Collection[str], keep: int
) -> dict[int, str]:
    """What leaves because it was superseded, and why. What something that stays depends on stays as well."""
    packages = [
        Package(each.id, each.source, each.source_version, each.name, each.version, each.architecture)
        for each in related
    ]
    builds_on = _builds_on(connection, packages, architectures)
    needed: set[str] = set()
    while True:
        leaves = domination.superseded(packages, architectures, keep, needed, builds_on)
        more = _needed(connection, where, _lost(packages, leaves), leaves) - needed
        if not more:
            return leaves
        needed |= more


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


def _needed(connection: Connection, where: Suite, lost: Collection[Package], leaves: Collection[int]) -> set[str]:
    """Which of these packages others that stay in the suite depend on, be it by a name that they provide. Packages
    are lost rarely: this looks through all of the suite, in the database."""
    asked: dict[str, set[str]] = {}  # Which of them are meant by a name.
    for each in lost:
        asked.setdefault(each.name, set()).add(each.name)
    for part in rows.parts([each.id for each in lost]):
        for row in connection.execute(_CONTROLS_OF, {"ids": part}):
            for name in _names_in(row.control, "Provides"):
                asked.setdefault(name, set()).add(row.name)
    found: set[str] = set()
    for some in rows.parts(sorted(asked), _MENTIONS_MAX):
        mentions = or_(*(binary.c.control.contains(name, autoescape=True) for name in some))
        for row in connection.execute(_CONTROLS.where(mentions), vars(where)):
            if row.id not in leaves:
                found.update(*(asked[name] for name in _names_in(row.control, *_RELATIONS).intersection(some)))
    return found


def _names_in(control: str, *names: str) -> set[str]:
    """The names of packages in these fields of a control file."""
    fields = Deb822(control.split("\n"))
    relations = [PkgRelation.parse_relations(fields[name]) for name in names if fields.get(name)]
    return {one["name"] for each in relations for alternatives in each for one in alternatives}


def _these(where: Suite) -> dict[str, object]:
    return {f"this_{name}": value for name, value in vars(where).items()}


# Made once: to make a statement takes longer than to execute it.
_WORDS = ("archive_id", "series_id", "pocket")
_SUITE = (
    select(suite.c.generation, suite.c.components, series.c.name.label("series"))
    .join_from(suite, series)
    .where(*(suite.c[name] == bindparam(name) for name in _WORDS))
)
_SHOWN = update(suite).where(
    *(suite.c[name] == bindparam(f"this_{name}") for name in _WORDS), suite.c.generation == bindparam("before")
)
_ENTERED = (
    update(publication)
    .where(publication.c.id.in_(bindparam("ids", expanding=True)), STATE_OF_FOUND == State.PENDING)
    .values(state=State.PUBLISHED, published_at=bindparam("now"))
)
_LEFT = (
    update(publication)
    .where(publication.c.id == bindparam("this"), publication.c.state != State.REMOVED)
    .values(
        state=State.GONE,
        gone_at=bindparam("now"),
        leaves_at=func.coalesce(publication.c.leaves_at, bindparam("now")),
        reason=bindparam("why"),
    )
)
_ARCHITECTURES_OF = (
    select(source.c.name, source.c.architectures)
    .join_from(publication, source, source.c.id == publication.c.source_id)
    .where(publication.c.id.in_(bindparam("ids", expanding=True)))
)
_CONTROLS_OF = (
    select(binary.c.name, binary.c.control)
    .join_from(publication, binary, binary.c.id == publication.c.binary_id)
    .where(publication.c.id.in_(bindparam("ids", expanding=True)))
)
_CONTROLS = (
    select(publication.c.id, binary.c.control)
    .join_from(publication, binary, binary.c.id == publication.c.binary_id)
    .join(source, source.c.id == publication.c.source_id)
    .where(*(publication.c[name] == bindparam(name) for name in _WORDS), publication.c.state.in_(sorted(LISTED)))
)
