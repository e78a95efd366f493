"""The group `archive`: archives that the farm publishes itself. Here: create, show, change and list."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy import Connection

from buildd.settings import parse_duration
from buildmaster import archives, distributions, listings, publications, repositories, uploaders
from buildmaster.cli import client_setup
from buildmaster.cli.archives import names_of
from buildmaster.cli.farms import config_of, farm_of
from buildmaster.cli.group import LazyGroup, Refusal, Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.presence import somebody_runs, tell_absence
from buildmaster.cli.progress import Progress
from buildmaster.cli.text import count
from buildmaster.farm import Farm
from buildmaster.publications import Suite
from buildmaster.repositories import FORGET_S, ArchiveKey, Repository, Settings
from buildmaster.scoring import ArchivePurpose, Pocket
from buildmaster.secrets import Secrets

if TYPE_CHECKING:  # It takes long to import.
    from buildmaster.publishing.adopting import Adopted

_HERE = "buildmaster.cli.archive"
_PACKAGES = "buildmaster.cli.archive_packages"
_PUBLISHING = "buildmaster.cli.archive_publishing"
COMMANDS = {
    "create": (_HERE, "Publish an archive; make it if need be."),
    "show": (_HERE, "How to upload to it, and what apt needs."),
    "change": (_HERE, "How it is published."),
    "depends": ("buildmaster.cli.archive_readers", "What other archives its builds use."),
    "access": ("buildmaster.cli.archive_readers", "Who may read it, when it is private."),
    "uploader": ("buildmaster.cli.uploaders", "Who may upload to it."),
    "list": (_HERE, "The archives that the farm publishes."),
    "adopt": (_HERE, "Take in what it had before it was published."),
    "import": ("buildmaster.cli.archive_import", "Take in packages that were built elsewhere."),
    "packages": (_PACKAGES, "What is in an archive, and how far."),
    "copy": (_PACKAGES, "Let packages be in another suite or archive as well."),
    "promote": (_PACKAGES, "Let packages be in another suite or archive instead."),
    "delete": (_PACKAGES, "Have packages leave a suite."),
    "hold": (_PACKAGES, "Which sources are held until all architectures have them."),
    "release": (_PACKAGES, "Publish what is held."),
    "publish": (_PUBLISHING, "Publish what there is, here and now."),
    "clean": (_PUBLISHING, "Remove files that no index names any more."),
    "snapshot": (_PUBLISHING, "An archive as it is now, kept."),
    "key": (_PUBLISHING, "What signs an archive."),
}


@click.group(cls=LazyGroup, commands_in=COMMANDS)
def archive() -> None:
    """Archives that the farm publishes itself: upload a source, wait, `apt install`.

    \b
    Example:
      buildmaster archive create mine
      buildmaster archive list --json
    """


def duration_or(none: str = "") -> Callable[[str], float]:
    """A type of parameter, for click: seconds; 0 for a word that says that there is no such time.

    :param none: the word, if there can be one.
    """

    def duration(word: str) -> float:
        if word and word == none:
            return 0.0
        try:
            return parse_duration(word)
        except ValueError as error:
            raise click.BadParameter(f"{word!r} {error}" + (f", or `{none}`" if none else "")) from error

    return duration


def _settings(command: Any) -> Any:
    """Add to a command what may be said of how an archive is published."""
    options = [
        click.option("--private/--public", default=None, help="Read by those alone who are let: `archive access`."),
        click.option("--binaries/--sources-only", default=None, help="Binary packages may be uploaded, too."),
        click.option("--keep-versions", type=click.IntRange(0, 1000), help="Older versions that stay; 0 at first."),
        click.option("--hold/--no-hold", default=None, help="A version is published when all architectures have it."),
        click.option(
            "--hold-deadline", "hold_deadline_s", metavar="DURATION", type=duration_or("never"),
            help="But no later than after so long (12h); never: as long as it takes.",
        ),
        click.option(
            "--valid", "valid_s", metavar="DURATION", type=duration_or("never"),
            help="Clients refuse what the farm has not signed anew for so long (7d; 10m at least); never, at first.",
        ),
        click.option(
            "--forget", "forget_s", metavar="DURATION", type=duration_or("never"),
            help="So long after packages have left nothing keeps their files any more (30d, at first); never.",
        ),
        click.option(
            "--snapshot-every", "snapshot_every_s", metavar="DURATION", type=duration_or("never"),
            help="Keep all of it as it is so often (1d), when it has changed; never, at first.",
        ),
        click.option(
            "--snapshots-kept", type=click.IntRange(0, 100_000), help="So many of these stay; 0, at first: all."
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@_settings
@json_option
@pass_session
def create(session: Session, /, *, name: str, **said: Any) -> None:
    """Publish an archive, which is made if it is not there, with a key of its own.

    It has a suite for each series of its distribution. What the archive has already, it publishes as well: the newest
    versions that were built. What to give to dput and to apt is printed, here and by `archive show`.

    \b
    Example:
      buildmaster archive create mine
    """
    from buildmaster.publishing import archive_keys  # noqa: PLC0415 - takes long to import.

    config = config_of(session)
    with farm_of(session) as farm:
        with farm.reading() as connection:
            distribution, own = names_of(connection, name)
            _must_have_series(connection, distribution)
            _must_be_new(connection, distribution, own)
        key = archive_keys.make(Secrets(config.secrets_directory), f"{distribution}/{own}", time.time())
        archive_id = farm.write(_create, distribution, own, key, **said)
        adopt_earlier(session, farm, archive_id)
        with farm.reading() as connection:
            runs = somebody_runs(farm.directory, connection)
    _show(session, f"{distribution}/{own}")
    if not runs:
        tell_absence(session, farm.directory)


def _must_have_series(connection: Connection, distribution: str) -> None:
    if not any(place.distribution == distribution for place in listings.places(connection)):
        raise Refusal(
            f"{distribution!r} has no series that anything could be built for: "
            f"`buildmaster add-chroot {distribution}/SERIES ARCH FILE` adds one"
        )


def _must_be_new(connection: Connection, distribution: str, own: str) -> None:
    known = [each.name for each in archives.every(connection) if each.distribution == distribution]
    if own in known:
        archive_id = distributions.find_archive(connection, distribution, own)
        if repositories.find(connection, archive_id) is not None:
            raise Refusal(f"{distribution}/{own} is published already: `buildmaster archive show` shows how")


def _create(connection: Connection, /, distribution: str, own: str, key: ArchiveKey, **said: Any) -> int:
    now = time.time()
    try:
        archive_id = distributions.find_archive(connection, distribution, own)
    except distributions.NoSuchSeries:
        archive_id = archives.add(connection, distribution, own, ArchivePurpose.PPA)
    repositories.add(connection, archive_id, now)
    _set(connection, archive_id, now, **said)
    repositories.add_key(connection, archive_id, key)
    for series_id in distributions.series_of(connection, archive_id):
        publications.ensure_suite(connection, Suite(archive_id, series_id, Pocket.RELEASE), now)
    return archive_id


def adopt_earlier(session: Session, farm: Farm, archive_id: int) -> "Adopted":
    """Take in what an archive had before it was published, and say so."""
    from buildmaster.publishing.adopting import adopt as take_in  # noqa: PLC0415 - takes long to import.

    with Progress(session.output, "taking in what was built before") as progress:
        done = take_in(
            farm, archive_id, time.time(), lambda n, all: progress.show(n / all, f"{n} of {count(all, 'build')}")
        )
    if done.sources or done.packages:
        session.output.say(f"taken in: {count(done.sources, 'source')}, {count(done.packages, 'package')}")
    for words in done.left:
        session.output.hint(f"not taken in: {words}")
    return done


@click.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@json_option
@pass_session
def adopt(session: Session, /, *, name: str) -> None:
    """Take in what an archive had before it was published, or what was left of that: `archive create` does so itself.

    Of each source come the newest version that was built for some architecture, with all that was built of it, and
    newer ones. What is superseded, or was published once, does not.

    \b
    Example:
      buildmaster archive adopt mine
    """
    with farm_of(session) as farm:
        with farm.reading() as connection:
            found = published(connection, name)
        done = adopt_earlier(session, farm, found.archive_id)
    if not (done.sources or done.packages or done.left):
        session.output.say(f"{found.words}: there is nothing to take in")
    if session.output.as_json:
        session.output.document({**vars(done), "left": list(done.left)})


@click.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@json_option
@pass_session
def show(session: Session, /, *, name: str) -> None:
    """Show how an archive is published, what dput needs to upload to it, and what apt needs to use it.

    \b
    Example:
      buildmaster archive show mine
    """
    _show(session, name)


@click.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@_settings
@json_option
@pass_session
def change(session: Session, /, *, name: str, **said: Any) -> None:
    """Change how an archive is published.

    \b
    Example:
      buildmaster archive change mine --hold --hold-deadline 12h
    """

    def write(connection: Connection) -> None:
        """Has it signed anew as well: what a Release file says may be another thing now."""
        found = published(connection, name)
        _set(connection, found.archive_id, time.time(), **said)
        publications.refresh(connection, found.archive_id, time.time())

    with farm_of(session) as farm:
        farm.write(write)
    _show(session, name)


def _set(connection: Connection, archive_id: int, now: float, *, private: bool | None, **said: Any) -> None:
    archives.change(connection, archive_id, archives.Changes(private=private), now)
    repositories.change(connection, archive_id, Settings(**said))


@click.command(name="list")
@json_option
@pass_session
def list_(session: Session, /) -> None:
    """List the archives that the farm publishes.

    \b
    Example:
      buildmaster archive list
    """
    config = config_of(session)
    with farm_of(session) as farm, farm.reading() as connection:
        found = [(each, published_suites(connection, each)) for each in repositories.every(connection)]
    base = config.url_for_archives()
    columns = [Column("archive"), Column("suites"), Column("address", wide=True), Column("what", wide=True)]
    rows = [
        (each.words, " ".join(suites) or "-", f"{base}/{each.words}", ", ".join(_kind(each)) or "-")
        for each, suites in found
    ]
    document = {"archives": [_document(each, suites, base) for each, suites in found]}
    session.output.listing(document, columns, rows, "None. `buildmaster archive create NAME` lets there be one.")


def published(connection: Connection, name: str) -> Repository:
    """The archive that NAME or DISTRIBUTION/NAME means, which we publish.

    :raises Refusal: it does not say which distribution.
    :raises NoSuchSeries: there is none.
    :raises RepositoryRefused: we do not publish it.
    """
    distribution, own = names_of(connection, name)
    return repositories.get(connection, distributions.find_archive(connection, distribution, own))


def published_suites(connection: Connection, found: Repository) -> list[str]:
    """The names of an archive's suites, as apt has them."""
    return [each.name for each in publications.suites_of(connection, found.archive_id)]


