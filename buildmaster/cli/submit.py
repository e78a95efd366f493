"""The command `submit`: a source package into the farm, and on request to its end."""

import time
from pathlib import Path
from textwrap import indent

import click

from buildd.protocol import PackageBuilderName, error_heading
from buildmaster import distributions, listings, packages, tags, wishes
from buildmaster.cli.documents import build_document, file_document
from buildmaster.cli.farms import choose_series, farm_of, looks
from buildmaster.cli.follow import follow, view_for
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.numbers import pocket_option
from buildmaster.cli.places import log_place, took
from buildmaster.cli.presence import somebody_runs, tell_absence
from buildmaster.cli.text import count
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.listings import Build
from buildmaster.scoring import COMPONENT, URGENCY, Pocket
from buildmaster.wishes import LIMITS


@click.command()
@click.argument("dsc", metavar="FILE.dsc", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--series", metavar="SERIES", help="Series to build for, or DISTRIBUTION/SERIES; needed when there are several."
)
@click.option("--architecture", "architectures", metavar="ARCH", multiple=True, help="Build on these only.")
@click.option("--archive", default=distributions.PRIMARY, show_default=True, help="Archive of the distribution.")
@click.option("--component", type=click.Choice(sorted(COMPONENT)), default="main", show_default=True)
@click.option("--urgency", type=click.Choice(list(URGENCY)), default="medium", show_default=True)
@pocket_option("Pocket of the series to build for.")
@click.option("--needs", metavar="TAG", multiple=True, help="Build on builders that have this resource tag.")
@click.option(
    "--package-builder",
    type=click.Choice([each.value for each in PackageBuilderName]),
    help="What runs dpkg-buildpackage, where not the daemon's own choice.",
)
@click.option("--profiles", metavar="WORDS", default="", help="Build profiles, such as nocheck,nodoc.")
@click.option("--build-options", metavar="WORDS", default="", help="DEB_BUILD_OPTIONS, such as 'nocheck parallel=4'.")
@click.option(
    "--limit",
    "limits",
    metavar="NAME=VALUE",
    multiple=True,
    help=f"What a build may use, as memory=2G or timeout=90m: {', '.join(LIMITS)}.",
)
@click.option("--rebuild", is_flag=True, help="Build it once more when this very source is here already.")
@click.option("--wait", is_flag=True, help="Follow the builds to their end; exit status 1 unless all are built.")
@json_option
@pass_session
def submit(
    session: Session,
    /,
    *,
    dsc: Path,
    series: str | None,
    architectures: tuple[str, ...],
    archive: str,
    component: str,
    urgency: str,
    pocket: Pocket,
    needs: tuple[str, ...],
    package_builder: str | None,
    profiles: str,
    build_options: str,
    limits: tuple[str, ...],
    rebuild: bool,
    wait: bool,
) -> int:
    """Add a source package, and put the builds that it needs into the queue.

    The files that the .dsc names lie beside it; all are checked against its digests. With --wait, stage, elapsed time
    and the log's tail are shown while it builds. Ctrl+C ends the showing, not the build.

    \b
    Example:
      buildmaster submit --wait hello_2.10-3.dsc
    """
    said = wishes.parse(package_builder or "", profiles.replace(",", " ").split(), build_options.split(), limits)
    with farm_of(session) as farm:
        with farm.reading() as connection:
            distribution, series_name = choose_series(connection, series)
        accepted = packages.accept(
            farm,
            dsc,
            time.time(),
            distribution=distribution,
            series_name=series_name,
            only=frozenset(architectures) or None,
            rebuild=rebuild,
            archive_name=archive,
            component=component,
            urgency=urgency,
            pocket=pocket,
            needs=tags.parse(needs),
            wishes=said,
        )
        with farm.reading() as connection:
            builds = listings.builds(connection, ids=accepted.build_ids)
            runs = somebody_runs(farm.directory, connection)
        builds.sort(key=lambda build: build.id)
        for build in builds:
            session.output.say(f"build {build.id}: {build.title}, {build.state}")
        if accepted.superseded.versions:
            session.output.say(_superseded(accepted))
        if not runs:
            tell_absence(session, farm.directory)
        if wait:
            builds = follow(farm, accepted.build_ids, view_for(session.output), looks=looks(session))
            _report(session, farm, builds)
        if session.output.as_json:
            session.output.document(_document(farm, accepted, builds))
    failed = wait and any(build.state != BuildState.BUILT for build in builds)
    if not wait and builds:
        session.output.hint(f"Follow it with: {session.command_on(farm.directory, f'log {builds[0].id}')}")
    return 1 if failed else 0


def _superseded(accepted: packages.Accepted) -> str:
    """What a source took the place of, in a sentence."""
    old = accepted.superseded
    ended = f"; no longer built: {', '.join(map(str, old.build_ids))}" if old.build_ids else ""
    return f"{accepted.name} {', '.join(old.versions)} superseded{ended}"


def _report(session: Session, farm: Farm, builds: list[Build]) -> None:
    """How each build ended, why, and where its results and its log are."""
    for build in builds:
        span = took(build)
        session.output.say(
            f"build {build.id}: {build.title}: {build.state}"
            + (f" after {span}" if span else "")
            + (f": {build.why}" if build.why else "")
        )
        if build.error:
            session.output.say(f"  {error_heading(build.cause).lower()}:\n" + indent(build.error, "    "))
        place = log_place(farm, build)
        if build.state == BuildState.BUILT:
            with farm.reading() as connection:
                made = listings.results(connection, build.id)
            fetch = session.command_on(farm.directory, f"fetch {build.id} --to DIRECTORY")
            session.output.hint(f"  {count(len(made), 'file')}: {fetch}")
        if place:
            session.output.say(f"  log: {place}")
        if place or build.log_sha256:
            session.output.hint(f"  read the log with: {session.command_on(farm.directory, f'log {build.id}')}")


def _document(farm: Farm, accepted: packages.Accepted, builds: list[Build]) -> dict[str, object]:
    documents, old = [], accepted.superseded
    with farm.reading() as connection:
        for build in builds:
            place = log_place(farm, build)
            results = [file_document(each) for each in listings.results(connection, build.id)]
            documents.append(build_document(build) | {"log_path": str(place) if place else None, "results": results})
    return {"source": accepted.name, "version": accepted.version, "builds": documents} | {
        "superseded": {"versions": old.versions, "builds": old.build_ids}
    }
