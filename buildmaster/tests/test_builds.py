"""Builds and their queue."""

import time

import pytest
from sqlalchemy import select, update

from buildd.protocol import FileName
from buildmaster import builders, builds, distributions, entries, orders, queue
from buildmaster.builders import Cleanliness
from buildmaster.farm import Farm
from buildmaster.lifecycle import ENDED, BuildState, Event, ImpossibleTransition
from buildmaster.tables import archive, build, build_file, build_queue, source
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_series, set_chroot

S, E = BuildState, Event


@pytest.fixture
def queued(farm: Farm) -> int:
    """A build in the queue."""
    make_series(farm)
    return make_build(farm)


def state_of(farm: Farm, build_id: int) -> BuildState:
    with farm.reading() as connection:
        return builds.state(connection, build_id)


def queue_row(farm: Farm, build_id: int) -> builds.AnyRow | None:
    with farm.reading() as connection:
        return connection.execute(select(build_queue).where(build_queue.c.build_id == build_id)).first()


def record(farm: Farm, build_id: int, *events: Event, now: float = 100.0, **more: object) -> BuildState:
    with farm.transaction() as connection:
        for event in events:
            state = builds.record(connection, build_id, event, now, **more)  # type: ignore[arg-type]
    return state


def next_for(farm: Farm, builder: str, now: float = 1e12) -> list[int]:
    with farm.reading() as connection:
        found = builders.find(connection, builder)
        return queue.candidates(connection, found, now, 10)


def test_a_new_build_is_in_the_queue(farm: Farm, queued: int) -> None:
    """A build that is added waits in the queue, with its score."""
    row = queue_row(farm, queued)
    assert state_of(farm, queued) is S.NEEDS_BUILD
    assert row is not None and (row.builder_id, row.score, row.architecture) == (None, 2510, "amd64")


def test_no_chroot(farm: Farm) -> None:
    """Without a chroot a build waits for one and says so; a chroot puts it into the queue."""
    place = make_series(farm, chroot=None)
    build_id = make_build(farm)
    assert state_of(farm, build_id) is S.CHROOT_WAIT and queue_row(farm, build_id) is None
    with farm.reading() as connection:
        assert builds.find(connection, build_id).reason == "there is no chroot for debian bookworm amd64"
    set_chroot(farm, place)
    assert state_of(farm, build_id) is S.NEEDS_BUILD and queue_row(farm, build_id) is not None


def test_a_new_chroot_releases_what_the_old_one_broke(farm: Farm, queued: int) -> None:
    """A build that failed by its chroot is tried again once there is another one."""
    make_builder(farm)
    make_busy(farm, "x86", queued)
    record(farm, queued, E.CHROOT_UNUSABLE, reason="broken")
    with farm.transaction() as connection:
        place = distributions.ensure(connection, "debian", "bookworm", "amd64")
        assert distributions.set_chroot(connection, place, farm.store.add([b"new"]), "new.tar", 5.0) == 1
    assert state_of(farm, queued) is S.NEEDS_BUILD


def test_a_claim_happens_once(farm: Farm, queued: int) -> None:
    """Of two that claim a build, one gets it."""
    ids = [make_builder(farm, name, f"http://{name}/") for name in "ab"]
    with farm.transaction() as connection:
        assert [builds.claim(connection, queued, each, 7.0) for each in ids] == [True, False]
    row = queue_row(farm, queued)
    assert state_of(farm, queued) is S.BUILDING and row is not None and row.builder_id == ids[0]


def test_a_cancelled_build_cannot_be_claimed(farm: Farm, queued: int) -> None:
    """Between being a candidate and the claim a build may be cancelled: then it is not claimed."""
    builder_id = make_builder(farm)
    with farm.transaction() as connection:
        builds.cancel(connection, queued, 7.0)
        assert not builds.claim(connection, queued, builder_id, 7.0)
    assert state_of(farm, queued) is S.CANCELLED


@pytest.mark.parametrize("event", sorted(E))
def test_the_queue_is_in_step(farm: Farm, queued: int, event: Event) -> None:
    """Whatever happens to a build: it has a queue row unless it ended, and a builder while active."""
    make_builder(farm)
    make_busy(farm, "x86", queued)
    try:
        state = record(farm, queued, event)
    except ImpossibleTransition:
        state = S.BUILDING
    row = queue_row(farm, queued)
    assert state_of(farm, queued) is state
    assert (row is None) == (state in ENDED)
    assert row is None or (row.builder_id is None) == (state is S.NEEDS_BUILD)
    with farm.reading() as connection:
        assert (builds.find(connection, queued).finished_at is not None) == (state in ENDED)


