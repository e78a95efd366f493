"""Builds shut in by user namespaces: no root, no sudo, no daemon; unshare(1), newuidmap(1) and overlayfs do it.

The user that the daemon runs as is root of each namespace, and its 65,536 subordinate ids (subuid(5)) are the other
users there.
"""

from buildd.isolation.layered import LayeredIsolation
from buildd.isolation.mounted import Way
from buildd.isolation.namespaces import NAMESPACE

UNSHARE = Way(
    namespace=NAMESPACE,
    settings=(),
    trial=("unshare", "--user", "true"),
    programs=("setpriv", "unshare", "newuidmap", "tar", "sbuild"),
    advice="Install uidmap; give this user 65536 subordinate ids (usermod --add-subuids 100000-165535 --add-subgids"
    " 100000-165535 USER); allow users namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)",
)


class UnshareIsolation(LayeredIsolation):
    """The isolation that needs nothing but subordinate ids."""

    way = UNSHARE
