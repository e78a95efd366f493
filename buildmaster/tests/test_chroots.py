"""Which chroot a build is given, and which builds a new one releases."""

import pytest
from sqlalchemy.exc import IntegrityError

from buildmaster import builds, chroots, distributions, orders, waiting
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, Event
from buildmaster.scoring import Pocket
from buildmaster.tables import pocket_chroot
from buildmaster.tests.factories import make_build, make_builder, make_busy, make_series


def put(farm: Farm, place: int, pocket: Pocket, content: str) -> int:
    """Set a pocket's chroot. Returns how many builds that released."""
    stored = farm.store.add([content.encode()])
    with farm.transaction() as connection:
        return distributions.set_chroot(connection, place, stored, f"{content}.tar", 1.0, pocket=pocket)


def given(farm: Farm, build_id: int) -> str:
    with farm.reading() as connection:
        return orders.find(connection, build_id).chroot_name


def state(farm: Farm, build_id: int) -> BuildState:
    with farm.reading() as connection:
        return builds.state(connection, build_id)


def test_which_one_a_build_is_given(farm: Farm) -> None:
    """That of its pocket, else of the next below that has one; one that is taken away gives way again."""
    place = make_series(farm)
    ids = {pocket: make_build(farm, f"source-{pocket.lower()}", pocket=pocket) for pocket in Pocket}
    put(farm, place, Pocket.UPDATES, "updates")
    put(farm, place, Pocket.PROPOSED, "proposed")
    assert {pocket: given(farm, ids[pocket]) for pocket in Pocket} == {
        Pocket.RELEASE: "chroot.tar",
        Pocket.SECURITY: "chroot.tar",
        Pocket.UPDATES: "updates.tar",
        Pocket.PROPOSED: "proposed.tar",
        Pocket.BACKPORTS: "updates.tar",
    }
    with farm.transaction() as connection:
        assert chroots.remove(connection, place, Pocket.PROPOSED)
        assert not chroots.remove(connection, place, Pocket.PROPOSED)
    assert given(farm, ids[Pocket.PROPOSED]) == "updates.tar"
    put(farm, place, Pocket.UPDATES, "newer")
    assert given(farm, ids[Pocket.PROPOSED]) == "newer.tar"


def test_a_pocket_alone_has_one(farm: Farm) -> None:
    """Where release has none, builds of pockets that have one are in the queue, and the others wait."""
    place = make_series(farm, chroot=None)
    assert put(farm, place, Pocket.UPDATES, "updates") == 0
    release = make_build(farm, "of-release")
    proposed = make_build(farm, "of-proposed", pocket=Pocket.PROPOSED)
    assert (state(farm, release), state(farm, proposed)) == (BuildState.CHROOT_WAIT, BuildState.NEEDS_BUILD)
    with farm.reading() as connection:
        assert waiting.why_not_running(connection, proposed, 0.0, looks=False) == "no builder for amd64"


def test_only_what_would_use_it_is_released(farm: Farm) -> None:
    """A new chroot of a pocket releases what waits in the pockets that it serves, and nothing else."""
    place = make_series(farm, chroot=None)
    ids = [make_build(farm, f"source-{pocket.lower()}", pocket=pocket) for pocket in Pocket]
    assert {state(farm, each) for each in ids} == {BuildState.CHROOT_WAIT}
    assert put(farm, place, Pocket.PROPOSED, "proposed") == 1
    assert put(farm, place, Pocket.SECURITY, "security") == 3
    assert put(farm, place, Pocket.RELEASE, "release") == 1
    assert {state(farm, each) for each in ids} == {BuildState.NEEDS_BUILD}


def test_what_another_chroot_broke_waits_on(farm: Farm) -> None:
    """A build that its own pocket's chroot broke is not released by one of release that it would not be given."""
    place = make_series(farm)
    put(farm, place, Pocket.UPDATES, "broken")
    build_id = make_build(farm, pocket=Pocket.UPDATES)
    make_builder(farm)
    make_busy(farm, "x86", build_id)
    with farm.transaction() as connection:
        builds.record(connection, build_id, Event.CHROOT_UNUSABLE, 1.0)
    assert put(farm, place, Pocket.RELEASE, "release") == 0
    assert put(farm, place, Pocket.UPDATES, "mended") == 1
    assert given(farm, build_id) == "mended.tar"


def test_one_a_pocket(farm: Farm) -> None:
    """The database itself keeps a pocket from having two."""
    place = make_series(farm)
    put(farm, place, Pocket.UPDATES, "updates")
    with pytest.raises(IntegrityError), farm.transaction() as connection:
        row = {"series_architecture_id": place, "pocket": "UPDATES", "chroot_file_id": 1}
        connection.execute(pocket_chroot.insert().values(**row, chroot_name="x", chroot_set_at=1.0))