def _show(session: Session, name: str) -> None:
    from buildmaster.publishing import archive_keys  # noqa: PLC0415 - takes long to import.

    config, now = config_of(session), time.time()
    base = config.url_for_archives()
    with farm_of(session) as farm, farm.reading() as connection:
        found = published(connection, name)
        suites = published_suites(connection, found)
        every = repositories.keys(connection, found.archive_id)
        somebody = bool(uploaders.every(connection, found.archive_id))
    keys = [key.fingerprint for key in every if key.signs(now)]
    warning = archive_keys.warning(every, now)
    if session.output.as_json:
        session.output.document(_document(found, suites, base) | {"keys": keys, "warning": warning})
        return
    output = session.output
    output.say(
        f"archive {found.words} is published at {base}/{found.words}" + "".join(f", {each}" for each in _kind(found))
    )
    output.say(f"signed by {', '.join(keys) or 'no key'}; suites: {', '.join(suites)}")
    if warning:
        output.say(f"warning: {warning}")
    output.say(f"\nTo upload to it, ~/.dput.cf:\n\n{client_setup.for_dput(config, found.words)}")
    if found.private:
        output.say("\nTo use it, one needs a name and a password: `buildmaster archive access add`")
    output.say(f"\nTo use it, {client_setup.for_apt(base, found.words, suites)}")
    if not somebody:
        output.hint(
            "Nobody may upload to it yet. Who has an OpenPGP key is let: "
            f"buildmaster archive uploader add {found.words} FILE"
        )


