"""The commands that change builds: retry, cancel, score."""

import time
from collections.abc import Callable, Sequence

import click
from sqlalchemy import Connection

from buildmaster import builds as farm_builds
from buildmaster import listings
from buildmaster.cli.documents import build_document
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.numbers import build_number
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, ImpossibleTransition
from buildmaster.listings import Build
from buildmaster.retention import SourceForgotten

SCORE_MAX = 10_000_000
AUTO = "auto"
BUILDS = click.argument("build_ids", metavar="BUILD...", type=build_number, nargs=-1, required=True)

# What a state that a build cannot leave so means to a person.
WHY_NO_RETRY = {
    BuildState.NEEDS_BUILD: "it is in the queue already",
    BuildState.BUILT: "it is built; `buildmaster submit --rebuild FILE.dsc` builds its source once more",
}


@click.command()
@BUILDS
@json_option
@pass_session
def retry(session: Session, /, *, build_ids: tuple[int, ...]) -> int:
    """Put builds that did not end well into the queue again, their failures forgotten.

    Exit status 1 when one of them cannot be.

    \b
    Example:
      buildmaster retry 3 5
    """

    def no(state: BuildState) -> str:
        return WHY_NO_RETRY.get(state, f"it is {state}; only a build that has ended is tried again")

    with farm_of(session) as farm:
        return _change(session, farm, build_ids, farm_builds.retry, no)


@click.command()
@BUILDS
@json_option
@pass_session
def cancel(session: Session, /, *, build_ids: tuple[int, ...]) -> int:
    """Take builds off the queue, or stop them where they run.

    A build that runs is cancelling until its builder has stopped it; of one whose results are being fetched nothing
    is kept but its log. Exit status 1 when one of them cannot be cancelled.

    \b
    Example:
      buildmaster cancel 4
    """

    def no(state: BuildState) -> str:
        return f"it has ended: {state}"

    with farm_of(session) as farm:
        return _change(session, farm, build_ids, farm_builds.cancel, no)


def _points(word: str) -> int | str:
    """Take a score, or `auto`: click takes None for a word that is missing. A type of parameter, for click."""
    if word == AUTO:
        return AUTO
    try:
        points = int(word)
    except ValueError:
        raise click.BadParameter(f"{word!r} is neither a number nor `{AUTO}`") from None
    return int(click.IntRange(-SCORE_MAX, SCORE_MAX).convert(points, None, None))


# A score may begin with a minus, and is no option then.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("build_id", metavar="BUILD", type=build_number)
@click.argument("points", metavar="POINTS|auto", type=_points)
@json_option
@pass_session
def score(session: Session, /, *, build_id: int, points: int | str) -> None:
    """Give a build a score by hand: the higher, the sooner. It keeps that whatever becomes of it.

    `auto` gives it the score of its archive, pocket, component and urgency again.

    \b
    Example:
      buildmaster score 4 20000
    """

    def change(connection: Connection) -> Build | None:
        farm_builds.set_score(connection, build_id, points if isinstance(points, int) else None)
        return listings.one_build(connection, build_id)

    with farm_of(session) as farm:
        found = farm.write(change)
    assert found is not None
    kept = "its usual score" if points == AUTO else f"score {points}"
    place = f"{found.state}, score {found.score}"
    if found.score is None:
        place = f"{found.state}, not in the queue; {kept} if it is built again"
    session.output.say(f"build {found.id}: {found.title}: {place}")
    if session.output.as_json:
        session.output.document(build_document(found))


def _change(
    session: Session,
    farm: Farm,
    build_ids: Sequence[int],
    do: Callable[[Connection, int, float], BuildState],
    why_not: Callable[[BuildState], str],
) -> int:
    """Do it to each build, in a transaction each, and tell what became of it. Returns the exit status."""

    def change(connection: Connection, build_id: int) -> Build | None:
        do(connection, build_id, time.time())
        return listings.one_build(connection, build_id)

    changed, refused = [], []
    for build_id in dict.fromkeys(build_ids):
        try:
            changed.append(farm.write(change, build_id))
        except ImpossibleTransition as error:
            refused.append((build_id, why_not(error.state)))
        except SourceForgotten as error:
            refused.append((build_id, str(error)))
        except farm_builds.NoSuchBuild:
            refused.append((build_id, "there is no such build"))
    done = [build for build in changed if build is not None]
    _tell(session, done, refused)
    return 1 if refused else 0


def _tell(session: Session, done: list[Build], refused: list[tuple[int, str]]) -> None:
    for build in done:
        why = f": {build.reason}" if build.reason and build.state == BuildState.CHROOT_WAIT else ""
        session.output.say(f"build {build.id}: {build.title}: {build.state}{why}")
    for build_id, why in refused:
        click.echo(f"buildmaster: build {build_id}: {why}", err=True)
    if session.output.as_json:
        documents = [build_document(build) for build in done]
        session.output.document({"changed": documents, "refused": [{"id": i, "why": why} for i, why in refused]})
