"""The commands `backup` and `restore`: a whole farm into a folder or a file, and back."""

import time
from pathlib import Path

import click

from buildmaster import backup as farm_backup
from buildmaster import backup_places, keepsakes
from buildmaster.cli.farms import config_of, farm_of
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.progress import Progress
from buildmaster.cli.text import count, moment, size, stamp
from buildmaster.keepsakes import Keepsake
from buildmaster.secrets import Secrets


@click.command()
@click.argument("to", metavar="DIR|FILE.tar", type=click.Path(path_type=Path))
@click.option("--with-secrets", is_flag=True, help="With all secrets of the farm, for a place that is yours alone.")
@json_option
@pass_session
def backup(session: Session, /, *, to: Path, with_secrets: bool) -> int:
    """Copy the whole farm, database and files, to a safe place. A master may run meanwhile.

    A folder is brought up to date when it is a backup already: files that it has are not copied again. A file, whose
    name ends in .tar, is written anew. Either is of one moment, and is the earlier one until it is whole.
    buildmaster.conf is not in it, and secrets are by --with-secrets alone: without the keys of its archives a farm is
    another one to its clients, so it is said which files to keep elsewhere. Exit status 1 when a file of the farm is
    missing or damaged; all else is in it.

    \b
    Example:
      buildmaster backup /srv/backup/farm
    """
    secrets = Secrets(config_of(session).secrets_directory)
    found = keepsakes.every(secrets) if with_secrets else None
    with farm_of(session) as farm, Progress(session.output, "copying") as progress:
        with backup_places.writing(to) as writer:
            made = farm_backup.back_up(
                farm, writer, lambda part, files: progress.show(part, count(files, "file")), found
            )
        with farm.reading() as connection:
            needed = keepsakes.needed(connection, time.time())
        directory = farm.directory
    lacking = [str(each) for each in made.lacking]
    session.output.say(f"backup in {to}: {count(made.files, 'file')} of {size(made.size)}, {made.copied} of them new")
    for sha256 in lacking:
        session.output.say(f"not in it: file {sha256}, which is missing or damaged in the farm itself")
    if found is not None:
        session.output.say(f"with {count(len(found), 'secret')} of {secrets.directory}: whoever reads it is this farm")
    else:
        _tell_needed(session, secrets, needed)
    if lacking:
        session.output.hint(f"What they are: {session.command_on(directory, 'store check')}")
    if session.output.as_json:
        document = {"path": str(to), "files": made.files, "size": made.size, "copied": made.copied}
        document |= {
            "with_secrets": with_secrets,
            "needed_secrets": [str(secrets.directory / each.name) for each in needed],
        }
        session.output.document(document | {"lacking": lacking})
    return int(bool(lacking))


def _tell_needed(session: Session, secrets: Secrets, needed: list[Keepsake]) -> None:
    """Say which secrets are to be kept elsewhere, by their files."""
    if not needed:
        return
    session.output.say("not in it, and to be kept elsewhere, since nobody can make them again:")
    for each in needed:
        session.output.say(f"  {secrets.directory / each.name}: {each.what_for}")
    others = sorted(set(secrets.names()) - {each.name for each in needed})
    if others:
        session.output.say(f"nor, as they can be made or asked for anew, in {secrets.directory}: {', '.join(others)}")


@click.command()
@click.argument("source", metavar="DIR|FILE.tar", type=click.Path(exists=True, path_type=Path))
@json_option
@pass_session
def restore(session: Session, /, *, source: Path) -> None:
    """Make a farm of a backup, where there is none yet, or an empty one.

    Where to is what buildmaster.conf and --dir say; the kinds of database and store may be others than those of the
    farm that was copied. All of it is verified: a backup that is damaged, or not whole, is refused, and nothing of it
    is left. No master may run on the farm that was copied once one runs on this one. Secrets that are in it are
    written where there are none of their names; which ones are missing after that is said: bring them before a master
    runs.

    \b
    Example:
      buildmaster restore /srv/backup/farm
    """
    from buildmaster.publishing import keeping  # noqa: PLC0415 - takes long to import.

    config = config_of(session)
    with Progress(session.output, "restoring") as progress, backup_places.reading(source) as reader:
        found = farm_backup.restore(
            config.places, reader, lambda part, left: progress.show(part, f"{count(left, 'file')} to come")
        )
        secrets = Secrets(config.secrets_directory)
        refused = keepsakes.bring(secrets, reader.secrets())
    with farm_of(session) as farm:
        lost = keeping.drop_lost(farm, config.archives_directory)
        with farm.reading() as connection:
            lacks = keepsakes.missing(secrets, keepsakes.needed(connection, time.time()))
    what = f"{count(found.files, 'file')} of {size(found.size)}"
    session.output.say(f"the farm of {moment(found.made_at)} is in {config.directory}: {what}")
    if lost:
        session.output.say(f"snapshots of archives are in no backup; they are forgotten: {', '.join(lost)}")
    for name in refused:
        session.output.say(f"not brought: {secrets.directory / name}, where another one is, or nothing can be written")
    for each in lacks:
        session.output.say(f"missing: {secrets.directory / each.name}, which {each.what_for}")
    if lacks:
        session.output.hint(
            "Bring these files from where you keep them, with mode 0600, before a master runs. If they are lost: "
            "`archive key rotate` and `provenance key --new` make others, which all clients then have to be given."
        )
    session.output.hint(f"Start it with: {session.command_on(config.directory, 'run')}")
    if session.output.as_json:
        document = {"directory": str(config.directory), "made_at": stamp(found.made_at), "files": found.files}
        missing = [str(secrets.directory / each.name) for each in lacks]
        session.output.document(
            document
            | {"size": found.size, "lacking": list(found.lacking), "missing_secrets": missing}
            | {"lost_snapshots": lost}
        )
