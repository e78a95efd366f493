"""A builder that fails every job, among others that do well, in simulated time: what it costs, and whom."""

from typing import Any

import pytest

from buildd.protocol import BuildStatus
from buildmaster.tests.databases import on_a_file
from buildmaster.tests.simulation.machines import Nature, Trick
from buildmaster.tests.simulation.world import Plan, Report, simulate

pytestmark = on_a_file()

GOOD = Nature(ends={BuildStatus.OK: 1}, duration_s=(20.0, 120.0))
FAILING = (
    Trick.REFUSES,
    Trick.NO_FILES,
    Trick.BREAKS,
    Trick.ABORTS,
    Trick.FORGETS,
    Trick.VANISHES,
    Trick.HANGS_FOR_EVER,
    Trick.WRONG_COOKIE,
    Trick.WRONG_WORD,
    Trick.WRONG_TYPE,
    Trick.WRONG_DIGEST,
)
COSTS_MAX = 3


def farm_with(trick: Trick, seed: int, others: int = 3, builds: int = 24) -> Report:
    """Builds on a builder that fails each of its own in one way, and on others that do well."""
    bad = Nature((trick,), trickery=1.0, ends={BuildStatus.OK: 1}, duration_s=(15.0, 30.0))
    natures = (bad, *[GOOD] * others)
    calm: dict[str, Any] = {"deaths": 0, "deadliness": 0.0, "publications": 0, "acts": 0}
    return simulate(Plan(seed, len(natures), architectures=1, builds=builds, hours=1.5, natures=natures, **calm))


@pytest.mark.parametrize("trick", FAILING)
def test_a_builder_that_fails_every_job(trick: Trick) -> None:
    """It costs at most three builds their place and is out of service then; it fails none of them."""
    report = farm_with(trick, 1)
    assert report.states == {"built": 24}
    assert 0 < report.lost["m0"] <= COSTS_MAX
    assert not any(lost for name, lost in report.lost.items() if name != "m0")
    assert report.disabled == ("m0",)


@pytest.mark.parametrize("trick", [Trick.REFUSES, Trick.BREAKS, Trick.FORGETS])
def test_the_only_builder(trick: Trick) -> None:
    """Where there is no other, what it lost waits for one that does well; nothing is failed for that."""
    report = farm_with(trick, 1, others=0, builds=6)
    assert report.states == {"built": 6}
    assert 0 < report.lost["m0"] <= COSTS_MAX and report.disabled == ("m0",)


def test_one_that_is_not_clean() -> None:
    """A builder that does what the database says it cannot is taken out of service, and no build pays for it."""
    report = farm_with(Trick.UNCLEAN, 1)
    assert report.states == {"built": 24}
    assert report.lost["m0"] == 0 and report.disabled == ("m0",)
