"""The command `buildmaster`: what an operator does with a farm, one command each.

Only click is imported here: a command's own module, and with it SQLAlchemy, rich or Twisted, comes when it is called.
"""

from pathlib import Path
from typing import Any

import click

from buildmaster.cli.group import LazyGroup, Session, pass_session

__all__ = ["main"]

FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)

COMMANDS = {
    "init": ("buildmaster.cli.setup", "Make a farm, or add to one."),
    "run": ("buildmaster.cli.run", "Run the master in the foreground."),
    "add-builder": ("buildmaster.cli.setup", "Let a build daemon work for the farm."),
    "change-series": ("buildmaster.cli.chroots", "Which architecture builds the packages for all."),
    "add-archive": ("buildmaster.cli.archives", "Add an archive beside the primary one."),
    "change-archive": ("buildmaster.cli.archives", "What an archive's builds need, and how urgent they are."),
    "archive-published": ("buildmaster.cli.archives", "Say that an archive has something new."),
    "change-source": ("buildmaster.cli.archives", "What builds of a source package need."),
    "archives": ("buildmaster.cli.archives", "Archives, and what waits of each."),
    "archive": ("buildmaster.cli.archive", "Archives that the farm publishes: make, look after."),
    "add-chroot": ("buildmaster.cli.chroots", "Add or replace a chroot."),
    "remove-chroot": ("buildmaster.cli.chroots", "Let a pocket have no chroot of its own."),
    "chroots": ("buildmaster.cli.chroots", "The chroots, those of pockets as well."),
    "submit": ("buildmaster.cli.submit", "Add a source package, and build it."),
    "upload": ("buildmaster.cli.uploads", "Upload a package to an archive, as dput does."),
    "uploads": ("buildmaster.cli.uploads", "What was uploaded, and what was wrong with it."),
    "queue": ("buildmaster.cli.lists", "What waits, in order, and for what."),
    "why": ("buildmaster.cli.why", "What keeps a build from running."),
    "when": ("buildmaster.cli.when", "When a build begins and ends."),
    "builds": ("buildmaster.cli.lists", "Builds, newest first."),
    "builders": ("buildmaster.cli.lists", "Builders, and what they do."),
    "masters": ("buildmaster.cli.masters", "Who runs the farm, and how many builders each has."),
    "show": ("buildmaster.cli.show", "All about one build."),
    "log": ("buildmaster.cli.log", "A build's log, as it grows."),
    "fetch": ("buildmaster.cli.fetch", "Copy what a build made."),
    "verify": ("buildmaster.cli.verify", "What a package was built from, as it is signed."),
    "reproduce": ("buildmaster.cli.reproduce", "Build again what was built, and compare."),
    "provenance": ("buildmaster.cli.provenance", "Signed statements of what was built from what."),
    "rebuild": ("buildmaster.cli.rebuild", "Build sources again that have not changed."),
    "retry": ("buildmaster.cli.change", "Build again what did not end well."),
    "cancel": ("buildmaster.cli.change", "Stop builds, or take them off the queue."),
    "score": ("buildmaster.cli.change", "Give a build a score by hand."),
    "give": ("buildmaster.cli.builders", "Give a builder a build as its next one."),
    "change-builder": ("buildmaster.cli.builders", "Which builds a builder may have."),
    "builder-cleaned": ("buildmaster.cli.builders", "Say that the reset of a builder is over."),
    "enable-builder": ("buildmaster.cli.builders", "Let a builder have builds again."),
    "disable-builder": ("buildmaster.cli.builders", "Give a builder no more builds."),
    "backup": ("buildmaster.cli.backup", "Copy the whole farm to a safe place."),
    "restore": ("buildmaster.cli.backup", "Make a farm of a backup."),
    "store": ("buildmaster.cli.store", "Look after the farm's files."),
}


@click.group(
    cls=LazyGroup,
    commands_in=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has its own help, with an example: buildmaster submit --help",
)
@click.option("-c", "--config", "--configuration", type=FILE, help="Configuration file.  [env: BUILDMASTER_CONFIG]")
@click.option("-d", "--dir", "directory", type=DIRECTORY, help="The farm's directory.  [env: BUILDMASTER_DIR]")
@click.option("-q", "--quiet", is_flag=True, help="No hints; of the log, warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More of the log.")
@click.option("-l", "--log-file", type=FILE, metavar="FILE", help="Write the log of `run` there, not to stderr.")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.version_option(None, "--version", package_name="debfarm", prog_name="buildmaster")
@pass_session
def main(session: Session, /, quiet: bool, verbose: bool, **given: Any) -> None:
    """Run a farm that builds Debian packages.

    \b
    Begin with:
      buildmaster --dir farm init --distribution debian --series bookworm --architecture amd64 \\
          --archive-line "deb http://deb.debian.org/debian bookworm main"
    """
    for name, value in given.items():
        setattr(session, name, value)
    session.verbosity = verbose - quiet
    session.output.quiet = quiet
