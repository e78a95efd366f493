"""Which isolation a daemon has: the one that buildd.conf names."""

from collections.abc import Mapping
from pathlib import Path

from buildd.config import BuilddConfig, IsolationName
from buildd.isolation import Proxy
from buildd.isolation.chroot import ChrootIsolation
from buildd.isolation.layered import LayeredIsolation
from buildd.isolation.layers import Budget
from buildd.isolation.podman import PodmanIsolation
from buildd.isolation.unshare import UnshareIsolation
from buildd.process import Reactor

KINDS: Mapping[IsolationName, type[LayeredIsolation]] = {
    IsolationName.UNSHARE: UnshareIsolation,
    IsolationName.CHROOT: ChrootIsolation,
    IsolationName.PODMAN: PodmanIsolation,
}
_OF_ROOT = "of-root"  # Files there have the ids that builds have, and attributes that only root may write.


def choose_isolation(config: BuilddConfig, reactor: Reactor, proxy: Proxy) -> LayeredIsolation:
    """The one that is configured."""
    budget = Budget(config.layers_limit_bytes, config.free_floor_bytes)
    return KINDS[config.isolation](config.directory, reactor, layers_directory(config), budget, proxy)


def layers_directory(config: BuilddConfig) -> Path:
    """Where its layers are: what one with user namespaces made is of no use to one without, nor the other way round."""
    layers = config.layers or config.directory / "layers"
    return layers if config.isolation is IsolationName.UNSHARE else layers / _OF_ROOT