def test_a_refused_event_changes_nothing(farm: Farm, queued: int) -> None:
    """An event that a state cannot take leaves the build as it was."""
    with pytest.raises(ImpossibleTransition):
        record(farm, queued, E.GATHERED)
    assert state_of(farm, queued) is S.NEEDS_BUILD


def test_cancel_and_retry(farm: Farm, queued: int) -> None:
    """A cancelled build can be retried; its failures are forgotten then."""
    make_builder(farm)
    make_busy(farm, "x86", queued)
    with farm.transaction() as connection:
        assert builds.count_failure(connection, queued) == 1
        assert builds.cancel(connection, queued, 50.0) is S.CANCELLING
        assert builds.cancel(connection, queued, 60.0) is S.CANCELLING
    row = queue_row(farm, queued)
    assert row is not None and row.cancelled_at == 50.0  # The first one counts.
    record(farm, queued, E.ABORTED)
    with farm.transaction() as connection:
        assert builds.retry(connection, queued, 70.0) is S.NEEDS_BUILD
        assert builds.find(connection, queued).failures == 0


def test_retry_without_a_chroot(farm: Farm) -> None:
    """A retry while there is still no chroot leads back to waiting for one."""
    make_series(farm, chroot=None)
    build_id = make_build(farm)
    with farm.transaction() as connection:
        assert builds.retry(connection, build_id, 1.0) is S.CHROOT_WAIT


def test_a_requeue_keeps_place_and_failures(farm: Farm, queued: int) -> None:
    """A build that is queued again keeps its queue row, its score and its count of failures."""
    make_builder(farm)
    with farm.transaction() as connection:
        builds.set_score(connection, queued, 77)
    before = queue_row(farm, queued)
    make_busy(farm, "x86", queued)
    with farm.transaction() as connection:
        builds.count_failure(connection, queued)
    record(farm, queued, E.REQUEUED)
    after = queue_row(farm, queued)
    assert before is not None and after is not None
    assert (after.id, after.score, after.builder_id) == (before.id, 77, None)
    with farm.reading() as connection:
        assert builds.find(connection, queued).failures == 1


def test_order(farm: Farm) -> None:
    """The higher score goes first, then the older one."""
    make_series(farm)
    make_builder(farm)
    ids = [make_build(farm, name) for name in ("aa", "bb", "cc")]
    with farm.transaction() as connection:
        builds.set_score(connection, ids[2], 9999)
    assert next_for(farm, "x86") == [ids[2], ids[0], ids[1]]


def test_only_what_it_can_build(farm: Farm) -> None:
    """A builder is given builds of its architecture only, and virtualised ones only if it is."""
    make_series(farm)
    make_series(farm, architecture="i386")
    for name, architecture in (("a", "amd64"), ("i", "i386"), ("s", "s390x")):
        make_builder(farm, name, f"http://{name}/", architecture)
    with farm.transaction() as connection:
        builders.add(connection, "v", "http://v/", "amd64", 0.0, virtualised=True)
    make_build(farm)
    assert [next_for(farm, name) for name in "aisv"] == [[1], [2], [], []]


def tag(farm: Farm, builder: str, *offered: str, restricted: tuple[str, ...] = ()) -> None:
    with farm.transaction() as connection:
        builders.set_tags(connection, builder, offered=offered, restricted=restricted)


def test_only_what_its_tags_allow(farm: Farm) -> None:
    """A builder has all that its builds need, and each needs all that it is kept for; in the order of all queues."""
    make_series(farm)
    for name in ("plain", "both", "kept"):
        make_builder(farm, name, f"http://{name}/")
    tag(farm, "both", "gpu", "large")
    tag(farm, "kept", "large", restricted=("gpu",))
    for number, needs in enumerate(("", "gpu", "gpu large", "", "large", "gold")):
        make_build(farm, f"source{number}", needs=needs)
    with farm.transaction() as connection:
        builds.set_score(connection, 5, 9999)
    assert next_for(farm, "plain") == [1, 4]
    assert next_for(farm, "both") == [5, 1, 2, 3, 4]
    assert next_for(farm, "kept") == [2, 3]


