"""Which builds of the farm could bring the build-dependencies that another one waits for."""

from sqlalchemy import Connection, case, or_, select

from buildd.control import ControlError
from buildd.relations import Alternatives, Relation, parse_relations
from buildmaster.builds import AnyRow
from buildmaster.lifecycle import BuildState
from buildmaster.listings import Build
from buildmaster.reasons import Supply
from buildmaster.tables import build, series_architecture, source, source_binary

_LOOK_AT = 50  # So many builds of sources that have a package of that name.


def find(connection: Connection, waiting: Build) -> tuple[Supply, ...]:
    """What a dep-wait needs, each with the build that is nearest to bringing it. None of another state has any."""
    if waiting.state is not BuildState.DEP_WAIT or not waiting.dependencies:
        return ()
    try:
        clauses = parse_relations(waiting.dependencies)
    except ControlError:  # A builder's words.
        return ()
    return tuple(_supply(connection, waiting, clause) for clause in clauses)


def _supply(connection: Connection, waiting: Build, clause: Alternatives) -> Supply:
    needs = " | ".join(map(str, clause))
    for relation in clause:
        row = _nearest(connection, waiting, relation)
        if row is not None:
            return Supply(needs, row.id, f"{row.name} {row.version}", row.state)
    return Supply(needs)


def _nearest(connection: Connection, waiting: Build, relation: Relation) -> AnyRow | None:
    """The build that is nearest to bringing a package: the version of a package is taken to be that of its source."""
    order = case({state: place for place, state in enumerate(_NEAREST)}, value=build.c.state, else_=len(_NEAREST))
    joined = (
        source_binary.join(source, source.c.id == source_binary.c.source_id)
        .join(build, build.c.source_id == source.c.id)
        .join(series_architecture, series_architecture.c.id == build.c.series_architecture_id)
    )
    own = source.alias("own")
    its_series = select(own.c.series_id).where(own.c.id == waiting.source_id).scalar_subquery()
    query = (
        select(build.c.id, source.c.name, source.c.version, build.c.state)
        .select_from(joined)
        .where(source_binary.c.name == relation.package, source.c.series_id == its_series)
        .where(or_(series_architecture.c.architecture == waiting.architecture, build.c.arch_indep))
        .where(build.c.id != waiting.id)
        .order_by(order, build.c.id.desc())
        .limit(_LOOK_AT)
    )
    return next((row for row in connection.execute(query) if relation.takes(row.version)), None)


_NEAREST = (
    BuildState.GATHERING,
    BuildState.BUILDING,
    BuildState.NEEDS_BUILD,
    BuildState.BUILT,
    BuildState.DEP_WAIT,
    BuildState.CHROOT_WAIT,
    BuildState.FAILED,
    BuildState.FAILED_UPLOAD,
    BuildState.CANCELLING,
    BuildState.CANCELLED,
    BuildState.SUPERSEDED,
)
