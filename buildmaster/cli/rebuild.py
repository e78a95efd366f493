"""The command `rebuild`: binary rebuilds."""

import os
import socket
import time

import click
from sqlalchemy import Connection

from buildmaster import distributions, listings, rebuilding
from buildmaster.cli.archives import names_of
from buildmaster.cli.documents import build_document
from buildmaster.cli.farms import choose_series, config_of, farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.numbers import pocket_option
from buildmaster.cli.text import count
from buildmaster.config import MasterConfig
from buildmaster.farm import Farm
from buildmaster.rebuilding import Rebuild, RebuildRefused, Where, Why
from buildmaster.scoring import Pocket


@click.command()
@click.argument("names", metavar="[SOURCE]...", nargs=-1)
@click.option("--reason", required=True, help="What the packages' changelog says of it, in a line.")
@click.option("--depends-on", metavar="PACKAGE", multiple=True, help="All sources of which a package depends on this.")
@click.option("--build-depends-on", metavar="PACKAGE", multiple=True, help="All sources that build-depend on this.")
@click.option("--archive", default=distributions.PRIMARY, show_default=True, help="[DISTRIBUTION/]ARCHIVE of them.")
@click.option("--series", metavar="SERIES", help="Series, or DISTRIBUTION/SERIES; needed when there are several.")
@pocket_option("Pocket of the series.")
@click.option("--maintainer", metavar="NAME <ADDRESS>", help="Who says so.  [default: $DEBFULLNAME <$DEBEMAIL>]")
@click.option("--dry-run", is_flag=True, help="Say what would be rebuilt, and do nothing.")
@json_option
@pass_session
def rebuild(
    session: Session,
    /,
    *,
    names: tuple[str, ...],
    reason: str,
    depends_on: tuple[str, ...],
    build_depends_on: tuple[str, ...],
    archive: str,
    series: str | None,
    pocket: Pocket,
    maintainer: str | None,
    dry_run: bool,
) -> int:
    """Build sources again that have not changed, since what they were built with has: binNMUs.

    Their packages have +b1 at the end of their version, the next time +b2, on all architectures alike. Packages for all
    architectures have their source's version, and stay: where a source makes nothing else, upload a new version. Exit
    status 1 when one of those that were named cannot be rebuilt.

    \b
    Example:
      buildmaster rebuild --archive mine --reason "Rebuild against libfoo2" --depends-on libfoo1
    """
    if not (names or depends_on or build_depends_on):
        raise click.UsageError("name sources, or give --depends-on or --build-depends-on")
    why = Why(reason, maintainer or _maintainer(config_of(session)))
    with farm_of(session) as farm:
        with farm.reading() as connection:
            where = _where(connection, archive, series, pocket)
            found = [*names]
            for each in depends_on:
                found += rebuilding.dependants(connection, where, each)
            found += [
                name for each in build_depends_on for name in rebuilding.build_dependants(connection, where, each)
            ]
        found = list(dict.fromkeys(found))
        done, refused = ([], {}) if dry_run else _rebuild(farm, where, found, why)
        _tell(session, farm, found, done, refused)
    return 1 if refused.keys() & set(names) else 0


def _where(connection: Connection, archive: str, series: str | None, pocket: Pocket) -> Where:
    distribution, own = names_of(connection, archive)
    wanted = series if series is None or "/" in series else f"{distribution}/{series}"
    of, series_name = choose_series(connection, wanted)
    if of != distribution:
        raise Refusal(f"{of}/{series_name} is no series of {distribution}, which the archive {own} is for")
    return Where(
        distributions.find_archive(connection, distribution, own),
        distributions.find_series(connection, distribution, series_name),
        pocket,
    )


def _rebuild(farm: Farm, where: Where, names: list[str], why: Why) -> tuple[list[Rebuild], dict[str, str]]:
    """Rebuild each source, in a transaction each; what could not be, and why not, is the second."""
    done, refused = [], {}
    for name in names:
        try:
            done.append(farm.write(rebuilding.rebuild, where, name, why, time.time()))
        except RebuildRefused as error:
            refused[name] = str(error)
    return done, refused


def _tell(session: Session, farm: Farm, found: list[str], done: list[Rebuild], refused: dict[str, str]) -> None:
    ids = [build_id for each in done for build_id in each.build_ids]
    for each in done:
        numbers = ", ".join(map(str, each.build_ids))
        many = count(len(each.build_ids), "build")
        session.output.say(f"{each.source} {each.version}+b{each.number}: {many}: {numbers}")
    for name, why in refused.items():
        click.echo(f"buildmaster: {name}: {why}", err=True)
    for name in found if not (done or refused) else ():
        session.output.say(name)
    if not found:
        session.output.say("nothing depends on it")
    if session.output.as_json:
        with farm.reading() as connection:
            builds = sorted(listings.builds(connection, ids=ids), key=lambda each: each.id) if ids else []
        told = [{"source": name, "why": why} for name, why in refused.items()]
        session.output.document(
            {"sources": found, "builds": [build_document(each) for each in builds], "refused": told}
        )


def _maintainer(config: MasterConfig) -> str:
    """Who rebuilds, as devscripts would say."""
    address = os.environ.get("DEBEMAIL") or os.environ.get("EMAIL") or config.sender or f"debfarm@{socket.getfqdn()}"
    return address if "<" in address else f"{os.environ.get('DEBFULLNAME') or 'debfarm'} <{address}>"
