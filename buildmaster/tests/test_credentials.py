"""Who may read private archives."""

import time

import pytest
from sqlalchemy import select

from buildmaster import archives, builds, credentials, distributions, offered
from buildmaster.apt_sources import Login
from buildmaster.credentials import ReaderRefused
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.scoring import ArchivePurpose
from buildmaster.tables import archive_reader, build
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_series

SECRET = "of the farm's"


def primary(farm: Farm) -> int:
    with farm.reading() as connection:
        return distributions.find_archive(connection, "debian")


def other(farm: Farm, name: str) -> int:
    with farm.transaction() as connection:
        return archives.add(connection, "debian", name, ArchivePurpose.PPA)


def may(farm: Farm, archive_id: int, user: str, password: str, secret: str = SECRET) -> bool:
    with farm.reading() as connection:
        return credentials.may_read(connection, archive_id, Login(user, password), secret)


def test_people(farm: Farm) -> None:
    """A user reads the archive that the token was given for, until it is taken back."""
    make_series(farm)
    mine, next_door = primary(farm), other(farm, "next-door")
    with farm.transaction() as connection:
        token = credentials.add(connection, mine, "alice", 5.0)
        other_token = credentials.add(connection, next_door, "alice", 6.0)
        assert [(each.name, each.created_at) for each in credentials.readers(connection, mine)] == [("alice", 5.0)]
    assert token != other_token and may(farm, mine, "alice", token) and may(farm, next_door, "alice", other_token)
    for user, password in (("alice", other_token), ("alice", ""), ("bob", token), ("Alice", token), ("", token)):
        assert not may(farm, mine, user, password)
    with farm.transaction() as connection:
        credentials.remove(connection, mine, "alice")
    assert not may(farm, mine, "alice", token) and may(farm, next_door, "alice", other_token)


def test_a_token_is_not_kept(farm: Farm) -> None:
    """Who reads the database reads no token."""
    make_series(farm)
    with farm.transaction() as connection:
        token = credentials.add(connection, primary(farm), "alice", 5.0)
        kept = connection.execute(select(archive_reader)).one()
    assert token not in str(kept) and len(token) >= 43


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "farm", "build-7", "ä", "a" * 65, "a\n"])
def test_names(farm: Farm, name: str) -> None:
    """Nobody can be called what builds are, or what a URL cannot hold."""
    make_series(farm)
    with farm.transaction() as connection, pytest.raises(ReaderRefused):
        credentials.add(connection, primary(farm), name, 5.0)


def test_twice(farm: Farm) -> None:
    """A user has one token; who is not there cannot be removed."""
    make_series(farm)
    with farm.transaction() as connection:
        credentials.add(connection, primary(farm), "alice", 5.0)
        with pytest.raises(ReaderRefused, match="already"):
            credentials.add(connection, primary(farm), "alice", 5.0)
        with pytest.raises(ReaderRefused, match="no user 'bob'"):
            credentials.remove(connection, primary(farm), "bob")


def attempt(farm: Farm, build_id: int) -> Login:
    with farm.reading() as connection:
        row = connection.execute(select(build).where(build.c.id == build_id)).one()
    return credentials.of_build(SECRET, build_id, row.builder_id, row.started_at)


def test_a_build(farm: Farm) -> None:
    """A build reads its archive, and those that lend it packages, as long as it is on its builder, and no longer."""
    make_series(farm)
    mine, lender, third = primary(farm), other(farm, "lender"), other(farm, "third")
    make_builder(farm)
    build_id = make_build(farm)
    make_busy(farm, "x86", build_id)
    with farm.transaction() as connection:
        offered.depend(connection, mine, lender)
    login = attempt(farm, build_id)
    assert may(farm, mine, *vars(login).values()) and may(farm, lender, *vars(login).values())
    assert not may(farm, third, *vars(login).values())
    assert not may(farm, mine, login.user, login.password, secret="another")
    assert not may(farm, mine, f"build-{build_id + 1}", login.password)
    assert not may(farm, mine, "build-999999999", login.password) and not may(farm, mine, login.user, "")
    with farm.transaction() as connection:
        builds.record(connection, build_id, Event.PACKAGE_FAILED, time.time(), reason="x")
    assert not may(farm, mine, *vars(login).values())


def test_another_attempt(farm: Farm) -> None:
    """The password of an attempt is not that of the next."""
    make_series(farm)
    make_builder(farm)
    build_id = make_build(farm)
    make_busy(farm, "x86", build_id)
    first = attempt(farm, build_id)
    with farm.transaction() as connection:
        builds.record(connection, build_id, Event.PACKAGE_FAILED, time.time(), reason="x")
        builds.retry(connection, build_id, time.time())
    assert not may(farm, primary(farm), *vars(first).values())
    make_busy(farm, "x86", build_id)
    second = attempt(farm, build_id)
    assert not may(farm, primary(farm), *vars(first).values()) and may(farm, primary(farm), *vars(second).values())


def test_the_farm(farm: Farm) -> None:
    """The master reads all of them, by a password that nobody else can make."""
    make_series(farm)
    login = credentials.of_farm(SECRET)
    assert may(farm, primary(farm), *vars(login).values())
    assert not may(farm, primary(farm), login.user, credentials.of_farm("another").password)
