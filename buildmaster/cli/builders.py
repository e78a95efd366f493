"""The commands that change builders: change-builder, give, builder-cleaned, enable-builder, disable-builder."""

import click
from sqlalchemy import Connection

from buildmaster import builders as farm_builders
from buildmaster import giving, listings
from buildmaster.cli.documents import builder_document
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.numbers import build_number
from buildmaster.farm import Farm
from buildmaster.listings import Builder


@click.command()
@click.argument("name")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="What it has, for builds that need it.")
@click.option(
    "--restricted-tag",
    "restricted",
    metavar="TAG",
    multiple=True,
    help="What it has and is kept for: only builds that need all of these go there.",
)
@click.option("--no-tags", is_flag=True, help="It has nothing that others have not.")
@click.option("--vm-host", metavar="HOST", help="Where it runs, for the command that resets it; '' for none.")
@click.option("--manual/--automatic", default=None, help="Give it no builds by itself; or do so again.")
@json_option
@pass_session
def change_builder(
    session: Session,
    /,
    *,
    name: str,
    tags: tuple[str, ...],
    restricted: tuple[str, ...],
    no_tags: bool,
    vm_host: str | None,
    manual: bool | None,
) -> None:
    """Change which builds a builder may have. Tags that are given take the place of those that it had.

    A build goes to a builder that has every tag it needs (`submit --needs`), and needs every restricted tag that the
    builder has. In manual mode a builder is looked after, and has no builds but those that it is given by `give`.

    \b
    Example:
      buildmaster change-builder big1 --tag large --restricted-tag gpu
    """
    if no_tags and (tags or restricted):
        raise click.UsageError("--no-tags does not go together with tags")

    def change(connection: Connection) -> None:
        farm_builders.find(connection, name)
        if tags or restricted or no_tags:
            farm_builders.set_tags(connection, name, offered=tags, restricted=restricted)
        if vm_host is not None:
            farm_builders.set_vm_host(connection, name, vm_host)
        if manual is not None:
            farm_builders.set_manual(connection, name, manual)

    with farm_of(session) as farm:
        farm.write(change)
        _show_builder(session, farm, name)


@click.command()
@click.argument("build_id", metavar="BUILD", type=build_number)
@click.argument("name", metavar="BUILDER")
@json_option
@pass_session
def give(session: Session, /, *, build_id: int, name: str) -> None:
    """Give a builder a build that waits, as its next one, in manual mode too.

    The builder must be of the architecture; its resource tags and the order of the queue do not matter. Until it is
    idle another builder may take the build in its turn.

    \b
    Example:
      buildmaster give 4 local
    """
    with farm_of(session) as farm:
        farm.write(giving.give, build_id, name)
        _show_builder(session, farm, name, f"builder {name} will build {build_id} next")


@click.command()
@click.argument("name")
@json_option
@pass_session
def builder_cleaned(session: Session, /, *, name: str) -> None:
    """Say that the reset of a virtualised builder, which was begun by the master's command, is over.

    For `[builders] reset_asynchronous`: whoever resets the machine calls it when its daemon answers again.

    \b
    Example:
      buildmaster builder-cleaned vm3
    """
    with farm_of(session) as farm:
        farm.write(farm_builders.say_cleaned, name)
        _show_builder(session, farm, name, f"builder {name} is clean")


@click.command()
@click.argument("name")
@json_option
@pass_session
def enable_builder(session: Session, /, *, name: str) -> None:
    """Let a builder have builds again, its failures forgotten; it is cleaned first.

    \b
    Example:
      buildmaster enable-builder local
    """
    with farm_of(session) as farm:
        farm.write(farm_builders.enable, name)
        _show_builder(session, farm, name, f"builder {name} is enabled")


@click.command()
@click.argument("name")
@click.option("--reason", default="disabled by hand", show_default=True, help="Why; shown beside it.")
@json_option
@pass_session
def disable_builder(session: Session, /, *, name: str, reason: str) -> None:
    """Give a builder no more builds. The one that it has goes back into the queue.

    \b
    Example:
      buildmaster disable-builder local --reason "new disk"
    """
    with farm_of(session) as farm:
        farm.write(farm_builders.disable, name, reason)
        _show_builder(session, farm, name, f"builder {name} is disabled: {reason}")


def _show_builder(session: Session, farm: Farm, name: str, sentence: str = "") -> None:
    with farm.reading() as connection:
        found = next(each for each in listings.builders(connection) if each.name == name)
    if session.output.as_json:
        session.output.document(builder_document(found))
    session.output.say(sentence or _offer(found))


def _offer(found: Builder) -> str:
    """What a builder takes, in a sentence."""
    words = [f"builder {found.name}: {'virtualised ' if found.virtualised else ''}{found.architecture}"]
    if found.vm_host:
        words.append(f"on {found.vm_host}")
    if found.manual:
        words.append("manual mode")
    if found.tags:
        words.append(f"has {found.tags.replace(' ', ', ')}")
    if found.restricted_tags:
        words.append(f"kept for builds that need {found.restricted_tags.replace(' ', ', ')}")
    return "; ".join(words)
