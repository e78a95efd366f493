"""The commands `backup` and `restore`: a whole farm into a folder or a file, and back."""

from pathlib import Path

import click

from buildmaster import backup as farm_backup
from buildmaster import backup_places
from buildmaster.cli.farms import config_of, farm_of
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.progress import Progress
from buildmaster.cli.text import count, moment, size, stamp


@click.command()
@click.argument("to", metavar="DIR|FILE.tar", type=click.Path(path_type=Path))
@json_option
@pass_session
def backup(session: Session, /, *, to: Path) -> int:
    """Copy the whole farm, database and files, to a safe place. A master may run meanwhile.

    A folder is brought up to date when it is a backup already: files that it has are not copied again. A file, whose
    name ends in .tar, is written anew. Either is of one moment, and is the earlier one until it is whole. Secrets and
    buildmaster.conf are not in it. Exit status 1 when a file of the farm is missing or damaged; all else is in it.

    \b
    Example:
      buildmaster backup /srv/backup/farm
    """
    with farm_of(session) as farm, Progress(session.output, "copying") as progress:
        with backup_places.writing(to) as writer:
            made = farm_backup.back_up(farm, writer, lambda part, files: progress.show(part, count(files, "file")))
        directory = farm.directory
    lacking = [str(each) for each in made.lacking]
    session.output.say(f"backup in {to}: {count(made.files, 'file')} of {size(made.size)}, {made.copied} of them new")
    for sha256 in lacking:
        session.output.say(f"not in it: file {sha256}, which is missing or damaged in the farm itself")
    if lacking:
        session.output.hint(f"What they are: {session.command_on(directory, 'store check')}")
    if session.output.as_json:
        document = {"path": str(to), "files": made.files, "size": made.size, "copied": made.copied}
        session.output.document(document | {"lacking": lacking})
    return int(bool(lacking))


@click.command()
@click.argument("source", metavar="DIR|FILE.tar", type=click.Path(exists=True, path_type=Path))
@json_option
@pass_session
def restore(session: Session, /, *, source: Path) -> None:
    """Make a farm of a backup, where there is none yet, or an empty one.

    Where to is what buildmaster.conf and --dir say; the kinds of database and store may be others than those of the
    farm that was copied. All of it is verified: a backup that is damaged, or not whole, is refused, and nothing of it
    is left. No master may run on the farm that was copied once one runs on this one.

    \b
    Example:
      buildmaster restore /srv/backup/farm
    """
    config = config_of(session)
    with Progress(session.output, "restoring") as progress, backup_places.reading(source) as reader:
        found = farm_backup.restore(
            config.places, reader, lambda part, left: progress.show(part, f"{count(left, 'file')} to come")
        )
    what = f"{count(found.files, 'file')} of {size(found.size)}"
    session.output.say(f"the farm of {moment(found.made_at)} is in {config.directory}: {what}")
    session.output.hint(f"Start it with: {session.command_on(config.directory, 'run')}")
    if session.output.as_json:
        document = {"directory": str(config.directory), "made_at": stamp(found.made_at), "files": found.files}
        session.output.document(document | {"size": found.size, "lacking": list(found.lacking)})
