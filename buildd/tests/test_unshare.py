"""What the isolation by user namespaces refuses before it begins; what it does is in ftests/test_isolation.py."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from buildd.isolation import IsolationFailure
from buildd.isolation.layers import Layer
from buildd.isolation.unshare import UnshareIsolation
from buildd.tests.layers_farm import done


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than tmp_path."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        if Path(name).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("all directories are on one file system")
        yield Path(name)


def isolation(directory: Path, layers: Path | None = None) -> UnshareIsolation:
    reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
    return UnshareIsolation(directory, reactor, layers)


def test_layers_are_on_the_file_system_of_the_builds(tmp_path: Path, elsewhere: Path) -> None:
    """What a build changed could not become a layer by a rename."""
    with pytest.raises(IsolationFailure, match="on one file system"):
        done(isolation(tmp_path, elsewhere / "layers").recover())


@pytest.mark.parametrize(("count", "length"), [(25, 10), (12, 250)])
def test_no_more_layers_than_a_mount_takes(tmp_path: Path, count: int, length: int) -> None:
    """The kernel would only say that an argument is invalid."""
    layers = [Layer(Path("/", "x" * length), "")] * count
    with pytest.raises(IsolationFailure, match="cannot be mounted together"):
        isolation(tmp_path).open(layers, tmp_path / "root", Any)  # type: ignore[arg-type]
    assert not (tmp_path / "root").exists()


def test_layers_are_nobody_elses_business(tmp_path: Path) -> None:
    """Wherever they are: a build can leave a setuid program in one, which would be the daemon's user for all."""
    isolation(tmp_path, tmp_path / "layers")
    assert (tmp_path / "layers").stat().st_mode & 0o777 == 0o700
