"""Builds shut in by a daemon that is root, where a kernel has no user namespaces, or no overlayfs in them.

Root of a build is root of the machine then. All else is as it is in unshare.py: the namespaces, the layers, the filter
of system calls. What a user namespace would forbid must be forbidden one by one (enter.py): capabilities are taken away
that reach beyond the namespaces, devices are the build's own, what /proc has of the whole machine is read-only, and so
are the host's programs that a build sees.
"""

import os

from buildd.isolation import IsolationFailure
from buildd.isolation.layered import LayeredIsolation
from buildd.isolation.mounted import Way
from buildd.isolation.namespaces import NAMESPACE_OF_ROOT

CHROOT = Way(
    namespace=NAMESPACE_OF_ROOT,
    settings=("privileged=yes",),
    programs=("setpriv", "unshare", "tar", "sbuild"),
    advice="It takes overlayfs, and a daemon that may mount: in a container, one that has CAP_SYS_ADMIN",
)


class ChrootIsolation(LayeredIsolation):
    """The isolation for a daemon that is root."""

    way = CHROOT

    async def recover(self) -> None:
        """See Isolation.recover."""
        check_is_root("chroot")
        await super().recover()


def check_is_root(name: str) -> None:
    """:raises IsolationFailure: this daemon is not root."""
    if os.geteuid() != 0:
        instead = "isolation = unshare works without"
        raise IsolationFailure(f"[builder] isolation = {name} needs root, and allow_root = yes; {instead}")
