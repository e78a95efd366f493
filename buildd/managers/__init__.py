"""Build types by the name that the protocol calls them."""

from typing import cast

from twisted.internet.threads import deferToThread

from buildd.archives import ArchiveWatch
from buildd.config import BuilddConfig
from buildd.isolation.layers import Budget
from buildd.isolation.unshare import UnshareIsolation
from buildd.managers.base import BuildManager, InThread
from buildd.managers.binarypackage import BinaryPackageManager
from buildd.managers.building import Host
from buildd.managers.memos import Memos
from buildd.process import Reactor
from buildd.proxy import ArchiveProxy


def build_types(config: BuilddConfig, reactor: Reactor) -> dict[str, BuildManager]:
    """Every build type that this daemon can run."""
    budget = Budget(config.layers_limit_bytes, config.free_floor_bytes)
    layers = config.layers or config.directory / "layers"
    host = Host(
        config=config,
        isolation=UnshareIsolation(config.directory, reactor, layers, budget, ArchiveProxy(reactor, config.apt_proxy)),
        memos=Memos(layers / "memos"),
        reactor=reactor,
        in_thread=cast(InThread, deferToThread),
        unchanged=ArchiveWatch(reactor, config.apt_proxy).unchanged,
    )
    return {"binarypackage": BinaryPackageManager(host)}
