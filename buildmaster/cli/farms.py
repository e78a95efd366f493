"""Which farm a command is about, and opening it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from buildmaster import config, listings
from buildmaster.cli.group import Refusal, Session
from buildmaster.config import MasterConfig
from buildmaster.farm import Farm
from buildmaster.listings import Build

DEFAULT_DISTRIBUTION = "debian"


def config_of(session: Session) -> MasterConfig:
    """The configuration that the global options ask for.

    :raises ConfigError: it has mistakes.
    """
    return config.load(session.config, session.directory)


@contextmanager
def farm_of(session: Session) -> Iterator[Farm]:
    """Open the farm for the length of a command.

    :raises NoFarm: there is none.
    """
    farm = Farm.open(config_of(session).places)
    try:
        yield farm
    finally:
        farm.close()


def looks(session: Session) -> bool:
    """Whether the farm's masters look at build-dependencies before builders get builds, by the same configuration."""
    return config_of(session).looks


def known_build(connection: Connection, build_id: int) -> Build:
    """A build that must be there.

    :raises Refusal: it is not.
    """
    found = listings.one_build(connection, build_id)
    if found is None:
        raise Refusal(f"there is no build {build_id}; `buildmaster builds` lists them")
    return found


def choose_series(connection: Connection, wanted: str | None) -> tuple[str, str]:
    """The distribution and series that SERIES or DISTRIBUTION/SERIES names; None: the only one there is.

    :raises Refusal: there is none such, or several.
    """
    known = sorted({(place.distribution, place.series) for place in listings.places(connection)})
    there = ", ".join("/".join(each) for each in known)
    if not known:
        raise Refusal("the farm has no series yet: add one with `buildmaster add-chroot SERIES ARCH FILE`")
    fitting = [each for each in known if wanted is None or wanted in (each[1], "/".join(each))]
    if not fitting:
        raise Refusal(f"there is no series {wanted!r} here; there are: {there}")
    if len(fitting) > 1:
        raise Refusal(f"there are several series, choose one with --series: {there}")
    return fitting[0]
