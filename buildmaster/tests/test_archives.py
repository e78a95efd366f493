"""Archives: what is changed of them, and with it what waits."""

import time

import pytest
from sqlalchemy import select

from buildmaster import archives, builds, distributions, needs, orders, packages, queue
from buildmaster import builders as farm_builders
from buildmaster.archives import ArchiveRefused, Changes
from buildmaster.distributions import NoSuchSeries
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.scoring import ArchivePurpose, Band
from buildmaster.tables import build_queue
from buildmaster.tags import TagsRefused
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_series, write_source


def add(farm: Farm, name: str = "ppa", purpose: ArchivePurpose = ArchivePurpose.PPA) -> int:
    with farm.transaction() as connection:
        return archives.add(connection, "debian", name, purpose)


def submit(farm: Farm, name: str, archive: str = "ppa", needs: str = "") -> int:
    dsc = write_source(farm.directory / "sources", name)
    accepted = packages.accept(
        farm, dsc, time.time(), distribution="debian", series_name="bookworm", archive_name=archive, needs=needs
    )
    return accepted.build_ids[0]


def change(farm: Farm, archive_id: int, **what: object) -> None:
    with farm.transaction() as connection:
        archives.change(connection, archive_id, Changes(**what), 7.0)  # type: ignore[arg-type]


def row(farm: Farm, build_id: int) -> builds.AnyRow:
    with farm.reading() as connection:
        return connection.execute(select(build_queue).where(build_queue.c.build_id == build_id)).one()


@pytest.fixture
def ppa(farm: Farm) -> int:
    make_series(farm)
    return add(farm)


def test_a_new_score_is_that_of_what_waits(farm: Farm, ppa: int) -> None:
    """Each build of the archive that waits is scored anew, and is in the band of that; what a person set stays."""
    plain, by_hand, other = submit(farm, "plain"), submit(farm, "by-hand"), make_build(farm, "other")
    with farm.transaction() as connection:
        builds.set_score(connection, by_hand, 42)
    for what, points, band in (
        ({"relative_score": -3000}, -490, Band.SPARE),
        ({"relative_score": 2000}, 4510, Band.URGENT),
        ({"relative_score": 0, "private": True}, 12510, Band.FIRST),
        ({"private": False}, 2510, Band.USUAL),
    ):
        change(farm, ppa, **what)
        found = row(farm, plain)
        assert (found.score, found.minus_score, found.band) == (points, -points, band)
        assert row(farm, by_hand).score == 42 and row(farm, other).score == 2510
        assert row(farm, submit(farm, f"new{points}")).score == points


def test_what_its_builds_need(farm: Farm, ppa: int) -> None:
    """Tags and virtualised builders are needed by what waits at once, beside what it needs itself."""
    make_builder(farm, "plain", "http://plain/")
    own, none = submit(farm, "own", needs="gpu"), submit(farm, "none")
    change(farm, ppa, tags="large")
    assert (row(farm, own).tags, row(farm, none).tags) == ("gpu large", "large")
    change(farm, ppa, tags="", virtualised=True)
    assert (row(farm, own).tags, row(farm, none).tags) == ("gpu", "")
    with farm.transaction() as connection:
        farm_builders.add(connection, "v", "http://v/", "amd64", 0.0, virtualised=True)
        found = {name: farm_builders.find(connection, name) for name in ("plain", "v")}
        assert queue.candidates(connection, found["plain"], 1e12, 9) == []
        assert queue.candidates(connection, found["v"], 1e12, 9) == [none]


def test_what_a_builder_has(farm: Farm, ppa: int) -> None:
    """A build that runs goes on where it is; what it needs is looked at when it is queued again."""
    make_builder(farm)
    running = submit(farm, "running")
    make_busy(farm, "x86", running)
    change(farm, ppa, virtualised=True, tags="large")
    assert not row(farm, running).virtualised
    with farm.transaction() as connection:
        builds.record(connection, running, Event.REQUEUED, 8.0)
    assert (row(farm, running).virtualised, row(farm, running).tags) == (True, "large")


def test_too_many_tags(farm: Farm, ppa: int) -> None:
    """An archive cannot need so much that one of its builds would need more than there is room for; nothing changes."""
    half = " ".join(f"tag-number-{number:04}" for number in range(11))
    waits = submit(farm, "waits", needs=half)
    with pytest.raises(TagsRefused):
        change(farm, ppa, tags=half.replace("number", "figure"), relative_score=5)
    with farm.reading() as connection:
        assert {each.relative_score for each in archives.every(connection)} == {0}
    assert (row(farm, waits).tags, row(farm, waits).score) == (half, 2510)


