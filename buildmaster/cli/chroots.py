"""The commands about series and their chroots: change-series, add-chroot, remove-chroot, chroots."""

from pathlib import Path

import click
from sqlalchemy import Connection

from buildmaster import chroots as farm_chroots
from buildmaster import distributions, listings
from buildmaster.cli.chroot_check import check_chroot
from buildmaster.cli.documents import chroot_document, place_document
from buildmaster.cli.farms import DEFAULT_DISTRIBUTION, choose_series, farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.numbers import pocket_option
from buildmaster.cli.output import Column
from buildmaster.cli.text import count, moment, size
from buildmaster.scoring import Pocket


@click.command()
@click.argument("series", metavar="[DISTRIBUTION/]SERIES")
@click.argument("architecture", metavar="ARCH")
@click.argument("file", metavar="FILE.tar.gz", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pocket_option("Of this pocket only, and those that build on it and have none.")
@click.option("--no-check", is_flag=True, help="Take the file as it is, for trying out what a broken one does.")
@json_option
@pass_session
def add_chroot(
    session: Session, /, *, series: str, architecture: str, file: Path, pocket: Pocket, no_check: bool
) -> None:
    """Add a chroot, or put a newer one in the place of the one there is.

    The file is a tar archive (plain, .gz, .bz2, .xz, .zst) of a Debian system for building, either directly or in one
    folder chroot-autobuild/. A series or architecture that the farm does not know yet is added. Builds that waited for
    a chroot go into the queue.

    A pocket may have a chroot of its own. A build is given the first that is set on the way from its pocket down to
    release: proposed and backports build on updates, updates on security, security on release.

    \b
    Example:
      mmdebstrap --variant=buildd bookworm bookworm-amd64.tar.gz
      buildmaster add-chroot debian/bookworm amd64 bookworm-amd64.tar.gz
    """
    with farm_of(session) as farm:
        with farm.reading() as connection:
            distribution, name = _place_to_be(connection, series)
        if not no_check:
            check_chroot(file, architecture)
        released = farm.add_chroot(distribution, name, architecture, file, pocket=pocket)
        with farm.reading() as connection:
            place = _place(connection, distribution, name, architecture)
            every = farm_chroots.every(connection)
    (chroot,) = (each for each in every if _names(each) == (distribution, name, architecture, pocket))
    of = "" if pocket is Pocket.RELEASE else f" {pocket.lower()}"
    session.output.say(f"{distribution} {name}{of} {architecture} has a chroot: SHA-256 {chroot.sha256}")
    if released:
        session.output.say(f"{count(released, 'build')} that waited for it: now in the queue")
    if session.output.as_json:
        document = {"place": place_document(place), "chroot": chroot_document(chroot), "released": released}
        session.output.document(document)


def _names(chroot: farm_chroots.Set) -> tuple[str, str, str, Pocket]:
    return chroot.distribution, chroot.series, chroot.architecture, chroot.pocket


def _place(connection: Connection, *names: str) -> listings.Place:
    """An architecture of a series, which is there."""
    places = listings.places(connection)
    return next(each for each in places if (each.distribution, each.series, each.architecture) == names)


def _place_to_be(connection: Connection, series: str) -> tuple[str, str]:
    """The distribution and series meant, which may be new.

    :raises Refusal: it does not say which distribution, and that is not clear.
    """
    if "/" in series:
        distribution, _, name = series.partition("/")
        return distribution, name
    places = listings.places(connection)
    having = sorted({place.distribution for place in places if place.series == series})
    known = having or listings.distributions(connection)
    if len(known) == 1:
        return known[0], series
    raise Refusal(
        f"say which distribution {series!r} belongs to, as in {(known or [DEFAULT_DISTRIBUTION])[0]}/{series}"
    )


@click.command()
@click.argument("series", metavar="[DISTRIBUTION/]SERIES")
@click.argument("architecture", metavar="ARCH")
@pocket_option("The pocket that is to have no chroot of its own any more.", required=True)
@json_option
@pass_session
def remove_chroot(session: Session, /, *, series: str, architecture: str, pocket: Pocket) -> None:
    """Let a pocket have no chroot of its own any more: its builds use that of the pocket below it.

    \b
    Example:
      buildmaster remove-chroot bookworm amd64 --pocket updates
    """
    if pocket is Pocket.RELEASE:
        raise click.UsageError("that of release is what all builds fall back to: add another in its place")

    def remove(connection: Connection) -> tuple[str, str, list[farm_chroots.Set]]:
        distribution, name = choose_series(connection, series)
        series_id = distributions.find_series(connection, distribution, name)
        place = distributions.find_architecture(connection, series_id, architecture)
        if not farm_chroots.remove(connection, place, pocket):
            raise Refusal(f"{distribution} {name} {pocket.lower()} {architecture} has no chroot of its own")
        return distribution, name, farm_chroots.every(connection)

    with farm_of(session) as farm:
        distribution, name, every = farm.write(remove)
    session.output.say(f"{distribution} {name} {pocket.lower()} {architecture} has no chroot of its own any more")
    if session.output.as_json:
        session.output.document({"chroots": [chroot_document(each) for each in every]})


@click.command()
@json_option
@pass_session
def chroots(session: Session, /) -> None:
    """List the chroots, those of pockets as well.

    \b
    Example:
      buildmaster chroots
    """
    with farm_of(session) as farm, farm.reading() as connection:
        every = farm_chroots.every(connection)
    columns = [Column("series"), Column("arch"), Column("pocket"), Column("size", right=True), Column("added")]
    columns += [Column("file", wide=True), Column("sha256")]
    rows = [
        (
            f"{each.distribution}/{each.series}",
            each.architecture,
            each.pocket.lower(),
            size(each.size),
            moment(each.set_at),
            each.name,
            each.sha256,
        )
        for each in every
    ]
    add = session.command_on(farm.directory, "add-chroot SERIES ARCH FILE.tar.gz")
    document = {"chroots": [chroot_document(each) for each in every]}
    session.output.listing(document, columns, rows, f"No chroots. Add one with: {add}", whole_lines=True)


@click.command()
@click.argument("series", metavar="[DISTRIBUTION/]SERIES")
@click.option("--nominated", metavar="ARCH", required=True, help="Builds the packages for all architectures.")
@json_option
@pass_session
def change_series(session: Session, /, *, series: str, nominated: str) -> None:
    """Let another architecture build the packages for all architectures (arch:all), of sources that come from now on.

    A source may say otherwise by Build-Indep-Architecture.

    \b
    Example:
      buildmaster change-series bookworm --nominated arm64
    """

    def change(connection: Connection) -> tuple[str, str, listings.Place]:
        distribution, name = choose_series(connection, series)
        series_id = distributions.find_series(connection, distribution, name)
        distributions.set_nominated(connection, series_id, nominated)
        return distribution, name, _place(connection, distribution, name, nominated)

    with farm_of(session) as farm:
        distribution, name, place = farm.write(change)
    session.output.say(f"{distribution} {name}: arch:all is built on {nominated}")
    if session.output.as_json:
        session.output.document(place_document(place))
