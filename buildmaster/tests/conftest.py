"""What tests of the master share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildmaster.farm import Farm
from buildmaster.tests.factories import make_farm


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """An empty farm."""
    farm = make_farm(tmp_path)
    yield farm
    farm.close()