@pytest.mark.parametrize("event", [Event.CLAIMED, Event.DEPENDENCIES_MISSING, Event.CHROOT_UNUSABLE])
def test_too_many_tags_for_what_comes_back(farm: Farm, ppa: int, event: Event) -> None:
    """The same goes for a build that is not waiting for a builder now, and could not go back into the queue."""
    half = " ".join(f"tag-number-{number:04}" for number in range(11))
    build_id = submit(farm, "comes-back", needs=half)
    if event is Event.CLAIMED:
        make_builder(farm)
        make_busy(farm, "x86", build_id)
    else:
        with farm.transaction() as connection:
            builds.record(connection, build_id, event, 7.0)
    with pytest.raises(TagsRefused):
        change(farm, ppa, tags=half.replace("number", "figure"))
    with pytest.raises(TagsRefused):
        needs_of(farm, ppa, "comes-back", half.replace("number", "figure"))
    with farm.transaction() as connection:
        back = Event.REQUEUED if event is Event.CLAIMED else Event.RELEASED
        builds.record(connection, build_id, back, 8.0)
    assert row(farm, build_id).tags == half


def needs_of(farm: Farm, archive_id: int, name: str, tags: str) -> None:
    with farm.transaction() as connection:
        needs.set_of_source(connection, archive_id, name, tags, 7.0)


def test_what_a_source_needs(farm: Farm, ppa: int) -> None:
    """Whatever its version: what waits, and what comes; beside what the build and the archive need; and nobody else."""
    waits, own, other = submit(farm, "big"), make_build(farm, "big"), submit(farm, "small")
    change(farm, ppa, tags="ppa")
    needs_of(farm, ppa, "big", "large")
    assert [row(farm, each).tags for each in (waits, own, other)] == ["large ppa", "", "ppa"]
    with farm.transaction() as connection:
        builds.record(connection, waits, Event.DEPENDENCIES_MISSING, 8.0)
        builds.record(connection, waits, Event.RELEASED, 9.0)
        assert orders.find(connection, waits).arguments.builder_constraints == ("large", "ppa")
    assert row(farm, waits).tags == "large ppa"
    change(farm, ppa, tags="")
    assert row(farm, waits).tags == "large"
    needs_of(farm, ppa, "big", "")
    assert row(farm, waits).tags == ""


def test_a_copy(farm: Farm, ppa: int) -> None:
    """What a copy builds is built when nothing else is to do."""
    add(farm, "copy", ArchivePurpose.COPY)
    assert row(farm, submit(farm, "rebuilt", "copy")).band == Band.SPARE
    with farm.reading() as connection:
        assert [(each.name, each.waiting) for each in archives.every(connection)] == [
            ("copy", 1),
            ("ppa", 0),
            ("primary", 0),
        ]


def test_what_cannot_be_added(farm: Farm, ppa: int) -> None:
    """A second one of a name, a second primary one, a name that is none, or one of no distribution."""
    for name, purpose, error in (
        ("ppa", ArchivePurpose.PPA, ArchiveRefused),
        ("other", ArchivePurpose.PRIMARY, ArchiveRefused),
        ("a b", ArchivePurpose.PPA, ArchiveRefused),
    ):
        with pytest.raises(error):
            add(farm, name, purpose)
    with farm.transaction() as connection, pytest.raises(NoSuchSeries):
        archives.add(connection, "nowhere", "x", ArchivePurpose.PPA)
    with farm.reading() as connection, pytest.raises(NoSuchSeries):
        distributions.find_archive(connection, "debian", "other")


def test_a_score_by_hand_sticks(farm: Farm, ppa: int) -> None:
    """To the build: also when it has waited for something else, or is retried; until it is taken back."""
    build_id = submit(farm, "sticks")
    with farm.transaction() as connection:
        builds.set_score(connection, build_id, -7)
        builds.record(connection, build_id, Event.DEPENDENCIES_MISSING, 8.0)
        builds.record(connection, build_id, Event.RELEASED, 9.0)
    assert (row(farm, build_id).score, row(farm, build_id).band) == (-7, Band.SPARE)
    change(farm, ppa, relative_score=100)
    with farm.transaction() as connection:
        builds.record(connection, build_id, Event.DEPENDENCIES_MISSING, 8.0)
        builds.set_score(connection, build_id, 9)  # While it is not in the queue.
        builds.record(connection, build_id, Event.RELEASED, 9.0)
    assert row(farm, build_id).score == 9
    with farm.transaction() as connection:
        builds.set_score(connection, build_id, None)
    assert (row(farm, build_id).score, row(farm, build_id).manual_score) == (2610, False)
