"""What tests of several modules are given."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildd.tests.builder_world import World
from buildd.tests.running import RunningDaemon


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for left in (world.manager.teardown, world.manager.hanging):  # No coroutine may outlive its test.
        if not left.called:
            left.callback(None)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path_factory.mktemp("service") / "daemon") as daemon:
        yield daemon


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    """One that the test may end."""
    with RunningDaemon(tmp_path / "daemon") as daemon:
        yield daemon
