"""The commands that make a farm: init, add-builder."""

import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import click
from sqlalchemy import Connection

from buildmaster import builders as farm_builders
from buildmaster import distributions, listings
from buildmaster.cli.documents import builder_document, place_document
from buildmaster.cli.farms import DEFAULT_DISTRIBUTION, config_of, farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.farm import Farm
from buildmaster.listings import Builder, Place

_KEY_MAX_BYTES = 1 << 20
_PUBLIC_KEY_PACKET = 6
_APT_LINE = re.compile(r"(?P<head>deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?\S+:\S+\s+)(?P<suite>\S+)(?P<rest>(?:\s+\S+)*)")


@click.command()
@click.option("--distribution", metavar="NAME", help=f"Distribution to add.  [default: {DEFAULT_DISTRIBUTION}]")
@click.option("--series", metavar="NAME", help="Series of it to add; needs --architecture.")
@click.option("--architecture", "architectures", metavar="ARCH", multiple=True, help="Architecture of it to add.")
@click.option(
    "--archive-line",
    "lines",
    metavar="LINE",
    multiple=True,
    help="A line of sources.list for builds, in place of the chroot's own. Those given replace what there was.",
)
@click.option(
    "--trusted-key",
    "keys",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="OpenPGP public key of an archive that builds use, where the chroot lacks it. Those given replace what was.",
)
@json_option
@pass_session
def init(
    session: Session,
    /,
    *,
    distribution: str | None,
    series: str | None,
    architectures: tuple[str, ...],
    lines: tuple[str, ...],
    keys: tuple[Path, ...],
) -> None:
    """Make a farm, or add to the one that is there. Doing it again changes nothing.

    The directory is for its owner only: a farm holds what its archives hold. The first architecture of a series builds
    the packages for all architectures. In archive lines, the suite SERIES or SERIES-updates stands for that of each
    series; the name of the series given here is taken as that, too.

    \b
    Example:
      buildmaster --dir farm init --distribution debian --series bookworm --architecture amd64 \\
          --archive-line "deb http://deb.debian.org/debian bookworm main"
    """
    if bool(series) != bool(architectures):
        raise click.UsageError("--series and --architecture go together")
    apt_lines = [parse_apt_line(line, series) for line in lines]
    trusted_keys = [read_key(key) for key in keys]
    config = config_of(session)
    directory = config.directory

    def fill(connection: Connection) -> tuple[list[Place], list[Builder]]:
        if distribution or series or apt_lines or trusted_keys:
            name = distribution or DEFAULT_DISTRIBUTION
            for architecture in architectures or (None,):
                distributions.ensure(connection, name, series, architecture)
            if apt_lines:
                distributions.set_apt_lines(connection, name, distributions.PRIMARY, "\n".join(apt_lines))
            if trusted_keys:
                distributions.set_trusted_keys(connection, name, distributions.PRIMARY, trusted_keys)
        return listings.places(connection), listings.builders(connection)

    farm = Farm.create(config.places)
    try:
        places, everyone = farm.write(fill)
        next(iter(farm.store.files("00")), None)  # Fails where the store cannot be used.
    finally:
        farm.close()
    session.output.say(f"the farm in {directory} is ready")
    for place in places:
        chroot = "has a chroot" if place.chroot_sha256 else "has no chroot yet"
        also = ", builds arch:all" if place.nominated else ""
        session.output.say(f"  {place.distribution} {place.series} {place.architecture} {chroot}{also}")
    for step in _next_steps(session, directory, places, everyone):
        session.output.hint(step)
    if session.output.as_json:
        session.output.document({"directory": str(directory), "places": [place_document(each) for each in places]})


def read_key(path: Path) -> bytes:
    """The content of a file with an OpenPGP public key, armored or not (RFC 9580, 4.2 and 6.2).

    :raises Refusal: it is none.
    """
    content = path.read_bytes() if path.stat().st_size <= _KEY_MAX_BYTES else b""
    packet = content[0] if content else 0
    is_public_key = packet & 0x80 and (packet & 0x3F if packet & 0x40 else packet >> 2 & 0x0F) == _PUBLIC_KEY_PACKET
    if is_public_key or content.lstrip().startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"):
        return content
    raise Refusal(f"{path} is no OpenPGP public key, as gpg --export writes it")


