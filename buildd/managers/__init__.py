"""Build types by the name that the protocol calls them."""

from buildd.config import BuilddConfig
from buildd.isolation.layers import Budget
from buildd.isolation.unshare import UnshareIsolation
from buildd.managers.base import BuildManager
from buildd.managers.binarypackage import BinaryPackageManager
from buildd.process import Reactor
from buildd.proxy import ArchiveProxy


def build_types(config: BuilddConfig, reactor: Reactor) -> dict[str, BuildManager]:
    """Every build type that this daemon can run."""
    budget = Budget(config.layers_limit_bytes, config.free_floor_bytes)
    proxy = ArchiveProxy(reactor, config.apt_proxy)
    isolation = UnshareIsolation(config.directory, reactor, config.layers, budget, proxy)
    return {"binarypackage": BinaryPackageManager(config, isolation, reactor)}
