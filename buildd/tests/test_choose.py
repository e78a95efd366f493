"""Which isolation a daemon has."""

from dataclasses import replace
from pathlib import Path

import pytest

from buildd.config import ConfigError, IsolationName, read_config
from buildd.isolation.choose import KINDS, layers_directory


def test_every_name_has_a_backend() -> None:
    """What buildd.conf may say is what there is."""
    assert set(KINDS) == set(IsolationName)


def test_layers_of_root_are_apart(tmp_path: Path) -> None:
    """Their files belong to other users than those which user namespaces make."""
    config = read_config(options={"directory": str(tmp_path)})
    assert layers_directory(config) == tmp_path / "layers"
    of_root = [
        layers_directory(replace(config, isolation=name)) for name in (IsolationName.CHROOT, IsolationName.PODMAN)
    ]
    assert of_root == [tmp_path / "layers/of-root"] * 2
    elsewhere = replace(config, isolation=IsolationName.CHROOT, layers=Path("/srv/layers"))
    assert layers_directory(elsewhere) == Path("/srv/layers/of-root")


def test_a_name_of_no_backend() -> None:
    """The message lists those that there are."""
    with pytest.raises(ConfigError, match="'jail' is none of unshare, chroot, podman"):
        read_config(options={"isolation": "jail"})


def test_sbuild_does_not_run_in_containers() -> None:
    """The default of one key does not go with podman: the message says which does."""
    with pytest.raises(ConfigError, match=r"isolation = podman and .* builder = sbuild do not go together"):
        read_config(options={"isolation": "podman"})
    assert read_config(options={"isolation": "podman", "builder": "direct"}).isolation is IsolationName.PODMAN
    assert read_config(options={"isolation": "chroot"}).isolation is IsolationName.CHROOT
