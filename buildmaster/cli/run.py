"""The command `run`: the master itself, in the foreground."""

import click

from buildmaster.cli.farms import config_of
from buildmaster.cli.group import Session, pass_session
from buildmaster.cli.logging import begin_logging


@click.command()
@pass_session
def run(session: Session, /) -> None:
    """Run the master: give builds to builders, and collect what they made.

    It stays in the foreground and ends on Ctrl+C or SIGTERM; what is being built goes on, and is found again at the
    next start. The log goes to stderr, or to --log-file.

    \b
    Example:
      buildmaster --dir farm run
    """
    config = config_of(session)
    begin_logging(session)
    from buildmaster.service import run as run_master  # noqa: PLC0415

    run_master(config)
