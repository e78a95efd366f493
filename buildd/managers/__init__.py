"""Build types by the name that the protocol calls them."""

from typing import cast

from twisted.internet.threads import deferToThread

from buildd.archives import ArchiveWatch
from buildd.config import BuilddConfig
from buildd.isolation.choose import choose_isolation, layers_directory
from buildd.managers.base import BuildManager, InThread
from buildd.managers.binarypackage import BinaryPackageManager
from buildd.managers.building import Host
from buildd.managers.memos import Memos
from buildd.process import Reactor
from buildd.proxy import ArchiveProxy


def build_types(config: BuilddConfig, reactor: Reactor) -> dict[str, BuildManager]:
    """Every build type that this daemon can run."""
    host = Host(
        config=config,
        isolation=choose_isolation(config, reactor, ArchiveProxy(reactor, config.apt_proxy)),
        memos=Memos(layers_directory(config) / "memos"),
        reactor=reactor,
        in_thread=cast(InThread, deferToThread),
        changed=ArchiveWatch(reactor, config.apt_proxy).changed,
    )
    return {"binarypackage": BinaryPackageManager(host)}
