"""The commands `provenance ...`: the farm's signed statements, and the key that they are signed with."""

import time

import click

from buildmaster import attesting
from buildmaster.attesting import NothingToState
from buildmaster.cli.farms import farm_of, known_build
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.numbers import build_number
from buildmaster.cli.text import stamp


@click.group()
def provenance() -> None:
    """Signed statements of what was built from what.

    \b
    Examples:
      buildmaster provenance key > farm.pem
      buildmaster provenance key --json
      buildmaster provenance statement 3 > hello.json
    """


@provenance.command()
@click.option("--new", is_flag=True, help="Make a new one, and sign with that from now on.")
@click.option("--revoke", metavar="KEYID", help="Believe nothing any more that this one has signed, whenever that was.")
@json_option
@pass_session
def key(session: Session, /, *, new: bool, revoke: str | None) -> None:
    """Print the public key, in PEM, that statements are signed with. One is made when there is none.

    The secret part is in the farm's secrets directory; masters on other machines need a copy of it. What was signed
    with an earlier key stays good for `verify` on this farm, unless that is revoked: of one that has leaked nobody can
    tell what was signed before. The farm signs its own statements anew then, as they are asked for, and makes a new key
    if this was the one in use.

    \b
    Examples:
      buildmaster provenance key > farm.pem
      buildmaster provenance key --revoke 0b3f21c9
    """
    with farm_of(session) as farm:
        if revoke is not None:
            try:
                attesting.revoke(farm, revoke, time.time())
            except attesting.NoSuchKey as error:
                raise Refusal(str(error)) from error
        public = attesting.new_key(farm, unless_there=not new)
        with farm.reading() as connection:
            known = attesting.keys(connection)
    if session.output.as_json:
        everyone = [
            {"key_id": each.key_id, "public_key": each.pem, "revoked_at": stamp(each.revoked_at)} for each in known
        ]
        session.output.document({"key_id": public.key_id, "public_key": public.pem, "keys": everyone})
        return
    session.output.hint(f"key {public.key_id}")
    session.output.say(public.pem.rstrip("\n"))


@provenance.command()
@click.argument("build_id", metavar="BUILD", type=build_number)
@pass_session
def statement(session: Session, /, *, build_id: int) -> None:
    """Print the signed statement about a build that ended well: a DSSE envelope, in JSON.

    \b
    Example:
      buildmaster provenance statement 3 > hello.json
    """
    with farm_of(session) as farm:
        with farm.reading() as connection:
            known_build(connection, build_id)
        try:
            envelope = attesting.ensure(farm, build_id)
        except NothingToState as error:
            raise Refusal(str(error)) from error
    click.echo(envelope.decode(), nl=False)