def _kind(found: Repository) -> list[str]:
    words = ["private"] if found.private else []
    words += ["binary uploads"] if found.binaries else []
    words += [f"keeps {count(found.keep_versions, 'older version')}"] if found.keep_versions else []
    if found.hold:
        at_most = f", {found.hold_deadline_s / 3600:.3g} h at most" if found.hold_deadline_s else ""
        words.append(f"holds until all architectures are there{at_most}")
    if found.forget_s != FORGET_S:
        words.append(f"forgets after {found.forget_s / 86400:.3g} days" if found.forget_s else "forgets nothing")
    if found.snapshot_every_s:
        kept = f", {found.snapshots_kept} kept" if found.snapshots_kept else ""
        words.append(f"a snapshot every {found.snapshot_every_s / 3600:.3g} h{kept}")
    words += [f"valid for {found.valid_s / 3600:.3g} h"] if found.valid_s else []
    return words


def _document(found: Repository, suites: list[str], base: str) -> dict[str, object]:
    return {
        "distribution": found.distribution,
        "name": found.name,
        "url": f"{base}/{found.words}",
        "upload_url": f"{base}/upload/{found.words}",
        "suites": suites,
        "private": found.private,
        "binaries": found.binaries,
        "keep_versions": found.keep_versions,
        "hold": found.hold,
        "hold_deadline_s": found.hold_deadline_s or None,
        "valid_s": found.valid_s or None,
        "forget_s": found.forget_s or None,
        "snapshot_every_s": found.snapshot_every_s or None,
        "snapshots_kept": found.snapshots_kept or None,
    }
