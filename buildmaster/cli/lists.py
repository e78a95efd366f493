"""The commands that list: queue, builds, builders."""

import time
from typing import Any

import click

from buildmaster import distributions, listings, waiting
from buildmaster.cli.archives import names_of
from buildmaster.cli.documents import build_document, builder_document, waiting_document
from buildmaster.cli.farms import farm_of, looks
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.presence import somebody_runs, tell_absence
from buildmaster.cli.text import count, elapsed
from buildmaster.lifecycle import BuildState
from buildmaster.listings import Build, Builder

LIMIT_MAX = 10**9  # More builds than anybody has.


@click.command()
@click.option(
    "-n", "--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="At most so many."
)
@click.option("--after", type=click.IntRange(0, LIMIT_MAX), default=0, metavar="COUNT", help="Leave out so many first.")
@json_option
@pass_session
def queue(session: Session, /, *, limit: int, after: int) -> None:
    """List what waits for a builder, in order, and what keeps it.

    Builds that are held for a chroot or for build-dependencies come last, without a position.

    \b
    Examples:
      buildmaster queue
      buildmaster queue --after 50
    """
    now = time.time()
    with farm_of(session) as farm, farm.reading() as connection:
        page = waiting.page(connection, now, limit, after, looks=looks(session))
        directory, runs = farm.directory, somebody_runs(farm.directory, connection)
    end = after + len(page.waiting)
    document = {"queue": [waiting_document(each) for each in page.waiting], "total": page.total}
    document["more"] = end < page.total
    columns = [
        Column("pos", right=True),
        Column("build", right=True),
        Column("source"),
        Column("archive"),
        Column("series"),
        Column("arch"),
        Column("score", right=True),
        Column("waits", right=True),
        Column("why", wide=True),
    ]
    rows = [
        (
            str(each.position or "-"),
            str(each.build.id),
            made(each.build),
            each.build.archive,
            each.build.series,
            each.build.architecture,
            "-" if each.build.score is None else str(each.build.score),
            elapsed(now - (each.build.queued_at or each.build.finished_at or each.build.created_at)),
            each.why,
        )
        for each in page.waiting
    ]
    nothing = f"Nothing waits. Add a source package with: {session.command_on(directory, 'submit FILE.dsc')}"
    if page.total:
        nothing = f"No more than {page.total} wait."
    session.output.listing(document, columns, rows, nothing)
    if page.waiting and end < page.total:
        session.output.hint(f"{page.total - end} more wait; --after {end} shows the next.")
    if any(each.position for each in page.waiting) and not runs:
        tell_absence(session, directory)


@click.command()
@click.option(
    "--state", "states", multiple=True, type=click.Choice([state.value for state in BuildState]), help="Only these."
)
@click.option("--source", "source_name", metavar="NAME", default="", help="Only of this source package.")
@click.option("--archive", metavar="[DISTRIBUTION/]NAME", help="Only of this archive.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, LIMIT_MAX),
    default=20,
    show_default=True,
    help="At most so many, the newest.",
)
@json_option
@pass_session
def builds(session: Session, /, *, states: tuple[str, ...], source_name: str, archive: str | None, limit: int) -> None:
    """List builds, the newest first.

    \b
    Example:
      buildmaster builds --state failed --state dep-wait --source hello
    """
    with farm_of(session) as farm, farm.reading() as connection:
        wanted = [BuildState(state) for state in states]
        archive_id = None if archive is None else distributions.find_archive(connection, *names_of(connection, archive))
        these: Any = {"states": wanted, "source_name": source_name, "archive_id": archive_id}
        found = listings.builds(connection, **these, limit=limit + 1)  # One more tells whether there are more.
    found, more = found[:limit], len(found) > limit
    nothing = "No such builds."
    if not states and not source_name and archive is None:
        nothing = f"No builds. Add a source package with: {session.command_on(farm.directory, 'submit FILE.dsc')}"
    document = {"builds": [build_document(each) for each in found], "more": more}
    session.output.listing(document, BUILD_COLUMNS, [build_row(each) for each in found], nothing)
    if more:
        session.output.hint(f"There are more; --limit {limit * 5} shows them.")


BUILD_COLUMNS = (
    Column("build", right=True),
    Column("state"),
    Column("source"),
    Column("archive"),
    Column("series"),
    Column("arch"),
    Column("builder"),
    Column("took", right=True),
    Column("what", wide=True),
)


def build_row(build: Build) -> tuple[str, ...]:
    """A build under BUILD_COLUMNS."""
    took = "-"
    if build.started_at is not None and (build.finished_at is not None or build.state in RUNNING):
        took = elapsed((build.finished_at or time.time()) - build.started_at)
    return (
        str(build.id),
        build.state.value,
        made(build),
        build.archive,
        build.series,
        build.architecture,
        build.builder or "-",
        took,
        "; ".join(words for words in (_repeats(build), build.stage or build.why) if words),
    )


def made(build: Build) -> str:
    """The source of a build, in the version of what that makes."""
    rebuild = build.wishes.binnmu
    return f"{build.source} {build.version}" + ("" if rebuild is None else f"+b{rebuild.number}")


def _repeats(build: Build) -> str:
    return "" if build.reproduces is None else f"repeats build {build.reproduces}"


RUNNING = frozenset({BuildState.BUILDING, BuildState.GATHERING, BuildState.CANCELLING})


@click.command()
@json_option
@pass_session
def builders(session: Session, /) -> None:
    """List builders, and what each does.

    \b
    Example:
      buildmaster builders
    """
    now = time.time()
    with farm_of(session) as farm, farm.reading() as connection:
        everyone = listings.builders(connection)
    columns = [
        Column("name"),
        Column("state"),
        Column("arch"),
        Column("url"),
        Column("failures", right=True),
        Column("version"),
        Column("what", wide=True),
    ]
    rows = [
        (each.name, each.state, each.architecture, each.url, str(each.failures), each.version or "-", _doing(each, now))
        for each in everyone
    ]
    add = session.command_on(farm.directory, "add-builder http://HOST:8221/")
    document = {"builders": [builder_document(each) for each in everyone]}
    session.output.listing(document, columns, rows, f"No builders. Add one with: {add}")
    off = [each for each in everyone if each.state == "disabled"]
    if off:
        enable = session.command_on(farm.directory, "enable-builder NAME")
        session.output.hint(f"{count(len(off), 'builder')} disabled; {enable}")


def _doing(builder: Builder, now: float) -> str:
    """What a builder is at, and before that what is wrong with it."""
    told = _at(builder)
    if builder.trouble_since is None or builder.state == "disabled":
        return told
    trouble = f"failing for {elapsed(max(0.0, now - builder.trouble_since))}: {builder.trouble.rstrip('.')}"
    return trouble if told == "-" else f"{trouble}; {told}"


def _at(builder: Builder) -> str:
    if builder.build_id:
        return f"{builder.build_id}: {builder.build_title}" + (f", {builder.stage}" if builder.stage else "")
    return builder.reason or (
        f"given build {builder.given}" if builder.given else "manual mode" if builder.manual else "-"
    )
