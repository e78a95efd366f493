"""What becomes of builds when a newer version of their source comes."""

import time

import pytest
from sqlalchemy import update

from buildmaster import builders, builds, packages
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, Event
from buildmaster.scoring import Pocket
from buildmaster.superseding import Superseded
from buildmaster.tables import build_queue
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_series, set_chroot, write_source

S, E = BuildState, Event


def add(farm: Farm, version: str, name: str = "hello", pocket: Pocket = Pocket.RELEASE) -> packages.Accepted:
    dsc = write_source(farm.directory / "sources", name, version)
    return packages.accept(farm, dsc, time.time(), distribution="debian", series_name="bookworm", pocket=pocket)


def state(farm: Farm, build_id: int) -> BuildState:
    with farm.reading() as connection:
        return builds.state(connection, build_id)


def record(farm: Farm, build_id: int, *events: Event) -> BuildState:
    with farm.transaction() as connection:
        for event in events:
            found = builds.record(connection, build_id, event, time.time())
    return found


@pytest.mark.parametrize("waits", [None, E.DEPENDENCIES_MISSING, E.CHROOT_UNUSABLE])
def test_what_waits_is_superseded_at_once(farm: Farm, waits: Event | None) -> None:
    """For a builder, for build-dependencies or for a chroot; with the reason."""
    make_series(farm)
    old = make_build(farm, version="1.0")
    if waits:
        record(farm, old, waits)
    accepted = add(farm, "1.1")
    assert accepted.superseded == Superseded(("1.0",), (old,))
    with farm.reading() as connection:
        row = builds.find(connection, old)
    assert (row.state, row.reason) == (S.SUPERSEDED, "hello 1.1 took its place")
    assert [state(farm, each) for each in accepted.build_ids] == [S.NEEDS_BUILD]


def test_versions_are_debians(farm: Farm) -> None:
    """Epochs, ~ and numbers count as in dpkg; only what is older goes, and once."""
    make_series(farm)
    for version in ("1.9", "1.10~rc1", "0.1"):
        make_build(farm, version=version)
    assert add(farm, "1.10").superseded == Superseded(("0.1", "1.10~rc1"), (2, 3))  # 1.9 went when 1.10~rc1 came.
    assert add(farm, "1:0.1").superseded.versions == ("1.10",)


def test_an_older_version_that_comes_later(farm: Farm) -> None:
    """It takes nobody's place, and is built: a person wanted it."""
    make_series(farm)
    newer = make_build(farm, version="2.0")
    accepted = add(farm, "1.0")
    assert accepted.superseded == Superseded()
    assert {state(farm, newer), state(farm, accepted.build_ids[0])} == {S.NEEDS_BUILD}


def test_other_places(farm: Farm) -> None:
    """Another pocket, series or name is left alone."""
    make_series(farm)
    make_series(farm, series="trixie")
    ids = [make_build(farm, version="1.0", place=("debian", "trixie")), make_build(farm, "other", "1.0")]
    ids += [make_build(farm, version="1.0", pocket=Pocket.SECURITY)]
    assert add(farm, "2.0").superseded == Superseded()
    assert {state(farm, each) for each in ids} == {S.NEEDS_BUILD}


def test_what_a_builder_has(farm: Farm) -> None:
    """It goes on, and is looked at when it ends: not queued again when it was lost."""
    make_series(farm)
    make_builder(farm)
    old = make_build(farm, version="1.0")
    make_busy(farm, "x86", old)
    assert add(farm, "2.0").superseded == Superseded(("1.0",), ())
    assert state(farm, old) is S.BUILDING
    assert record(farm, old, E.REQUEUED) is S.SUPERSEDED


def test_queued_by_a_clock_that_is_fast(farm: Farm) -> None:
    """What was queued on another machine, whose clock is ahead, was queued before all the same."""
    make_series(farm)
    make_builder(farm)
    old = make_build(farm, version="1.0")
    with farm.transaction() as connection:
        connection.execute(update(build_queue).values(queued_at=time.time() + 300))
    make_busy(farm, "x86", old)
    add(farm, "2.0")
    assert record(farm, old, E.REQUEUED) is S.SUPERSEDED


def test_superseded_by_a_clock_that_is_fast(farm: Farm) -> None:
    """What a person retries is wanted, though by the clocks it was superseded after that."""
    make_series(farm)
    make_builder(farm)
    old = make_build(farm, version="1.0")
    dsc = write_source(farm.directory / "sources", "hello", "2.0")
    packages.accept(farm, dsc, time.time() + 300, distribution="debian", series_name="bookworm")
    with farm.transaction() as connection:
        builds.retry(connection, old, time.time())
    make_busy(farm, "x86", old)
    assert record(farm, old, E.REQUEUED) is S.NEEDS_BUILD


@pytest.mark.parametrize("ended", [E.PACKAGE_FAILED, E.CANCEL])
def test_what_has_ended_stays_as_it_is(farm: Farm, ended: Event) -> None:
    """Why a build failed is still known when its source is superseded."""
    make_series(farm)
    make_builder(farm)
    old = make_build(farm, version="1.0")
    if ended is not E.CANCEL:
        make_busy(farm, "x86", old)
    before = record(farm, old, ended)
    assert add(farm, "2.0").superseded.build_ids == ()
    assert state(farm, old) is before


def test_retried_by_hand(farm: Farm) -> None:
    """A person may want it all the same: it is built, also when it has to wait for a chroot first."""
    place = make_series(farm)
    make_builder(farm)
    old = make_build(farm, version="1.0")
    add(farm, "2.0")
    with farm.transaction() as connection:
        builds.retry(connection, old, time.time() + 1)
    record(farm, old, E.CHROOT_UNUSABLE)
    set_chroot(farm, place, b"new")
    make_busy(farm, "x86", old)
    with farm.transaction() as connection:
        assert builds.record(connection, old, E.REQUEUED, time.time()) is S.NEEDS_BUILD
        assert builders.find(connection, "x86").job is None
    assert add(farm, "3.0").superseded.versions == ("2.0",)  # 1.0 was before, and is still wanted.
    assert state(farm, old) is S.NEEDS_BUILD
