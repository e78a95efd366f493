"""Farms in simulated time, whatever goes wrong; `python -m buildmaster.tests.simulation` is the long form."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from buildmaster import builders, builds
from buildmaster.builders import Cleanliness, set_cleanliness
from buildmaster.scanner import Scanner
from buildmaster.tests.simulation.invariants import Broken
from buildmaster.tests.simulation.world import Plan, simulate

SMALL = Plan(0, builders=4, builds=30, hours=1.5, acts=30)


def plan(seed: int, **more: Any) -> Plan:
    return Plan(**(SMALL.__dict__ | {"seed": seed} | more))


@pytest.mark.parametrize("seed", [11, 12, 13, 14])
def test_nothing_is_lost(seed: int) -> None:
    """Machines that lie, fail and vanish, masters that die: every build ends, and after each commit all is in order."""
    report = simulate(plan(seed))
    assert sum(report.states.values()) == SMALL.builds
    assert sum(report.died.values()) > 10 and len(report.died) > 5


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same run, to the last step; another one another."""
    first, again, other = simulate(plan(5)), simulate(plan(5)), simulate(plan(6))
    assert first == again
    assert first.digest != other.digest


def nothing(*_args: Any, **_more: Any) -> None:
    """What a mistake leaves undone."""


async def fails(*_args: Any, **_more: Any) -> None:
    raise ValueError("a mistake")


def never_dirty(connection: Connection, builder_id: int, cleanliness: Cleanliness, version: str = "") -> None:
    if cleanliness is not Cleanliness.DIRTY:
        set_cleanliness(connection, builder_id, cleanliness, version)


MISTAKES: dict[str, tuple[object, str, Callable[..., Any], str]] = {
    "not marked dirty": (builders, "set_cleanliness", never_dirty, "has build .* and is clean"),
    "results forgotten": (builds, "keep_results", nothing, "has 0 files"),
    "an exception": (Scanner, "_running", fails, "a mistake"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core with a mistake does not get through."""
    place, name, instead, told = MISTAKES[mistake]
    monkeypatch.setattr(place, name, instead)
    with pytest.raises(Broken, match=told):
        simulate(plan(3))
