"""The commands `archive depends` and `archive access`: what builds of an archive read, and who reads it."""

import time
from urllib.parse import quote, urlsplit, urlunsplit

import click
from sqlalchemy import Connection

from buildmaster import credentials, depwaits, distributions, offered, repositories
from buildmaster.cli.archives import names_of
from buildmaster.cli.farms import config_of, farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.text import moment, stamp

ARCHIVE = click.argument("name", metavar="[DISTRIBUTION/]NAME")
USER = click.argument("user", metavar="USER")


@click.command()
@ARCHIVE
@click.option("--on", metavar="[DISTRIBUTION/]OTHER", multiple=True, help="Its builds use the packages of this one.")
@click.option("--not-on", metavar="[DISTRIBUTION/]OTHER", multiple=True, help="They do so no longer.")
@json_option
@pass_session
def depends(session: Session, /, *, name: str, on: tuple[str, ...], not_on: tuple[str, ...]) -> None:
    """Say which archives the builds of an archive take packages from, beside its own and the distribution's.

    It holds for builds that begin from now on; what waits for build-dependencies is looked at again. An archive lends
    its own packages, not those that others lend it.

    \b
    Example:
      buildmaster archive depends mine --on toolchain
    """

    def change(connection: Connection) -> tuple[str, list[str]]:
        """What the archive is called, and what its builds use after that."""
        distribution, own = names_of(connection, name)
        archive_id = distributions.find_archive(connection, distribution, own)
        for wanted, act in ((on, offered.depend), (not_on, offered.depend_no_longer)):
            for other in wanted:
                other_id = distributions.find_archive(connection, *names_of(connection, other))
                if other_id == archive_id:
                    raise Refusal(f"{distribution}/{own} uses its own packages anyway")
                act(connection, archive_id, other_id)
        if on or not_on:
            depwaits.published(connection, archive_id, time.time())
        return f"{distribution}/{own}", offered.dependencies(connection, archive_id)

    with farm_of(session) as farm:
        words, found = farm.write(change)
    session.output.say(f"archive {words}: {'builds use ' + ', '.join(found) if found else 'builds use no others'}")
    if session.output.as_json:
        session.output.document({"archive": words, "depends_on": found})


@click.group()
def access() -> None:
    """Who may read a private archive: people, each with a token. Builds have passwords of their own.

    \b
    Example:
      buildmaster archive change mine --private
      buildmaster archive access add mine ada
    """


@access.command()
@ARCHIVE
@USER
@json_option
@pass_session
def add(session: Session, /, *, name: str, user: str) -> None:
    """Let somebody read an archive. The token is printed here, and nowhere else: the farm keeps no more than a digest.

    \b
    Example:
      buildmaster archive access add mine ada
    """

    def give(connection: Connection) -> tuple[str, str, bool]:
        """What the archive is called, the token, and whether it takes one to read it."""
        distribution, own = names_of(connection, name)
        archive_id = distributions.find_archive(connection, distribution, own)
        private = repositories.get(connection, archive_id).private
        return f"{distribution}/{own}", credentials.add(connection, archive_id, user, time.time()), private

    with farm_of(session) as farm:
        words, token, private = farm.write(give)
    url = config_of(session).url_for_archives()
    parts = urlsplit(url)
    with_login = urlunsplit(parts._replace(netloc=f"{quote(user)}:{token}@{parts.netloc}"))
    session.output.say(f"{user} may read {words} with this token, which is not shown again: {token}")
    session.output.say(f"for /etc/apt/auth.conf.d/: machine {url}/{words} login {user} password {token}")
    if not private:
        session.output.hint(f"Everybody may read it as yet: buildmaster archive change {words} --private")
    if session.output.as_json:
        session.output.document({"archive": words, "user": user, "token": token, "url": f"{with_login}/{words}"})


@access.command()
@ARCHIVE
@USER
@json_option
@pass_session
def remove(session: Session, /, *, name: str, user: str) -> None:
    """Let somebody read an archive no longer, from this moment on.

    \b
    Example:
      buildmaster archive access remove mine ada
    """

    def take(connection: Connection) -> str:
        distribution, own = names_of(connection, name)
        credentials.remove(connection, distributions.find_archive(connection, distribution, own), user)
        return f"{distribution}/{own}"

    with farm_of(session) as farm:
        words = farm.write(take)
    session.output.say(f"{user} may read {words} no longer")
    if session.output.as_json:
        session.output.document({"archive": words, "user": user})


@access.command("list")
@ARCHIVE
@json_option
@pass_session
def list_readers(session: Session, /, *, name: str) -> None:
    """List who may read an archive.

    \b
    Example:
      buildmaster archive access list mine
    """
    with farm_of(session) as farm, farm.reading() as connection:
        distribution, own = names_of(connection, name)
        found = credentials.readers(connection, distributions.find_archive(connection, distribution, own))
    document = {"users": [{"name": each.name, "created_at": stamp(each.created_at)} for each in found]}
    rows = [(each.name, moment(each.created_at)) for each in found]
    empty = f"Nobody has a token: buildmaster archive access add {distribution}/{own} USER"
    session.output.listing(document, [Column("user"), Column("since")], rows, empty)
