"""Farms in simulated time, whatever goes wrong; `python -m buildmaster.tests.simulation` is the long form."""

import inspect
import textwrap
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from buildd.protocol import BuildStatus
from buildmaster import builders, builds, depwaits, entries, leases, masters, scanner, shares
from buildmaster.tests.databases import on_a_file
from buildmaster.tests.simulation.invariants import Broken
from buildmaster.tests.simulation.machines import HONEST
from buildmaster.tests.simulation.world import Plan, simulate

pytestmark = on_a_file()

ALONE = Plan(0, builders=4, builds=12, hours=0.5, acts=20)
SEVERAL = replace(ALONE, masters=3, deaths=3, stops=5, outages=3, ends=2)


@pytest.mark.parametrize("seed", [11, 12])
def test_nothing_is_lost(seed: int) -> None:
    """Machines that lie, fail and vanish, a master that dies: every build ends, and after each commit all is in
    order."""
    report = simulate(replace(ALONE, seed=seed))
    assert sum(report.states.values()) >= ALONE.builds
    assert sum(report.died.values()) > 10 and len(report.died) > 5


@pytest.mark.parametrize("seed", [21, 22])
def test_several_masters(seed: int) -> None:
    """The same with masters that share the builders: none does anything with what is another's, also when it stood
    still for so long that it has lost all of them, when its clock is wrong, or when it does not reach the database."""
    report = simulate(replace(SEVERAL, seed=seed))
    assert sum(report.states.values()) >= SEVERAL.builds
    assert report.handed > 3


def test_masters_are_not_held_against_anybody() -> None:
    """Where machines are honest, whatever becomes of masters fails no build, and puts no builder out of service."""
    honest = (replace(HONEST, ends={BuildStatus.OK: 1}),) * SEVERAL.builders
    plan = replace(SEVERAL, seed=31, acts=0, publications=0, stops=20, natures=honest)
    report = simulate(plan)
    assert report.disabled == () and report.states.keys() <= {"built", "superseded"}


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same run, to the last step; another one another."""
    small = replace(SEVERAL, builds=5, hours=0.2)
    first, again, other = (simulate(replace(small, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first.digest != other.digest


class Fault(NamedTuple):
    """A mistake in the core: what is written in a function, and what in place of it."""

    place: Any
    function: str
    right: str
    wrong: str
    told: str  # How it is found.
    plan: Plan = replace(ALONE, seed=3)


HONEST_ONES = (replace(HONEST, ends={BuildStatus.OK: 1}, duration_s=(20.0, 90.0)),) * 8
# Each fault where there is a chance for it to do harm.
LYING = replace(ALONE, seed=3, patience_hours=0.5, acts=0, publications=0, deadliness=0.1, builds=20)
WAITING = replace(
    ALONE, seed=3, patience_hours=0.1, acts=0, publications=30, deaths=0, deadliness=0.0, natures=HONEST_ONES
)
STANDING = replace(WAITING, seed=4, masters=3, builders=6, builds=60, publications=0, stops=10, stillness=4.0)


FAULTS = {
    "not marked dirty": Fault(
        builders, "set_cleanliness", '"cleanliness": cleanliness', '"cleanliness": "clean"', "has build .* and is clean"
    ),
    "results forgotten": Fault(builds, "keep_results", "in kept.items()", "in ()", "has 0 files"),
    "an exception": Fault(scanner.Scanner, "_running", "status.stage != job.stage", "1 / 0", "division by zero"),
    "cookie not compared": Fault(
        scanner.Scanner, "_step_with_job", " or status.build_id != job.cookie", "", "is dirty", LYING
    ),
    "what ended stays in the queue": Fault(builds, "record", "if new in ENDED:", "if False:", "still in the queue"),
    "what is lost keeps its builder": Fault(
        entries, "put_back", '"builder_id": None', '"builder_id": build_queue.c.builder_id', "its builder is", LYING
    ),
    "what is forgotten is not built again": Fault(
        scanner.Scanner,
        "_forgotten",
        "now, outcome = self._work.now(), None",
        "return Progress.IDLE",
        "is building",
        LYING,
    ),
    "chroot-waits are not released": Fault(builds, "release_chroot_waits", "in released", "in []", "wait for a chroot"),
    "dep-waits are not released": Fault(
        depwaits, "settle", "lack is None and state is BuildState.DEP_WAIT", "False", "wait", WAITING
    ),
    "nobody looks again": Fault(
        depwaits, "waiting_places", "BuildState.DEP_WAIT", "BuildState.BUILT", "wait", replace(WAITING, seed=9)
    ),
    "what was not looked at is given": Fault(
        shares, "_values", '"unlooked": lane.unlooked', '"unlooked": True', "nobody has looked at", WAITING
    ),
    "leases are not confirmed": Fault(
        masters, "confirm", "!= me", "== -1", "has committed .* that of", replace(STANDING, seed=6)
    ),
    "all scan all builders": Fault(
        leases.Leases, "holds", "vitals.master_id == self.me", "True", "is needs-build", STANDING
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core with a fault does not get through."""
    fault = FAULTS[name]
    plant(fault, monkeypatch)
    with pytest.raises(Broken, match=fault.told):
        simulate(fault.plan)


def plant(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a function with a fault in the place of the right one."""
    right = getattr(fault.place, fault.function)
    source = textwrap.dedent(inspect.getsource(right))
    assert source.count(fault.right) == 1, f"{fault.function} is another now: plant the fault anew"
    made: dict[str, Any] = {}
    exec(source.replace(fault.right, fault.wrong), right.__globals__, made)
    monkeypatch.setattr(fault.place, fault.function, made[fault.function])
