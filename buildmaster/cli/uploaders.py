"""The group `archive uploader`: who may upload to an archive."""

import time
from pathlib import Path

import click

from buildmaster import distributions
from buildmaster import uploaders as farm_uploaders
from buildmaster.cli.archives import names_of
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.text import moment, stamp
from buildmaster.uploaders import Uploader


@click.group()
def uploader() -> None:
    """Who may upload to an archive: people whose OpenPGP keys it knows.

    \b
    Example:
      gpg --export --armor ada@example.org >ada.asc
      buildmaster archive uploader add mine ada.asc
    """


@uploader.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@click.argument("certificate", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@pass_session
def add(session: Session, /, *, name: str, certificate: Path) -> None:
    """Let who has a key upload to an archive.

    FILE is the key's OpenPGP certificate, armoured or not. One that is there already is replaced, which is how a key
    becomes good for longer. Revoked, expired and weak ones are refused.

    \b
    Example:
      buildmaster archive uploader add mine ada.asc
    """
    from buildmaster.uploading.signatures import CertificateRefused, read_certificate  # noqa: PLC0415 - loads Sequoia.

    now = time.time()
    try:
        found = read_certificate(certificate.read_bytes(), now)
    except CertificateRefused as error:
        raise Refusal(f"{certificate}: {error}") from error
    with farm_of(session) as farm:
        with farm.reading() as connection:
            distribution, own = names_of(connection, name)
            archive_id = distributions.find_archive(connection, distribution, own)
        new = farm.write(farm_uploaders.add, archive_id, found, now)
        with farm.reading() as connection:
            everyone = farm_uploaders.every(connection, archive_id)
    session.output.say(
        f"{found.name} ({found.fingerprint}) may upload to {distribution}/{own}"
        + ("" if new else "; the certificate that was there is replaced")
    )
    if not found.address:
        session.output.hint("There is no mail address in the certificate: nobody is told what becomes of uploads.")
    if session.output.as_json:
        session.output.document(next(_document(each) for each in everyone if each.fingerprint == found.fingerprint))


@uploader.command()
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@click.argument("who", metavar="WHO")
@json_option
@pass_session
def remove(session: Session, /, *, name: str, who: str) -> None:
    """Let somebody upload to an archive no more. What was uploaded stays.

    WHO is a fingerprint, its last 8 digits or more, or a part of the name.

    \b
    Example:
      buildmaster archive uploader remove mine ada@example.org
    """
    with farm_of(session) as farm:
        with farm.reading() as connection:
            distribution, own = names_of(connection, name)
            archive_id = distributions.find_archive(connection, distribution, own)
        gone = farm.write(farm_uploaders.remove, archive_id, who)
    session.output.say(f"{gone.name} ({gone.fingerprint}) may not upload to {distribution}/{own} any more")
    if session.output.as_json:
        session.output.document(_document(gone))


@uploader.command(name="list")
@click.argument("name", metavar="[DISTRIBUTION/]NAME")
@json_option
@pass_session
def list_(session: Session, /, *, name: str) -> None:
    """List who may upload to an archive.

    \b
    Example:
      buildmaster archive uploader list mine
    """
    with farm_of(session) as farm, farm.reading() as connection:
        distribution, own = names_of(connection, name)
        archive_id = distributions.find_archive(connection, distribution, own)
        found = farm_uploaders.every(connection, archive_id)
    columns = [Column("fingerprint"), Column("since"), Column("name", wide=True)]
    rows = [(each.fingerprint, moment(each.created_at), each.name) for each in found]
    add_one = f"buildmaster archive uploader add {distribution}/{own} FILE"
    document = {"uploaders": [_document(each) for each in found]}
    session.output.listing(document, columns, rows, f"Nobody may upload to it. Let somebody: {add_one}")


def _document(found: Uploader) -> dict[str, object]:
    return {
        "fingerprint": found.fingerprint,
        "name": found.name,
        "certificate": found.certificate,
        "added": stamp(found.created_at),
    }
