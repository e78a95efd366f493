"""What follows when builders say of a build that they have failed, until somebody is found to be to blame."""

import pytest
from sqlalchemy import Connection

from buildmaster import builders, builds, queue, recovery
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.tests.factories import make_build, make_builder, make_series


class Farming:
    """A farm on which builders have a build, one after the other."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.ids: dict[str, int] = {}

    def claim(self, connection: Connection, name: str, build_id: int) -> builders.Job:
        """A builder has a build."""
        assert builds.claim(connection, build_id, self.ids[name], 0.0)
        job = builders.job_of(connection, self.ids[name])
        assert job is not None
        return job

    def know(self, name: str) -> None:
        if name not in self.ids:
            self.ids[name] = make_builder(self.farm, name, f"http://{name}.invalid/")

    def forgets(self, name: str, build_id: int) -> BuildState | None:
        """A builder has a build, and does not know it; what becomes of that build."""
        self.know(name)
        with self.farm.transaction() as connection:
            job = self.claim(connection, name, build_id)
            recovery.requeue_forgotten(connection, self.ids[name], job, "forgotten", 0.0)
            return builds.state(connection, build_id)

    def state(self, build_id: int) -> BuildState:
        with self.farm.reading() as connection:
            return builds.state(connection, build_id)

    def breaks(self, name: str, build_id: int, cancel: bool = False) -> BuildState | None:
        """A builder has a build, and says that it has failed; what becomes of that build."""
        self.know(name)
        with self.farm.transaction() as connection:
            job = self.claim(connection, name, build_id)
            if cancel:
                builds.cancel(connection, build_id, 0.0)
            return recovery.punish_builder(connection, self.ids[name], job, "no luck", 0.0, log=None).state

    def loses(self, name: str, build_id: int) -> BuildState | None:
        """A builder has a build, and is not heard of any more; what becomes of that build."""
        self.know(name)
        with self.farm.transaction() as connection:
            self.claim(connection, name, build_id)
            return recovery.punish(connection, self.ids[name], "gone", 0.0, may_retry=False).state

    def does_well(self, name: str) -> None:
        """It has built something else."""
        with self.farm.transaction() as connection:
            builders.did_well(connection, self.ids[name])

    def in_service(self, name: str) -> bool:
        with self.farm.reading() as connection:
            found = builders.by_id(connection, self.ids[name])
            return found is not None and found.enabled


@pytest.fixture
def farming(farm: Farm) -> Farming:
    make_series(farm)
    return Farming(farm)


def test_two_broken_builders_do_not_make_a_broken_build(farming: Farming) -> None:
    """However often they fail with it, one after the other: they go out of service, and it waits for others."""
    build_id = make_build(farming.farm)
    states = [farming.breaks(name, build_id) for name in ("one", "two") * 5]
    assert set(states) == {BuildState.NEEDS_BUILD}
    assert not farming.in_service("one")
    assert not farming.in_service("two")


def test_three_builders_make_a_broken_build(farming: Farming) -> None:
    """In whichever order they have failed; none of them goes out of service for it."""
    build_id = make_build(farming.farm)
    states = [farming.breaks(name, build_id) for name in ("one", "two", "one", "three")]
    assert states == [BuildState.NEEDS_BUILD] * 3 + [BuildState.FAILED]
    assert all(farming.in_service(name) for name in ("one", "two", "three"))


def test_a_build_that_breaks_the_only_builder_again_and_again(farming: Farming) -> None:
    """A builder that did well since says something new."""
    build_id = make_build(farming.farm)
    assert farming.breaks("one", build_id) is BuildState.NEEDS_BUILD
    assert farming.breaks("one", build_id) is BuildState.NEEDS_BUILD
    for expected in (BuildState.NEEDS_BUILD, BuildState.FAILED):
        farming.does_well("one")
        assert farming.breaks("one", build_id) is expected
    with farming.farm.reading() as connection:
        assert builds.find(connection, build_id).reason == "builders have failed with it 3 times: no luck"


def test_what_was_retried_is_judged_anew(farming: Farming) -> None:
    """By whom it was broken before a person had it tried again is forgotten."""
    build_id = make_build(farming.farm)
    for name in ("one", "two", "three"):
        farming.breaks(name, build_id)
    with farming.farm.transaction() as connection:
        builds.retry(connection, build_id, 0.0)
        assert queue.breakdowns(connection, build_id) == ()
    assert farming.breaks("four", build_id) is BuildState.NEEDS_BUILD


def test_three_lost_builds(farming: Farming) -> None:
    """The third build in a row that a builder loses is its last; one that ended well between begins the count anew."""
    lost = [make_build(farming.farm, f"source{number}") for number in range(6)]
    for build_id in lost[:2]:
        farming.breaks("one", build_id)
    farming.does_well("one")
    for build_id in lost[2:4]:
        farming.breaks("one", build_id)
    assert farming.in_service("one")
    farming.breaks("one", lost[4])
    assert not farming.in_service("one")
    assert {farming.state(build_id) for build_id in lost} == {BuildState.NEEDS_BUILD}


def test_a_builder_that_forgets(farming: Farming) -> None:
    """Nobody is to blame for a build that is forgotten once; a builder that forgets every build goes out of service."""
    for name, in_service in (("first", True), ("second", True), ("third", False)):
        assert farming.forgets("one", make_build(farming.farm, name)) is BuildState.NEEDS_BUILD
        assert farming.in_service("one") is in_service


def test_a_builder_that_forgets_one_build_again_and_again(farming: Farming) -> None:
    """That is a failure of its own, and the fifth in a row is the last; the build waits for another builder."""
    build_id = make_build(farming.farm)
    states = [farming.forgets("one", build_id) for _ in range(6)]
    assert set(states) == {BuildState.NEEDS_BUILD} and not farming.in_service("one")


def test_who_lost_a_build_twice(farming: Farming) -> None:
    """A builder that has done nothing well since it lost a build says nothing new by losing it again; one that has,
    does."""
    first, second = make_build(farming.farm, "first"), make_build(farming.farm, "second")
    assert [farming.loses("one", first) for _ in range(2)] == [BuildState.NEEDS_BUILD] * 2
    farming.does_well("one")
    assert farming.loses("one", first) is BuildState.FAILED
    assert farming.in_service("one")
    assert [farming.loses("two", second) for _ in range(5)] == [BuildState.NEEDS_BUILD] * 5
    assert not farming.in_service("two")


def test_what_is_cancelled_is_not_lost(farming: Farming) -> None:
    """A builder that fails with builds that are being cancelled costs nobody anything: only its failures count."""
    for number in range(4):
        build_id = make_build(farming.farm, f"source{number}")
        assert farming.breaks("one", build_id, cancel=True) is BuildState.CANCELLED
    assert farming.in_service("one")
