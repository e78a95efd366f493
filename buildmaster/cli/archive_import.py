"""Of the group `archive`: import."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buildmaster import uploads as farm_uploads
from buildmaster.cli.archive import published
from buildmaster.cli.farms import config_of, farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session

if TYPE_CHECKING:  # It takes long to import.
    from buildmaster.uploading.acceptance import Verdict


@click.command(name="import")
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--suite", required=True, metavar="SUITE", help="Where they are to be: bookworm, bookworm-updates.")
@json_option
@pass_session
def import_(session: Session, /, *, name: str, files: tuple[Path, ...], suite: str) -> int:
    """Take in packages that were built elsewhere: .deb files, with the .dsc of what they were built of.

    You vouch for them. Otherwise the same is asked of them as of an upload, of each source by itself, and whatever the
    archive takes from others: it is accepted with all of its packages, or not at all. A source that the archive has
    need not come again. Nothing is built of a source that comes with packages, be they only some of those that it
    makes; one that comes without is built as any.

    \b
    Example:
      buildmaster archive import mine --suite bookworm hello_2.10-3.dsc hello_2.10-3_amd64.deb
    """
    from buildmaster.uploading.acceptance import process  # noqa: PLC0415 - loads Sequoia.
    from buildmaster.uploading.importing import CannotImport, read  # noqa: PLC0415

    terms = dataclasses.replace(config_of(session).terms, signed=False, builds=False)
    with farm_of(session) as farm:
        with farm.reading() as connection:
            place = farm_uploads.place_of(connection, published(connection, name).archive_id)
        assert place is not None  # It is published.
        place = dataclasses.replace(place, binaries=True)
        try:
            found = read(files)
        except CannotImport as error:
            raise Refusal("\n".join(["nothing is imported:", *(f"- {each}" for each in error.faults)])) from error
        verdicts = [process(farm, each.received(suite, time.time()), place, terms, time.time()) for each in found]
    _tell(session, verdicts)
    return 0 if all(each.accepted for each in verdicts) else 1


def _tell(session: Session, verdicts: "list[Verdict]") -> None:
    for each in verdicts:
        (session.output.say if each.accepted else session.output.hint)(each.text)
    if session.output.as_json:
        imports = [
            {"name": each.name, "accepted": each.accepted, "faults": [*each.faults], "builds": [*each.build_ids]}
            for each in verdicts
        ]
        session.output.document({"imports": imports})
