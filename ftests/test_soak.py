"""A few builds in a row that end in every way; `python -m ftests.soak --builds 200` is the long form."""

import pytest

from ftests.soak import plan, soak

pytestmark = pytest.mark.real

SEED = 13


def test_nothing_is_left_of_builds_in_a_row() -> None:
    """Processes, mounts, files, memory: after aborts, daemons that were killed and full disks, as many as before."""
    assert {step.event for step in plan(12, SEED)} >= {"abort", "full disk", "SIGTERM", "kill -9"}
    assert soak(12, SEED) == []
