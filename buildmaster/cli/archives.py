"""The commands about archives: add-archive, change-archive, archive-published, change-source, archives."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from buildd.settings import parse_duration
from buildmaster import archives as farm_archives
from buildmaster import depwaits, distributions, listings, tags
from buildmaster import needs as farm_needs
from buildmaster.apt_sources import without_login
from buildmaster.archives import Archive, Changes
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.setup import parse_apt_line, read_key
from buildmaster.cli.text import count
from buildmaster.farm import Farm
from buildmaster.notifications import parse_addresses
from buildmaster.scoring import ArchivePurpose

_SCORE_MAX = 1_000_000
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_WEIGHTS = click.FloatRange(0.001, 1000)
_PURPOSES = [each.lower() for each in ArchivePurpose if each is not ArchivePurpose.PRIMARY]


def _timeout(word: str) -> float:
    """Seconds; 0 for the word `default`. A type of parameter, for click."""
    if word == "default":
        return 0.0
    try:
        return parse_duration(word)
    except ValueError as error:
        raise click.BadParameter(f"{word!r} {error}, or `default`") from error


def archive_options(command: Any) -> Any:
    """Add to a command what may be said of an archive."""
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--private/--public", default=None,
            help="Its builds come first; and where the farm publishes it, only those who are let may read it.",
        ),
        click.option(
            "--relative-score",
            type=click.IntRange(-_SCORE_MAX, _SCORE_MAX),
            help="Added to the score of each of its builds.",
        ),
        click.option("--weight", type=_WEIGHTS, help="Of its share of the builders; 1 at first."),
        click.option("--virtualised/--any-builder", default=None, help="Build on virtualised builders only."),
        click.option("--needs", metavar="TAG", multiple=True, help="Build on builders that have this resource tag."),
        click.option("--no-needs", is_flag=True, help="Its builds need no resource tags, but for their own."),
        click.option("--notify", metavar="ADDRESS", multiple=True, help="Who is told of builds that end badly."),
        click.option("--no-notify", is_flag=True, help="Tell nobody."),
        click.option(
            "--build-timeout",
            "build_timeout_s",
            metavar="DURATION",
            type=_timeout,
            help="For how long a builder may have a build of it (72h); `default`: what buildmaster.conf says.",
        ),
        click.option(
            "--archive-line", "lines", metavar="LINE", multiple=True,
            help="A line of sources.list for its builds, in place of the primary archive's; these replace what it had.",
        ),
        click.option("--no-archive-lines", is_flag=True, help="Its builds have those of the primary archive again."),
        click.option(
            "--trusted-key", "keys", metavar="FILE", multiple=True, type=_FILE,
            help="OpenPGP public key for its archive lines; these replace what it had.",
        ),
        click.option("--no-trusted-keys", is_flag=True, help="It has no keys for archive lines."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@click.option("--purpose", type=click.Choice(_PURPOSES), default="ppa", show_default=True, help="What it is for.")
@archive_options
@json_option
@pass_session
def add_archive(session: Session, /, *, name: str, purpose: str, **said: Any) -> None:
    """Add an archive, beside the primary one that each distribution has.

    \b
    Example:
      buildmaster add-archive debian/rebuild --purpose copy --relative-score -50
    """

    def add(connection: Connection) -> int:
        distribution, own = names_of(connection, name)
        archive_id = farm_archives.add(connection, distribution, own, ArchivePurpose(purpose.upper()))
        _change(connection, archive_id, distribution, own, **said)
        return archive_id

    with farm_of(session) as farm:
        _show(session, farm, farm.write(add))


@click.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@archive_options
@json_option
@pass_session
def change_archive(session: Session, /, *, name: str, **said: Any) -> None:
    """Change an archive, and with it what its builds that wait need, and how urgent they are.

    A score that was given by hand stays. What a builder has is built to its end first.

    \b
    Example:
      buildmaster change-archive debian/embargoed --private --relative-score 500
    """

    def change(connection: Connection) -> int:
        distribution, own = names_of(connection, name)
        archive_id = distributions.find_archive(connection, distribution, own)
        _change(connection, archive_id, distribution, own, **said)
        return archive_id

    with farm_of(session) as farm:
        _show(session, farm, farm.write(change))


@click.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@json_option
@pass_session
def archive_published(session: Session, /, *, name: str) -> None:
    """Say that something was published in an archive.

    Builds of it that wait for build-dependencies are then looked at at once, and not when the master asks the archive
    the next time. For what publishes to call, when it has done so.

    \b
    Example:
      buildmaster archive-published debian/primary
    """

    def tell(connection: Connection) -> tuple[str, str, int]:
        """Its distribution and name, and how many builds will be looked at again."""
        distribution, own = names_of(connection, name)
        archive_id = distributions.find_archive(connection, distribution, own)
        depwaits.published(connection, archive_id, time.time())
        return distribution, own, depwaits.count(connection, archive_id)

    with farm_of(session) as farm:
        distribution, own, waiting = farm.write(tell)
    wait = "1 build waits" if waiting == 1 else f"{waiting} builds wait"
    session.output.say(f"archive {distribution}/{own}: published; {wait} for build-dependencies")
    if session.output.as_json:
        session.output.document({"distribution": distribution, "name": own, "waiting": waiting})


@click.command()
@click.argument("name", metavar="SOURCE")
@click.option("--archive", default=distributions.PRIMARY, show_default=True, help="[DISTRIBUTION/]ARCHIVE it is in.")
@click.option("--needs", metavar="TAG", multiple=True, help="Build it on builders that have this resource tag.")
@click.option("--no-needs", is_flag=True, help="It needs no resource tags.")
@json_option
@pass_session
def change_source(session: Session, /, *, name: str, archive: str, needs: tuple[str, ...], no_needs: bool) -> None:
    """Say what builds of a source package need of a builder, whatever its version, from now on.

    Tags that are given take the place of those that it had. What waits is changed with it.

    \b
    Example:
      buildmaster change-source libreoffice --needs large
    """
    if bool(needs) == no_needs:
        raise click.UsageError("give --needs or --no-needs")

    def change(connection: Connection) -> tuple[str, str, str]:
        distribution, own = names_of(connection, archive)
        archive_id = distributions.find_archive(connection, distribution, own)
        farm_needs.set_of_source(connection, archive_id, name, tags.parse(needs), time.time())
        return distribution, own, farm_needs.of_source(connection, archive_id, name)

    with farm_of(session) as farm:
        distribution, own, found = farm.write(change)
    what = f"needs {found.replace(' ', ', ')}" if found else "needs no resource tags"
    session.output.say(f"source {name} in {distribution}/{own}: {what}")
    if session.output.as_json:
        session.output.document({"source": name, "distribution": distribution, "archive": own, "needs": found.split()})


@click.command()
@json_option
@pass_session
def archives(session: Session, /) -> None:
    """List the archives, and how many builds of each wait.

    \b
    Example:
      buildmaster archives
    """
    with farm_of(session) as farm, farm.reading() as connection:
        every = farm_archives.every(connection)
    columns = [Column("archive"), Column("purpose"), Column("score", right=True), Column("weight", right=True)]
    columns += [Column("waiting", right=True), Column("what", wide=True)]
    rows = [
        (
            f"{each.distribution}/{each.name}",
            each.purpose.lower(),
            f"{each.relative_score:+}",
            f"{each.weight:g}",
            str(each.waiting),
            _kind(each) or "-",
        )
        for each in every
    ]
    document = {"archives": [_document(each) for each in every]}
    empty = "No archives. Each distribution has one: buildmaster init --distribution NAME"
    session.output.listing(document, columns, rows, empty)


def names_of(connection: Connection, name: str) -> tuple[str, str]:
    """The distribution and archive meant.

    :raises Refusal: it does not say which distribution, and there are several, or none.
    """
    if "/" in name:
        distribution, _, own = name.partition("/")
        return distribution, own
    known = listings.distributions(connection)
    if len(known) != 1:
        there = f"there are {', '.join(known)}" if known else "there is none: `buildmaster init --distribution NAME`"
        raise Refusal(f"say of which distribution, as in {(known or ['debian'])[0]}/{name}; {there}")
    return known[0], name


def _change(
    connection: Connection,
    archive_id: int,
    distribution: str,
    own: str,
    *,
    needs: tuple[str, ...],
    no_needs: bool,
    notify: tuple[str, ...],
    no_notify: bool,
    lines: tuple[str, ...],
    no_archive_lines: bool,
    keys: tuple[Path, ...],
    no_trusted_keys: bool,
    **said: Any,
) -> None:
    for some, none, both in (
        ("--needs", "--no-needs", needs and no_needs),
        ("--notify", "--no-notify", notify and no_notify),
        ("--archive-line", "--no-archive-lines", lines and no_archive_lines),
        ("--trusted-key", "--no-trusted-keys", keys and no_trusted_keys),
    ):
        if both:
            raise click.UsageError(f"{none} does not go together with {some}")
    told = parse_addresses(notify) if notify or no_notify else None
    wanted = tags.parse(needs) if needs or no_needs else None
    farm_archives.change(connection, archive_id, Changes(tags=wanted, notify=told, **said), time.time())
    if lines or no_archive_lines:
        apt_lines = "\n".join(parse_apt_line(line, None) for line in lines)
        distributions.set_apt_lines(connection, distribution, own, apt_lines)
    if keys or no_trusted_keys:
        distributions.set_trusted_keys(connection, distribution, own, [read_key(key) for key in keys])


def _show(session: Session, farm: Farm, archive_id: int) -> None:
    with farm.reading() as connection:
        found = next(each for each in farm_archives.every(connection) if each.id == archive_id)
    kind = _kind(found)
    session.output.say(
        f"archive {found.distribution}/{found.name}: {found.purpose.lower()}, score {found.relative_score:+}, "
        f"weight {found.weight:g}" + (f", {kind}" if kind else "")
    )
    if session.output.as_json:
        session.output.document(_document(found))


def _kind(archive: Archive) -> str:
    words = ["private"] if archive.private else []
    words += ["virtualised builders"] if archive.virtualised else []
    words += [f"needs {archive.tags.replace(' ', ', ')}"] if archive.tags else []
    words += [f"{archive.build_timeout_s / 3600:.3g} h for a build"] if archive.build_timeout_s else []
    words += [f"tells {archive.notify.replace(' ', ', ')}"] if archive.notify else []
    words += [count(len(archive.apt_lines.splitlines()), "archive line")] if archive.apt_lines else []
    words += [count(archive.trusted_keys, "trusted key")] if archive.trusted_keys else []
    return ", ".join(words)


def _document(archive: Archive) -> dict[str, object]:
    return {
        "distribution": archive.distribution,
        "name": archive.name,
        "purpose": archive.purpose.lower(),
        "private": archive.private,
        "relative_score": archive.relative_score,
        "weight": archive.weight,
        "virtualised": archive.virtualised,
        "needs": archive.tags.split(),
        "notify": archive.notify.split(),
        "build_timeout_s": archive.build_timeout_s or None,
        "archive_lines": without_login(archive.apt_lines).splitlines(),
        "trusted_keys": archive.trusted_keys,
        "waiting": archive.waiting,
    }