def parse_apt_line(line: str, series: str | None) -> str:
    """A line of sources.list in which SERIES stands for the series' name.

    :raises Refusal: it is none.
    """
    match = _APT_LINE.fullmatch(line.strip())
    if match is None or not line.strip().isprintable():
        raise Refusal(f"{line!r} is no line of sources.list, such as: deb http://deb.debian.org/debian bookworm main")
    suite = match["suite"]
    if series and (suite == series or suite.startswith((f"{series}-", f"{series}/"))):
        suite = "SERIES" + suite[len(series) :]
    if not match["rest"] and not suite.endswith("/"):
        raise Refusal(f"{line!r} names no component, such as main")
    return f"{match['head']}{suite}{match['rest']}"


def _next_steps(session: Session, directory: Path, places: list[listings.Place], everyone: list[Builder]) -> list[str]:
    """What a farm still needs before it builds."""
    steps = []
    without = next((place for place in places if place.chroot_sha256 is None), None)
    if not places:
        steps.append("add-chroot debian/bookworm amd64 bookworm-amd64.tar.gz")
    elif without:
        steps.append(f"add-chroot {without.distribution}/{without.series} {without.architecture} FILE.tar.gz")
    if not everyone:
        steps.append("add-builder http://HOST:8221/")
    steps.append("run")
    return ["Next:", *(f"  {session.command_on(directory, step)}" for step in steps)]


@click.command()
@click.argument("url", metavar="URL")
@click.option("--name", help="What to call it.  [default: host of the URL]")
@click.option("--architecture", metavar="ARCH", help="What it must build for; with --offline, needed.")
@click.option("--offline", is_flag=True, help="Do not ask the daemon: it is not up yet.")
@click.option("--virtualised", is_flag=True, help="It is a virtual machine that is reset after each build.")
@click.option("--vm-host", metavar="HOST", default="", help="Where it runs, for the command that resets it.")
@json_option
@pass_session
def add_builder(
    session: Session,
    /,
    *,
    url: str,
    name: str | None,
    architecture: str | None,
    offline: bool,
    virtualised: bool,
    vm_host: str,
) -> None:
    """Let a build daemon work for the farm.

    The daemon is asked which architecture it has. Adding the same one again changes nothing.

    \b
    Example:
      buildmaster add-builder http://127.0.0.1:8221/ --name local
    """
    if offline and not architecture:
        raise click.UsageError("--offline needs --architecture")
    wanted = name or _name_for(url)

    def add_it(connection: Connection) -> tuple[bool, Builder, bool]:
        same = _same(listings.builders(connection), wanted, url, found)
        if not same:
            farm_builders.add(connection, wanted, url, found, time.time(), virtualised=virtualised)
            farm_builders.set_vm_host(connection, wanted, vm_host)
        builder = next(each for each in listings.builders(connection) if each.name == wanted)
        return same, builder, any(place.architecture == found for place in listings.places(connection))

    with farm_of(session) as farm:
        if offline:
            found = architecture or ""
        else:
            from buildmaster.cli.asking import ask_info  # noqa: PLC0415

            found = ask_info(url).architecture
        if architecture and found != architecture:
            raise Refusal(f"{url} builds for {found}, not for {architecture}")
        same, builder, fits = farm.write(add_it)
    session.output.say(f"builder {builder.name} {'is here already' if same else 'added'}: {builder.url} for {found}")
    _tell_how_it_is_cleaned(session, builder)
    if not fits:
        add = session.command_on(farm.directory, f"add-chroot SERIES {found} FILE.tar.gz")
        session.output.hint(f"No series has {found} yet: {add}")
    if session.output.as_json:
        session.output.document(builder_document(builder))


def _tell_how_it_is_cleaned(session: Session, builder: Builder) -> None:
    """Give a hint when a virtualised builder is not reset after each build, as its name promises."""
    if not builder.virtualised:
        return
    if not config_of(session).reset_command:
        session.output.hint(
            f"Builder {builder.name} is cleaned between builds, as others are: for a new machine after each build set "
            "[builders] reset_command in the masters' buildmaster.conf"
        )
    elif not builder.vm_host:
        words = f"`buildmaster change-builder {builder.name} --vm-host HOST`"
        session.output.hint(f"Builder {builder.name} cannot be reset until it has a host: {words}")


def _name_for(url: str) -> str:
    """A name made of a URL: its host, and its port unless that is a daemon's usual one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise Refusal(f"{url!r} is no URL of a builder, such as http://HOST:8221/")
    return host if port in (None, 8221) else f"{host}-{port}"


def _same(everyone: list[Builder], name: str, url: str, architecture: str) -> bool:
    """Whether this very builder is there."""
    return any(
        (each.name, each.url.rstrip("/"), each.architecture)
        == (name, url.rstrip("/").removesuffix("/rpc"), architecture)
        for each in everyone
    )