def test_left_only_to_builders_that_have_its_tags(farm: Farm) -> None:
    """A build that was lost is left to another builder only if that has what the build needs."""
    make_series(farm)
    make_builder(farm, "a", "http://a/")
    make_builder(farm, "b", "http://b/")
    tag(farm, "a", "gpu")
    needs, plain = make_build(farm, "needs", needs="gpu"), make_build(farm, "plain")
    for build_id in (needs, plain):
        make_busy(farm, "a", build_id)
        record(farm, build_id, E.REQUEUED)
    assert next_for(farm, "a") == [needs]
    assert next_for(farm, "b") == [plain]


def test_tags_of_the_archive(farm: Farm) -> None:
    """What all builds of an archive need, each needs beside its own."""
    make_series(farm)
    make_builder(farm, "a", "http://a/")
    with farm.transaction() as connection:
        connection.execute(update(archive).values(tags="large"))
    build_id = make_build(farm, needs="gpu")
    for tags in (("gpu",), ("large",)):
        tag(farm, "a", *tags)
        assert next_for(farm, "a") == []
    tag(farm, "a", "gpu", "large")
    assert next_for(farm, "a") == [build_id]
    with farm.reading() as connection:
        assert orders.find(connection, build_id).arguments.builder_constraints == ("gpu", "large")


def test_not_back_to_the_builder_that_lost_it(farm: Farm, queued: int) -> None:
    """A requeued build does not go back to the builder that lost it, while another could take it."""
    make_builder(farm, "a", "http://a/")
    make_builder(farm, "b", "http://b/")
    make_busy(farm, "a", queued)
    record(farm, queued, E.REQUEUED)
    assert next_for(farm, "b") == [queued]
    assert next_for(farm, "a") == []
    with farm.transaction() as connection:
        builders.disable(connection, "b", "broken")
    assert next_for(farm, "a") == [queued]
    with farm.transaction() as connection:
        builders.enable(connection, "b")
        builders.set_manual(connection, "b", True)
    assert next_for(farm, "a") == [queued]


def test_a_pause(farm: Farm, queued: int) -> None:
    """A build that was given back is left alone for a while, longer each time."""
    make_builder(farm)
    make_busy(farm, "x86", queued)
    record(farm, queued, E.GIVEN_BACK, now=100.0, pause_s=15.0)
    assert next_for(farm, "x86", now=114.0) == [] and next_for(farm, "x86", now=115.0) == [queued]
    pauses = [queue.pause_s(attempts) for attempts in range(1, 9)]
    assert pauses[:4] == [15, 30, 60, 120] and pauses[-1] == 900 and queue.pause_s(10_000) == 900


def test_the_clock_is_set_back(farm: Farm, queued: int) -> None:
    """A pause that by the clock is longer than any can be is over: the clock was set back."""
    make_builder(farm)
    make_busy(farm, "x86", queued)
    record(farm, queued, E.GIVEN_BACK, now=100_000.0, pause_s=900.0)
    assert next_for(farm, "x86", now=100_000.0) == []
    assert next_for(farm, "x86", now=13_600.0) == [queued]


def test_the_other_builder_cannot_take_it(farm: Farm, queued: int) -> None:
    """A requeued build goes back to the builder that lost it, while the other has failed, is busy or is not clean."""
    make_builder(farm, "a", "http://a/")
    other = make_builder(farm, "b", "http://b/")
    make_busy(farm, "a", queued)
    record(farm, queued, E.REQUEUED)
    assert next_for(farm, "a") == []
    with farm.transaction() as connection:
        builders.set_cleanliness(connection, other, Cleanliness.DIRTY)
    assert next_for(farm, "a") == [queued]
    with farm.transaction() as connection:
        builders.set_cleanliness(connection, other, Cleanliness.CLEAN)
        builders.count_failure(connection, other)
    assert next_for(farm, "a") == [queued]
    with farm.transaction() as connection:
        builders.forgive(connection, other)
    assert next_for(farm, "a") == []
    make_busy(farm, "b", make_build(farm, "another"))
    with farm.transaction() as connection:
        builders.set_cleanliness(connection, other, Cleanliness.CLEAN)
    assert next_for(farm, "a") == [queued]


def test_titles_and_names(farm: Farm) -> None:
    """A build's title and the name of its log are those that people know from Launchpad."""
    make_series(farm, "ubuntu", "hoary", "i386")
    build_id = make_build(farm, "mozilla-firefox", "0.9", ("ubuntu", "hoary"))
    with farm.reading() as connection:
        row = builds.find(connection, build_id)
    assert builds.title_of(row) == "i386 build of mozilla-firefox 0.9 in ubuntu hoary RELEASE"
    assert builds.log_name(row, S.BUILT) == "buildlog_ubuntu-hoary-i386.mozilla-firefox_0.9_BUILT.txt.gz"
    assert builds.cookie(123) == "PACKAGEBUILD-123"


