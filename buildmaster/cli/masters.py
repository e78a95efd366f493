"""The command `masters`: who runs the farm."""

import click

from buildmaster import masters as farm_masters
from buildmaster.cli.documents import master_document
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.text import elapsed


@click.command()
@json_option
@pass_session
def masters(session: Session, /) -> None:
    """List the masters that run the farm, and how many builders each holds.

    One that is silent was killed, or hangs: the others take its builders, and it is listed no more. Times are those of
    the database's clock.

    \b
    Example:
      buildmaster masters
    """
    with farm_of(session) as farm, farm.reading() as connection:
        everyone = farm_masters.everyone(connection)
    columns = [
        Column("name"),
        Column("state"),
        Column("runs", right=True),
        Column("last heard", right=True),
        Column("builders", right=True),
    ]
    rows = [
        (
            each.name,
            "silent" if each.is_silent else "runs",
            elapsed(each.heard_at + each.unheard_s - each.since),
            f"{max(0.0, each.unheard_s):.0f} s ago",
            str(each.builders),
        )
        for each in everyone
    ]
    document = {"masters": [master_document(each) for each in everyone]}
    empty = f"No master runs. Start one with: {session.command_on(farm.directory, 'run')}"
    session.output.listing(document, columns, rows, empty)
