"""Of the group `archive`, what is about packages: packages, copy, promote, delete, hold, release."""

import time
from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import Connection

from buildmaster import copying, holding, publications, repositories
from buildmaster.cli.archive import published
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.text import count, stamp
from buildmaster.copying import Moved
from buildmaster.publications import PRESENT, WANTED, Publication, State, Suite

_NAME = click.argument("name", metavar="[DISTRIBUTION/]NAME")
_SOURCES = click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
_VERSION = click.option("--version", metavar="VERSION", help="Not the newest version that is there, but this one.")


def _move_options(command: Any) -> Any:
    """Add to a command what may be said of from where to where packages go."""
    options = [
        click.option(
            "--from", "origin", metavar="SUITE", help="The suite that they are in; it may be left out if it is one."
        ),
        click.option(
            "--to", "target", metavar="SUITE", help="The suite that they are to be in; else one of the same name."
        ),
        click.option(
            "--to-archive", metavar="[DISTRIBUTION/]NAME", help="The archive of that suite; else the same one."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_NAME
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.option("--suite", metavar="SUITE", help="Of this suite alone, such as bookworm-proposed.")
@click.option("--all", "history", is_flag=True, help="Those as well that are gone.")
@json_option
@pass_session
def packages(session: Session, /, *, name: str, sources: tuple[str, ...], suite: str | None, history: bool) -> None:
    """List the packages of an archive, and how far each is published.

    \b
    Example:
      buildmaster archive packages mine hello --all
    """
    with farm_of(session) as farm, farm.reading() as connection:
        found = published(connection, name)
        where = None if suite is None else copying.find_suite(connection, found.archive_id, suite)
        suites = {each.suite: each.name for each in publications.suites_of(connection, found.archive_id)}
        states = frozenset(State) if history else PRESENT
        every = publications.in_archive(connection, found.archive_id, states, sources)
    every = [each for each in every if where in (None, each.suite)]
    columns = [Column("package"), Column("version"), Column("architecture"), Column("suite"), Column("component")]
    columns += [Column("state"), Column("source"), Column("reason", wide=True)]
    rows = [
        (each.name, each.version, each.architecture, suites[each.suite], each.component, each.state.lower(),
         f"{each.source} {each.source_version}", each.reason)
        for each in every
    ]  # fmt: skip
    document = {"packages": [_document(each, suites[each.suite]) for each in every]}
    session.output.listing(document, columns, rows, "None.")


@click.command()
@_NAME
@_SOURCES
@_move_options
@_VERSION
@json_option
@pass_session
def copy(session: Session, /, *, name: str, sources: tuple[str, ...], **said: Any) -> None:
    """Let source packages be in another suite or archive as well, with what was built of them, as it is.

    Nothing is built. All of them are copied, or none.

    \b
    Example:
      buildmaster archive copy mine hello --to-archive stable
    """
    _move(session, name, sources, copying.copy, "copied", **said)


@click.command()
@_NAME
@_SOURCES
@_move_options
@_VERSION
@json_option
@pass_session
def promote(session: Session, /, *, name: str, sources: tuple[str, ...], **said: Any) -> None:
    """Let source packages be in another suite or archive instead, with what was built of them, as it is.

    \b
    Example:
      buildmaster archive promote mine hello --from bookworm-proposed --to bookworm
    """
    _move(session, name, sources, copying.promote, "promoted", **said)


@click.command()
@_NAME
@_SOURCES
@click.option("--suite", metavar="SUITE", help="The suite that they are in; it may be left out if it is one.")
@click.option("--reason", metavar="WORDS", default="deleted by hand", show_default=True, help="Why; it is kept.")
@_VERSION
@json_option
@pass_session
def delete(
    session: Session, /, *, name: str, sources: tuple[str, ...], suite: str | None, reason: str, version: str | None
) -> None:
    """Have source packages leave a suite, with what was built of them; what is queued of them is not built.

    Their files stay for a while, for who has an older index; docs/archives.md.

    \b
    Example:
      buildmaster archive delete mine hello --reason "has a bug"
    """

    def write(connection: Connection) -> list[Moved]:
        """All of them are found before the first one leaves: all do, or none."""
        found = published(connection, name)
        where = None if suite is None else copying.find_suite(connection, found.archive_id, suite)
        these = [copying.find(connection, found.archive_id, each, where, version) for each in sources]
        return [copying.delete(connection, each, reason, time.time()) for each in these]

    with farm_of(session) as farm:
        _tell(session, farm.write(write), "deleted")


@click.command()
@_NAME
@_SOURCES
@click.option("--on", "hold", flag_value="on", help="Hold new versions until all architectures have them.")
@click.option("--off", "hold", flag_value="off", help="Do not.")
@click.option("--default", "hold", flag_value="default", help="As the archive says.")
@json_option
@pass_session
def hold(session: Session, /, *, name: str, sources: tuple[str, ...], hold: str | None) -> None:
    """Say of source packages whether new versions are held until all architectures have them.

    \b
    Example:
      buildmaster archive hold mine libhello --on
    """
    if hold is None:
        raise click.UsageError("give --on, --off or --default")
    wanted = {"on": True, "off": False, "default": None}[hold]

    def write(connection: Connection) -> None:
        found = published(connection, name)
        for each in sources:
            repositories.set_hold(connection, found.archive_id, each, wanted)

    with farm_of(session) as farm:
        farm.write(write)
    for each in sources:
        session.output.say(f"{each}: {'as the archive says' if wanted is None else hold}, from the next version on")
    if session.output.as_json:
        session.output.document({"sources": list(sources), "hold": wanted})


@click.command()
@_NAME
@_SOURCES
@click.option("--without", metavar="ARCH", multiple=True, help="Do not wait for this architecture.")
@json_option
@pass_session
def release(session: Session, /, *, name: str, sources: tuple[str, ...], without: tuple[str, ...]) -> None:
    """Publish what is held of source packages, whatever is lacking; or wait for less.

    \b
    Example:
      buildmaster archive release mine hello --without armhf
    """

    def write(connection: Connection) -> list[tuple[str, str, bool, list[str]]]:
        """Of each version that was held: its source, itself, whether it goes, and what it lacked that it waits for."""
        found = published(connection, name)
        told = []
        for each in sources:
            held = [one for one in publications.named(connection, found.archive_id, each) if one.state is State.HELD]
            if not held:
                raise Refusal(f"nothing of {each} is held in {found.words}")
            for source_id, version in sorted({(one.source_id, one.source_version) for one in held}):
                now = time.time()
                lacks = holding.lacking(connection, source_id)
                goes = (
                    holding.waive(connection, source_id, without, now)
                    if without
                    else holding.let_go(connection, source_id, now)
                )
                told.append((each, version, goes, [one for one in lacks if one not in without]))
        return told

    with farm_of(session) as farm:
        told = farm.write(write)
    for source, version, goes, lacks in told:
        waits = f"still waits for {', '.join(lacks)}"
        session.output.say(f"{source} {version}: {'is published' if goes else waits}")
    if session.output.as_json:
        released = [
            {"source": source, "version": version, "released": goes, "lacks": [] if goes else lacks}
            for source, version, goes, lacks in told
        ]
        session.output.document({"sources": released})


def _move(
    session: Session,
    name: str,
    sources: tuple[str, ...],
    move: Callable[[Connection, list[Publication], Suite, float], Moved],
    verb: str,
    *,
    origin: str | None,
    target: str | None,
    to_archive: str | None,
    version: str | None,
) -> None:
    def write(connection: Connection) -> list[Moved]:
        """One after the other, in one transaction: what one of them refuses holds for all."""
        found = published(connection, name)
        there = found if to_archive is None else published(connection, to_archive)
        where = None if origin is None else copying.find_suite(connection, found.archive_id, origin)
        known = {each.suite: each.name for each in publications.suites_of(connection, found.archive_id)}
        moved = []
        for each in sources:
            what = copying.find(connection, found.archive_id, each, where, version)
            to = copying.find_suite(connection, there.archive_id, target or known[what[0].suite])
            if to == what[0].suite:
                raise Refusal(f"{each} is there already: say with --to or --to-archive where it is to be")
            moved.append(move(connection, what, to, time.time()))
        return moved

    with farm_of(session) as farm:
        _tell(session, farm.write(write), verb)
        if to_archive is not None:
            with farm.reading() as connection:
                found, there = published(connection, name), published(connection, to_archive)
            if found.private and not there.private:
                session.output.hint(f"{found.words} is private, and {there.words} is not: everybody may read them now.")


def _tell(session: Session, moved: list[Moved], verb: str) -> None:
    for each in moved:
        session.output.say(f"{each.source} {each.version}: {count(each.packages, 'package')} {verb}")
    if session.output.as_json:
        session.output.document({"sources": [vars(each) for each in moved]})


def _document(each: Publication, suite: str) -> dict[str, object]:
    return {
        "package": each.name,
        "version": each.version,
        "architecture": each.architecture,
        "suite": suite,
        "component": each.component,
        "state": each.state.lower(),
        "wanted": each.state in WANTED,
        "reason": each.reason,
        "source": each.source,
        "source_version": each.source_version,
        "created_at": stamp(each.created_at),
        "published_at": stamp(each.published_at),
        "gone_at": stamp(each.gone_at),
    }
