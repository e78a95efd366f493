"""The command `why`: what keeps a build from running, and what would change that."""

import time

import click

from buildmaster import reasons, waiting
from buildmaster.cli.farms import farm_of, known_build, looks
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.numbers import build_number
from buildmaster.cli.presence import somebody_runs


@click.command()
@click.argument("build_id", metavar="BUILD", type=build_number)
@json_option
@pass_session
def why(session: Session, /, *, build_id: int) -> None:
    """Say why a build is not running, and what would change that.

    The first reason is the one that matters now; the others do when that is no more.

    \b
    Example:
      buildmaster why 3
    """
    with farm_of(session) as farm, farm.reading() as connection:
        build = known_build(connection, build_id)
        runs = somebody_runs(farm.directory, connection)
        facts = waiting.facts(connection, build_id, time.time(), looks=looks(session), master_runs=runs)
        assert facts is not None  # It was there in this very transaction.
        found = reasons.reasons(facts)
    if session.output.as_json:
        told = [{"code": each.code.value, "why": each.text, "change": each.change} for each in found]
        session.output.document({"id": build_id, "state": build.state.value, "reasons": told})
        return
    session.output.say(f"build {build_id}: {build.title}, {build.state}")
    for each in found:
        session.output.say(f"  {each.text[:1].upper()}{each.text[1:]}." + (f" {each.change}" if each.change else ""))
