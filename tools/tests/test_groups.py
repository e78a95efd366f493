"""Control groups of a test's own."""

import os
import subprocess
from pathlib import Path

import pytest

from tools.account import this_account
from tools.groups import OwnGroups

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups")


@needs_root
def test_a_command_runs_in_them_and_nothing_stays() -> None:
    """What is made in them goes with them; those of two tests are two."""
    groups, others = OwnGroups.make(this_account()), OwnGroups.make(this_account())
    try:
        assert not set(groups.places) & set(others.places)
        said = subprocess.run(groups.command(["cat", "/proc/self/cgroup"]), capture_output=True, text=True, check=True)
        for place in groups.places:
            assert place.name in said.stdout
            (place / "below").mkdir()
    finally:
        others.remove()
        groups.remove()
    assert not [place for place in (*groups.places, *others.places) if place.exists()]


@needs_root
def test_what_a_killed_test_left_is_removed() -> None:
    """By the next that makes some: its process is gone."""
    parents = {place.parent for place in _made_and_removed()}
    left = [parent / "debfarm-test-999999999-0" for parent in parents]
    for place in left:
        place.mkdir()
    _made_and_removed()
    assert not [place for place in left if place.exists()]


@needs_root
def test_what_other_tests_use_stays() -> None:
    """A machine that is booted (ftests/booted.py) has a group as well, and no process in its name."""
    parents = {place.parent for place in _made_and_removed()}
    others = [parent / "debfarm-test-0a1b2c3d" for parent in parents]
    for place in others:
        place.mkdir(exist_ok=True)
    _made_and_removed()
    left = [place for place in others if place.exists()]
    for place in left:
        place.rmdir()
    assert left == others


def test_without_any_a_command_is_as_it_was() -> None:
    """As for who is not root."""
    assert OwnGroups().command(["true"]) == ["true"]


def _made_and_removed() -> tuple[Path, ...]:
    groups = OwnGroups.make(this_account())
    groups.remove()
    return groups.places