def test_expected_duration(farm: Farm, queued: int) -> None:
    """A build is expected to take as long as its source did last on that architecture, else what its size says."""
    make_builder(farm)
    with farm.reading() as connection:
        assert entries.expected_s(connection, queued) == 30.0
    make_busy(farm, "x86", queued)
    with farm.transaction() as connection:
        connection.execute(build.update().values(started_at=1000.0))
        builds.record(connection, queued, E.SUCCEEDED, 1234.0)
        builds.record(connection, queued, E.GATHERED, 1234.0)
    again = make_build(farm, "hello", "1.1")
    with farm.reading() as connection:
        assert entries.expected_s(connection, again) == 234.0


def test_results_and_log_take_the_place_of_earlier_ones(farm: Farm, queued: int) -> None:
    """A later attempt's results and log take the place of an earlier one's."""
    one, two = farm.store.add([b"1"]), farm.store.add([b"2"])
    with farm.transaction() as connection:
        builds.keep_results(connection, queued, {FileName("a"): one, FileName("b"): one}, 1.0)
        builds.keep_results(connection, queued, {FileName("a"): two}, 1.0)
        builds.keep_log(connection, queued, builds.Log(one, "first"), 1.0)
        builds.keep_log(connection, queued, builds.Log(two, "second"), 1.0)
        assert list(connection.execute(select(build_file.c.name)).scalars()) == ["a"]
        assert builds.find(connection, queued).log_name == "second"


def test_what_waits(farm: Farm) -> None:
    """The picture of the queue changes when something is queued, also when it is queued again."""
    make_series(farm)
    make_builder(farm)
    pictures = []

    def look() -> None:
        with farm.reading() as connection:
            pictures.append(queue.waiting(connection))

    look()
    build_id = make_build(farm)
    look()
    make_busy(farm, "x86", build_id)
    look()
    record(farm, build_id, E.REQUEUED)
    look()
    assert pictures[0] == pictures[2] == {}
    assert pictures[1].keys() == pictures[3].keys() == {("amd64", False, "")} and pictures[1] != pictures[3]


def test_no_such_build(farm: Farm) -> None:
    """A build that is not there is told by its number."""
    with farm.transaction() as connection:
        with pytest.raises(builds.NoSuchBuild, match="7"):
            builds.cancel(connection, 7, 1.0)
        with pytest.raises(builds.NoSuchBuild):
            builds.set_score(connection, 7, 1)


def test_dirty_with_the_claim(farm: Farm, queued: int) -> None:
    """A builder with a build is in the picture with its build, and dirty."""
    make_builder(farm)
    make_busy(farm, "x86", queued)
    with farm.reading() as connection:
        (vitals,) = builders.vitals(connection).values()
    assert vitals.cleanliness is Cleanliness.DIRTY
    assert vitals.job is not None and (vitals.job.build_id, vitals.job.cookie) == (queued, f"PACKAGEBUILD-{queued}")


def supersede(farm: Farm, build_id: int, at: float) -> None:
    """A newer source takes the place of a build's own; the build itself is told nothing."""
    with farm.transaction() as connection:
        this = source.c.id == builds.find(connection, build_id).source_id
        connection.execute(update(source).where(this).values(superseded_at=at))


@pytest.mark.parametrize("event", [E.REQUEUED, E.GIVEN_BACK, E.ABORTED, E.DEPENDENCIES_MISSING, E.CHROOT_UNUSABLE])
def test_lost_while_its_source_was_superseded(farm: Farm, queued: int, event: Event) -> None:
    """What would have to be built again is not, when its source was superseded while a builder had it."""
    make_builder(farm)
    make_busy(farm, "x86", queued)
    supersede(farm, queued, time.time() + 1)
    assert record(farm, queued, event) is S.SUPERSEDED
    assert queue_row(farm, queued) is None


def test_a_superseded_build_that_was_retried_is_wanted(farm: Farm, queued: int) -> None:
    """A person who retries what was superseded knows that: it is not superseded a second time."""
    make_builder(farm)
    supersede(farm, queued, 50.0)
    assert record(farm, queued, E.SUPERSEDE) is S.SUPERSEDED
    with farm.transaction() as connection:
        builds.retry(connection, queued, 100.0)
        assert not entries.standing(connection, queued).superseded
    make_busy(farm, "x86", queued)
    assert record(farm, queued, E.REQUEUED) is S.NEEDS_BUILD
