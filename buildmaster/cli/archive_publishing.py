"""Of the group `archive`: publish, snapshot, key."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from sqlalchemy import Connection

from buildmaster import copying, publications, repositories, snapshots
from buildmaster.cli.archive import duration_or, published
from buildmaster.cli.farms import config_of, farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.text import count, moment, stamp
from buildmaster.farm import Farm
from buildmaster.publications import Suite
from buildmaster.repositories import ArchiveKey
from buildmaster.secrets import Secrets

if TYPE_CHECKING:  # It takes long to import.
    from buildmaster.publishing.publication import Outcome, Press

_NAME = click.argument("name", metavar="[DISTRIBUTION/]NAME")


@click.command()
@_NAME
@click.option("--suite", metavar="SUITE", help="This one alone.")
@click.option("--full", is_flag=True, help="Make its indices anew, whatever is there.")
@json_option
@pass_session
def publish(session: Session, /, *, name: str, suite: str | None, full: bool) -> None:
    """Publish what there is to publish, here and now.

    A master that runs does so by itself, at once. --full is for an archive whose directory was lost or damaged, and for
    one that is to keep fewer older versions: without it, these leave when their source is published the next time.

    \b
    Example:
      buildmaster archive publish mine --full
    """
    with farm_of(session) as farm:
        with farm.reading() as connection:
            found = published(connection, name)
            wanted = _suites(connection, found.archive_id, suite)
        press = _press(session, farm)
        outcomes = [outcome for each in wanted for outcome in _published(press, each, full=full)]
    for each in outcomes:
        new, left = count(each.entered, "package"), count(each.left, "package")
        session.output.say(f"{each.name}: generation {each.generation}, {new} new, {left} gone")
        for words in each.refused:
            session.output.hint(f"not published: {words}")
    for words in sorted({each.warning for each in outcomes if each.warning}):
        session.output.hint(words)
    if session.output.as_json:
        session.output.document({"suites": [{**vars(each), "refused": list(each.refused)} for each in outcomes]})


def _published(press: "Press", where: Suite, *, full: bool) -> "Iterator[Outcome]":
    """Publish a suite until there is nothing left."""
    outcome = press.publish(where, full=full, wait=True)
    yield outcome
    while outcome.more:
        outcome = press.publish(where, wait=True)
        yield outcome


def _suites(connection: Connection, archive_id: int, suite: str | None) -> list[Suite]:
    known = {each.name: each.suite for each in publications.suites_of(connection, archive_id)}
    if suite is None:
        return list(known.values())
    if suite not in known:
        copying.find_suite(connection, archive_id, suite)  # That there can be.
        raise copying.NotThere(f"nothing was ever in {suite}; there are: {', '.join(known)}")
    return [known[suite]]


@click.command()
@_NAME
@click.option(
    "--older-than",
    metavar="AGE",
    type=duration_or(),
    default="1d",
    show_default=True,
    help="What left later stays.",
)
@click.option(
    "--forget", metavar="AGE", type=duration_or(),
    help="Forget packages that have left before this time, and not when the archive says.",
)  # fmt: skip
@json_option
@pass_session
def clean(session: Session, /, *, name: str, older_than: float, forget: float | None) -> None:
    """Remove files from the pool that no index names any more, here and now.

    A master that runs does so by itself. Clients that have not updated since may still ask for younger ones. The space
    of packages that are forgotten is freed by `store check --delete-unreferenced`.

    \b
    Example:
      buildmaster archive clean mine
    """
    from buildmaster.publishing import cleaning  # noqa: PLC0415 - takes long to import.

    with farm_of(session) as farm:
        with farm.reading() as connection:
            found = published(connection, name)
        press = _press(session, farm)
        done = cleaning.clean(press, found.archive_id, older_than, forget)
    files, forgotten = count(len(done.files), "file"), count(done.forgotten, "package")
    session.output.say(f"{found.words}: {files} removed from the pool, {forgotten} forgotten")
    if session.output.as_json:
        session.output.document({**vars(done), "files": list(done.files)})


@click.group()
def snapshot() -> None:
    """An archive as it is at a moment, kept.

    \b
    Example:
      buildmaster archive snapshot take mine
      buildmaster archive snapshot list mine --json
    """


@snapshot.command()
@_NAME
@json_option
@pass_session
def take(session: Session, /, *, name: str) -> None:
    """Keep an archive as it is now, at URL/snapshot/TIME. It costs no space but that of the indices.

    \b
    Example:
      buildmaster archive snapshot take mine
    """
    from buildmaster.publishing import keeping  # noqa: PLC0415 - takes long to import.

    now = time.time()
    with farm_of(session) as farm:
        with farm.reading() as connection:
            found = published(connection, name)
        taken = keeping.take(_press(session, farm), found.archive_id, _folder(session, found.words))
    url = f"{config_of(session).url_for_archives()}/{found.words}/snapshot/{taken}"
    session.output.say(f"snapshot {taken} of {found.words}: {url}")
    if session.output.as_json:
        session.output.document({"snapshot": taken, "url": url, "taken_at": stamp(now)})


@snapshot.command(name="list")
@_NAME
@json_option
@pass_session
def list_(session: Session, /, *, name: str) -> None:
    """List the snapshots of an archive.

    \b
    Example:
      buildmaster archive snapshot list mine
    """
    base = config_of(session).url_for_archives()
    with farm_of(session) as farm, farm.reading() as connection:
        found = published(connection, name)
        every = snapshots.of(connection, found.archive_id)
    url = f"{base}/{found.words}/snapshot"
    rows = [
        (each.name, moment(each.taken_at), "by time" if each.was_due else "by hand", f"{url}/{each.name}")
        for each in every
    ]
    document = {
        "snapshots": [
            {
                "snapshot": each.name,
                "url": f"{url}/{each.name}",
                "taken_at": stamp(each.taken_at),
                "by_time": each.was_due,
            }
            for each in every
        ]
    }
    columns = [Column("snapshot"), Column("taken"), Column("how"), Column("address", wide=True)]
    session.output.listing(document, columns, rows, "None. `buildmaster archive snapshot take NAME` takes one.")


@snapshot.command()
@_NAME
@click.argument("snapshots_", metavar="SNAPSHOT...", nargs=-1, required=True)
@json_option
@pass_session
def drop(session: Session, /, *, name: str, snapshots_: tuple[str, ...]) -> None:
    """Remove snapshots of an archive.

    \b
    Example:
      buildmaster archive snapshot drop mine 20261122T120000Z
    """
    from buildmaster.publishing import keeping  # noqa: PLC0415 - takes long to import.

    with farm_of(session) as farm:
        with farm.reading() as connection:
            found = published(connection, name)
            known = {each.name for each in snapshots.of(connection, found.archive_id)}
        if lacks := [each for each in snapshots_ if each not in known]:
            raise Refusal(f"there is no snapshot {lacks[0]} of {found.words}: `archive snapshot list` lists them")
        for each in snapshots_:
            keeping.drop(_press(session, farm), found.archive_id, _folder(session, found.words), each)
            session.output.say(f"snapshot {each} of {found.words} is gone")
    if session.output.as_json:
        session.output.document({"dropped": list(snapshots_)})


@click.group()
def key() -> None:
    """What signs an archive.

    \b
    Example:
      buildmaster archive key show mine --json
    """


@key.command(short_help="The keys that an archive has had.")
@_NAME
@json_option
@pass_session
def show(session: Session, /, *, name: str) -> None:
    """Show the keys that an archive has had, and when each of them signs.

    \b
    Example:
      buildmaster archive key show mine
    """
    from buildmaster.publishing.signing import expires_at  # noqa: PLC0415 - takes long to import.

    with farm_of(session) as farm, farm.reading() as connection:
        every = repositories.keys(connection, published(connection, name).archive_id)
    ends = [expires_at(each.certificate) for each in every]
    rows = [
        (each.fingerprint, moment(each.signs_from), moment(each.signs_until), moment(end))
        for each, end in zip(every, ends, strict=True)
    ]
    document = {
        "keys": [
            {
                "fingerprint": each.fingerprint,
                "signs_from": stamp(each.signs_from),
                "signs_until": stamp(each.signs_until),
                "expires_at": stamp(end),
            }
            for each, end in zip(every, ends, strict=True)
        ]
    }
    columns = [Column("key"), Column("signs from"), Column("until"), Column("expires")]
    session.output.listing(document, columns, rows, "None.")


@key.command(short_help="The public keys, as apt takes them.")
@_NAME
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Write it there, and not to stdout.")
@json_option
@pass_session
def export(session: Session, /, *, name: str, to: Path | None) -> None:
    """Print the public keys of an archive, as apt takes them; the archive itself has them as key.asc.

    \b
    Example:
      buildmaster archive key export mine --to /etc/apt/keyrings/mine.asc
    """
    from buildmaster.publishing.signing import keyring  # noqa: PLC0415 - takes long to import.

    with farm_of(session) as farm, farm.reading() as connection:
        every = [
            key for key in repositories.keys(connection, published(connection, name).archive_id) if _is_of_use(key)
        ]
    text = keyring([each.certificate for each in every])
    if session.output.as_json:
        session.output.document({"keys": [each.fingerprint for each in every], "certificates": text})
    elif to is None:
        click.echo(text, nl=False)
    if to is not None:
        to.write_text(text)


@key.command()
@_NAME
@click.option(
    "--overlap", metavar="DURATION", type=duration_or("none"), default="30d", show_default=True,
    help="For how long the old key signs as well, for clients that have not the new one; none: it signs no more.",
)  # fmt: skip
@json_option
@pass_session
def rotate(session: Session, /, *, name: str, overlap: float) -> None:
    """Let an archive have a new key, which signs from now on; the old one does as well, for a while.

    Clients have to be given the new one within that time: `archive key export`, or key.asc of the archive itself.

    \b
    Example:
      buildmaster archive key rotate mine --overlap 90d
    """
    from buildmaster.publishing import archive_keys  # noqa: PLC0415 - takes long to import.

    now = time.time()
    with farm_of(session) as farm:
        with farm.reading() as connection:
            found = published(connection, name)
        new = archive_keys.make(Secrets(config_of(session).secrets_directory), found.words, now)

        def write(connection: Connection) -> None:
            """No publication sees the one without the other."""
            repositories.add_key(connection, found.archive_id, new, overlap)
            publications.refresh(connection, found.archive_id, now)

        farm.write(write)
    until = moment(now + overlap)
    session.output.say(f"{found.words} is signed by {new.fingerprint} from now on; by what it had before until {until}")
    if session.output.as_json:
        session.output.document({"fingerprint": new.fingerprint, "overlap_until": stamp(now + overlap)})


def _is_of_use(key: ArchiveKey) -> bool:
    return key.signs_until is None or key.signs_until > time.time()


def _press(session: Session, farm: Farm) -> "Press":
    from buildmaster.publishing.publication import Press  # noqa: PLC0415 - takes long to import.

    config = config_of(session)
    return Press(farm, config.archives_directory, Secrets(config.secrets_directory), time.time)


def _folder(session: Session, words: str) -> Path:
    return config_of(session).archives_directory / words
