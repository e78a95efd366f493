"""The namespaces of builds, and the daemon's own commands on what belongs to builds.

Where the user that the daemon runs as is root of each user namespace, its 65,536 subordinate ids (subuid(5)) are the
other users there. What builds write belongs to all of them, so that only in such a namespace it can be removed. A
daemon that is root itself does without user namespaces.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from buildd.buildlog import BuildLog
from buildd.process import Children, Reactor

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}
_BEGIN = (
    # Dies with the daemon; and does not begin when the daemon died before that was agreed on.
    *("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())),
)
_OWN = ("--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
NAMESPACE = (*_BEGIN, "unshare", "--user", "--map-auto", "--map-root-user", "--setgroups", "allow", *_OWN)
NAMESPACE_OF_ROOT = (*_BEGIN, "unshare", *_OWN)  # Where the daemon is root.
_NICE = ("nice", "-n", "5")
_TIMEOUT_S = 600.0


class Namespaces:
    """Runs commands of the daemon's own as the root of the ids that builds have."""

    def __init__(self, directory: Path, reactor: Reactor, namespace: Sequence[str] = NAMESPACE) -> None:
        """:param directory: commands run there, and keep their output there; a partial-* left by a crash is debris."""
        self._directory = directory
        self._reactor = reactor
        self._namespace = namespace

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line of such a command, for who has limits of its own: Children.run, with ENVIRONMENT."""
        return [*self._namespace, *_NICE, *argv]

    async def run(self, argv: Sequence[str]) -> bytes:
        """Run one, and wait for its end. What it wrote to standard output.

        :raises OSError: it failed; the message has what it said.
        """
        with tempfile.TemporaryDirectory(prefix="partial-", dir=self._directory) as scratch:
            log = BuildLog(Path(scratch) / "log", 1 << 20)
            said = bytearray()
            try:
                children = Children(self._reactor, log, _TIMEOUT_S, _TIMEOUT_S)
                command = self.command(argv)
                ended = await children.run(command, env=ENVIRONMENT, cwd=self._directory, output=said.extend)
                if not ended.ok:
                    raise OSError(f"{' '.join(argv)}: {ended}: {log.tail().decode(errors='replace').strip()}")
                return bytes(said)
            finally:
                log.close()
