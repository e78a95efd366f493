"""The unprivileged account that builds run as, and command lines that run as it.

A daemon refuses to run as root, so root makes a system account once; anybody else builds as themselves. Either needs
65,536 subordinate ids, from which the user namespaces of mmdebstrap and of a build take theirs.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM_ACCOUNT = "debfarm-demo"
IDS_WANTED = 65536
ROOT = 0


class NoSubordinateIds(Exception):
    """The account has no 65,536 subordinate ids, and they could not be given to it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has no {IDS_WANTED} subordinate ids in /etc/subuid and /etc/subgid; as root: "
            f"usermod --add-subuids {{FIRST}}-{{LAST}} --add-subgids {{FIRST}}-{{LAST}} {name}, for a range of "
            f"{IDS_WANTED} that no other account has"
        )
        self.name = name


@dataclass(frozen=True)
class Account:
    """Who runs the daemon and makes chroots."""

    name: str
    uid: int
    gid: int

    @property
    def is_another(self) -> bool:
        """Whether this is not the account that runs this program, which is then root."""
        return os.geteuid() != self.uid

    def command(self, argv: Sequence[str | Path], at_death: str = "TERM") -> list[str]:
        """The command line that runs `argv` as this account.

        :param at_death: the signal that the process gets when the thread that started it ends, so that a kill -9 of
            this program leaves nothing running.
        """
        who = [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"] if self.is_another else []
        return ["setpriv", f"--pdeathsig={at_death}", *who, "--", *map(str, argv)]

    def namespace_command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` as the root of namespaces of this account's.

        Kill -9 of the process ends it and all that it started, at once and whatever they do; so does the end of the
        thread that started it. No other signal reaches it.
        """
        namespaces = [
            "--user",
            "--map-auto",
            "--map-root-user",
            "--setgroups=allow",
            "--mount",
            "--mount-proc",
            "--pid",
        ]
        return self.command(["unshare", *namespaces, "--fork", "--kill-child", "--", *argv], at_death="KILL")

    def make_directory(self, path: Path, mode: int = 0o755) -> Path:
        """Make a directory that belongs to this account, unless it is there."""
        path.mkdir(parents=True, exist_ok=True)
        if self.is_another:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)
        return path

    def remove_tree(self, path: Path) -> None:
        """Remove a directory, also where files in it belong to the account's subordinate ids. Stays on its file system.

        :raises subprocess.CalledProcessError: something could not be removed.
        """
        if not path.exists():
            return
        # Only in a namespace that has the subordinate ids does an ordinary user own such files. Root does anyway.
        namespace = [] if os.geteuid() == ROOT else ["unshare", "--map-auto", "--map-root-user"]
        subprocess.run([*namespace, "rm", "-rf", "--one-file-system", "--", path], check=True)


def this_account() -> Account:
    """The account that runs this program."""
    entry = pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def build_account() -> Account:
    """The account to build as; made, and given subordinate ids, where that is needed and possible.

    :raises NoSubordinateIds: it has none, and this program may not change that.
    """
    as_root = os.geteuid() == ROOT
    if as_root and not _exists(SYSTEM_ACCOUNT):
        how = ["--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin"]
        subprocess.run(["useradd", *how, SYSTEM_ACCOUNT], check=True)
    entry = pwd.getpwnam(SYSTEM_ACCOUNT) if as_root else pwd.getpwuid(os.geteuid())
    _ensure_subordinate_ids(entry)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _ensure_subordinate_ids(entry: pwd.struct_passwd) -> None:
    for file, option in ((Path("/etc/subuid"), "--add-subuids"), (Path("/etc/subgid"), "--add-subgids")):
        ranges = _ranges(file)
        if any(owner in (entry.pw_name, str(entry.pw_uid)) and count >= IDS_WANTED for owner, _, count in ranges):
            continue
        first = max([100_000, *(start + count for _, start, count in ranges)])
        argv = ["usermod", option, f"{first}-{first + IDS_WANTED - 1}", entry.pw_name]
        if os.geteuid() != ROOT:
            if not shutil.which("sudo"):
                raise NoSubordinateIds(entry.pw_name)
            argv = ["sudo", *argv]
        if subprocess.run(argv, check=False).returncode:
            raise NoSubordinateIds(entry.pw_name)


def _ranges(file: Path) -> list[tuple[str, int, int]]:
    """Owner, first id and number of ids of each line of subuid(5); lines of another form are left out."""
    ranges = []
    for line in file.read_text().splitlines() if file.exists() else []:
        owner, _, numbers = line.partition(":")
        start, _, count = numbers.partition(":")
        if start.isdigit() and count.isdigit():
            ranges.append((owner, int(start), int(count)))
    return ranges
