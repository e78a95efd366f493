"""What tests of the master share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildmaster.farm import Farm
from buildmaster.tests import databases
from buildmaster.tests.factories import make_farm


@pytest.fixture(autouse=True)
def databases_dropped() -> Iterator[None]:
    """A test leaves no database behind."""
    with databases.dropped():
        yield


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """An empty farm."""
    farm = make_farm(tmp_path)
    yield farm
    farm.close()
