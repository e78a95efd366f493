"""The command `show`: all about one build."""

import time
from pathlib import Path

import click

from buildd.protocol import error_heading
from buildmaster import listings, reproductions, waiting
from buildmaster.cli.documents import build_document, file_document
from buildmaster.cli.farms import farm_of, known_build, looks
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.numbers import build_number
from buildmaster.cli.output import Column
from buildmaster.cli.places import log_place, took
from buildmaster.cli.text import moment, size
from buildmaster.lifecycle import BuildState
from buildmaster.listings import Build


@click.command()
@click.argument("build_id", metavar="BUILD", type=build_number)
@json_option
@pass_session
def show(session: Session, /, *, build_id: int) -> None:
    """Show all that is known about one build: state and why, times, files and their digests, the log.

    \b
    Example:
      buildmaster show 3
    """
    now = time.time()
    with farm_of(session) as farm, farm.reading() as connection:
        build = known_build(connection, build_id)
        why = waiting.why_not_running(connection, build_id, now, looks=looks(session))
        results = listings.results(connection, build_id)
        repeated = reproductions.of(connection, build_id)
        sources = listings.source_files(connection, build.source_id)
        where = log_place(farm, build)
    if session.output.as_json:
        document = build_document(build) | {"waits_for": why, "log_path": str(where) if where else None}
        document["reproductions"] = repeated
        document["results"] = [file_document(each) for each in results]
        document["source_files"] = [file_document(each) for each in sources]
        session.output.document(document)
        return
    session.output.facts(_facts(build, why, where, repeated))
    columns = [Column("file"), Column("size", right=True), Column("sha256")]
    made = "Refused:" if build.state is BuildState.FAILED_UPLOAD else "Results:"
    for title, files in (("Source:", sources), (made, results)):
        if files:
            session.output.say(f"\n{title}")
            session.output.table(
                columns, [(each.name, size(each.size), each.sha256) for each in files], "", whole_lines=True
            )
    if results:
        fetch = session.command_on(farm.directory, f"fetch {build_id} --to DIRECTORY")
        session.output.hint(f"\n{fetch} copies the results there.")


def _facts(build: Build, why: str, log: Path | None, repeated: list[int]) -> list[tuple[str, str]]:
    architecture = build.architecture + (" and all" if build.arch_indep else "")
    facts = [
        ("Build", str(build.id)),
        ("Source", f"{build.source} {build.version}"),
        ("For", f"{build.distribution} {build.series}, {architecture}, archive {build.archive}"),
        ("Repeats", f"build {build.reproduces}" if build.reproduces else ""),
        ("Repeated by", ", ".join(f"build {each}" for each in repeated)),
        ("State", build.state.value),
        ("Why", build.reason or why),
        ("Cause", build.cause),
        (error_heading(build.cause), build.error),
        ("Stage", build.stage),
        ("Waits for", build.dependencies),
        ("Builder", build.builder or ""),
        ("Chroot", build.chroot_sha256),
        ("Score", "" if build.score is None else str(build.score)),
        ("Needs", build.tags),
        *build.wishes.in_words(),
        ("Failures", str(build.failures) if build.failures else ""),
        ("Created", moment(build.created_at)),
        ("Started", moment(build.started_at) if build.started_at else ""),
        ("Finished", moment(build.finished_at) if build.finished_at else ""),
        ("Took", took(build)),
        ("Log", str(log) if log else "in the store" if build.log_sha256 else ""),
    ]
    return [(name, value) for name, value in facts if value]
