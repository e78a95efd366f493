"""The commands `upload`, which takes what dput would send, and `uploads`, which lists what came."""

import dataclasses
import time
from pathlib import Path

import click

from buildmaster import uploads as farm_uploads
from buildmaster.cli.archives import names_of
from buildmaster.cli.farms import config_of, farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.presence import somebody_runs, tell_absence
from buildmaster.cli.text import moment, stamp
from buildmaster.distributions import find_archive
from buildmaster.uploads import Uploaded


@click.command()
@click.argument("changes", metavar="FILE.changes", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--archive", required=True, metavar="[DISTRIBUTION/]NAME", help="The archive to upload to.")
@click.option("--unsigned", is_flag=True, help="You vouch for it: signatures are not looked at.")
@json_option
@pass_session
def upload(session: Session, /, *, changes: Path, archive: str, unsigned: bool) -> int:
    """Upload a package to an archive, as dput does, from the farm's own machine.

    The files that the .changes names lie beside it. The same is asked of it as of any other upload: it must be signed
    by an uploader of the archive, whole, and newer than what is there. All that is wrong is told at once, and nothing
    of it is kept.

    \b
    Example:
      buildmaster upload hello_2.10-4_source.changes --archive mine
    """
    from buildmaster.uploading.acceptance import process  # noqa: PLC0415 - loads Sequoia.
    from buildmaster.uploading.arrivals import Folder, NotReadable, Received, read_control  # noqa: PLC0415

    terms = dataclasses.replace(config_of(session).terms, signed=not unsigned)
    with farm_of(session) as farm:
        with farm.reading() as connection:
            distribution, own = names_of(connection, archive)
            place = farm_uploads.find_place(connection, distribution, own)
            if place is None:
                raise Refusal(f"there is no archive {distribution}/{own}; `buildmaster archives` lists them")
            runs = somebody_runs(farm.directory, connection)
        try:
            content = read_control(changes)
        except NotReadable as error:
            raise Refusal(f"{changes} {error}") from error
        received = Received(changes.name, content, Folder(changes.parent))
        verdict = process(farm, received, place, terms, time.time())
        if session.output.as_json:
            document: dict[str, object] = {
                "archive": verdict.archive,
                "name": verdict.name,
                "uploader": verdict.uploader,
                "accepted": verdict.accepted,
                "faults": [*verdict.faults],
                "builds": [*verdict.build_ids],
            }
            session.output.document(document)
        elif verdict.accepted:
            session.output.say(verdict.text)
            if not runs:
                tell_absence(session, farm.directory)
        else:
            raise Refusal(verdict.text)
    return 0 if verdict.accepted else 1


@click.command()
@click.option("--archive", metavar="[DISTRIBUTION/]NAME", help="Of this archive only.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The newest so many."
)
@json_option
@pass_session
def uploads(session: Session, /, *, archive: str | None, limit: int) -> None:
    """List what was uploaded, the newest first, and what was wrong with it.

    \b
    Example:
      buildmaster uploads --archive mine
    """
    with farm_of(session) as farm, farm.reading() as connection:
        archive_id = find_archive(connection, *names_of(connection, archive)) if archive else None
        found = farm_uploads.every(connection, limit, archive_id)
    columns = [Column("upload", right=True), Column("when"), Column("archive"), Column("file"), Column("uploader")]
    columns.append(Column("what", wide=True))
    rows = [
        (
            str(each.id),
            moment(each.created_at),
            f"{each.distribution}/{each.archive}",
            each.name,
            each.uploader or "-",
            " ".join(f"{fault}." for fault in each.faults) or f"accepted: {each.source}",
        )
        for each in found
    ]
    document = {"uploads": [_document(each) for each in found]}
    session.output.listing(document, columns, rows, "Nothing was uploaded. `buildmaster archive show` tells how.")


def _document(found: Uploaded) -> dict[str, object]:
    return {
        "id": found.id,
        "distribution": found.distribution,
        "archive": found.archive,
        "name": found.name,
        "sha256": found.sha256,
        "uploader": found.uploader,
        "accepted": not found.faults,
        "source": found.source,
        "faults": [*found.faults],
        "uploaded": stamp(found.created_at),
    }
