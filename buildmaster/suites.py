"""What is to be changed of a suite as apt sees it, and that it was, as queries: what the publisher asks and says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select, update

from buildmaster import depwaits, distributions, goods, leaving, publications, repositories, rows
from buildmaster.goods import Goods
from buildmaster.leaving import NOT_KEPT, Kept, Terms, Verdict
from buildmaster.pockets import suite_name
from buildmaster.publications import LISTED, STATE_OF_FOUND, Publication, State, Suite
from buildmaster.repositories import ArchiveKey, Repository
from buildmaster.tables import archive_dependency, publication, series, suite

ALWAYS = ("main", "main/debug")  # Components that every suite has.
CHANGES_MAX = 2000  # So many are published at once, and what belongs to them; what is more follows.


class PublishedMeanwhile(Exception):
    """Somebody else has published a suite since it was read: nothing is recorded, and it is to be read again."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another master has published {name} just now: do it once more")


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
    stays: tuple[Goods, ...]  # What has the name of a binary package that enters or leaves.
    more: bool  # There are more changes than one publication takes.
    why: Mapping[int, str]  # Of what leaves because it was superseded: by its id.
    kept: Mapping[int, Kept]  # What stays for others, or does so no more, otherwise than was known: by its id.


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
    terms = Terms(where, architectures, repository.keep_versions)
    verdict = leaving.judge(connection, terms, changes, full=full)
    changes, related, why = verdict.changes, verdict.related, verdict.leaves
    enters = [each for each in changes if each.state is State.PENDING and each.id not in why]
    leaves = {each.id: each for each in changes if each.state is State.LEAVING}
    leaves |= {each.id: each for each in related if each.id in why}
    entering = {each.id for each in enters}
    binaries = [each for each in (*leaves.values(), *enters) if each.binary_id is not None]
    names = {(each.name, each.component) for each in binaries}
    stays = [
        each for each in related if (each.name, each.component) in names and each.id not in leaves.keys() | entering
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
        leaves=tuple(goods.of(connection, leaves.values())),
        stays=tuple(goods.of(connection, stays)),
        more=more,
        why=why,
        kept=_kept_otherwise(verdict),
    )


def _kept_otherwise(verdict: Verdict) -> dict[int, Kept]:
    """What stays for others, or does so no more: where that is not what is written down."""
    before = {each.id: each.kept_for_id for each in verdict.related if each.id not in verdict.leaves}
    now = {id: verdict.kept.get(id, NOT_KEPT) for id in before}
    return {id: kept for id, kept in now.items() if kept.for_id != before[id]}


def _components(before: str, enters: Iterable[Publication]) -> tuple[str, ...]:
    """The components of a suite. One that has become empty stays, for who asks for it."""
    return tuple(sorted({*ALWAYS, *before.split(), *(each.component for each in enters)}))


def everything(connection: Connection, planned: Plan) -> list[Publication]:
    """All that a suite names when this plan is carried out, by component, name and architecture."""
    leaves, enters = ({each.publication.id for each in some} for some in (planned.leaves, planned.enters))
    named = (
        each
        for each in publications.listed(connection, planned.suite)
        if (each.id in enters or each.state is State.PUBLISHED) and each.id not in leaves
    )
    return sorted(named, key=lambda each: (each.component, each.name, each.architecture, each.id))


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
    for this, kept in planned.kept.items():
        connection.execute(_KEPT, {"this": this, **vars(kept)})
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
_KEPT = (
    update(publication)
    .where(publication.c.id == bindparam("this"), STATE_OF_FOUND.in_(sorted(LISTED)))
    .values(kept_for_id=bindparam("for_id"), reason=bindparam("reason"))
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
