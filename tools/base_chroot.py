"""Base chroots: made with mmdebstrap as an unprivileged user, once for each suite, architecture and mirror."""

import contextlib
import hashlib
import os
import posixpath
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools.account import Account
from tools.machines_apt import DEBIAN_KEYRING, Mirror, carried_over
from tools.places import Places, beside, lock

TOP = "chroot-autobuild"  # Where Launchpad's daemon wants the root file system (docs/protocol.md).
LAST_WORDS_S = 10.0
RECIPE = "3"  # To be raised when a chroot made so far would not do any more.

# Launchpad's daemon, which takes our chroots too, wants a /build folder and a user `buildd`; these are the ids that its
# package gives that user.
_CUSTOMIZE = (
    'chroot "$1" groupadd --gid 2501 buildd',
    'chroot "$1" useradd --uid 2001 --gid buildd --create-home --shell /bin/bash buildd',
    'chroot "$1" install -d -o buildd -g buildd -m 0755 /build',
)


class ChrootFailed(Exception):
    """mmdebstrap could not make the chroot; what it printed is in the file named."""

    def __init__(self, suite: str, log: Path) -> None:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        super().__init__(f"no chroot of {suite} could be made; mmdebstrap said (all of it: {log}):\n{tail}")
        self.log = log


@dataclass(frozen=True)
class BaseChroot:
    """Which chroot is wanted."""

    suite: str
    architecture: str
    mirror: Mirror

    def path(self, places: Places) -> Path:
        """Where it is, or will be."""
        facts = "\n".join([RECIPE, self.mirror.url, str(self.mirror.keyring), *carried_over()])
        digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
        return places.chroots / f"{self.suite}-{self.architecture}-{digest}.tar"


def ensure_chroot(base: BaseChroot, places: Places, account: Account) -> Path:
    """The chroot as a tar archive, made now unless it is there. Two processes do not make it twice.

    :raises ChrootFailed: it could not be made; nothing half made stays under the name returned otherwise.
    """
    target = base.path(places)
    places.make()
    with lock(places.chroots / "lock", wait=True):
        _sweep(places, account)
        if not target.exists():
            _make(base, places, account, target)
            for older in set(places.chroots.glob(f"{base.suite}-{base.architecture}-*.tar")) - {target}:
                older.unlink()
    return target


def _sweep(places: Places, account: Account) -> None:
    """Remove what a killed program left half made. The lock is held, so nobody is at work here."""
    for half in (*places.chroots.glob(".*.tar.*"), *places.scratch.glob("mmdebstrap-*")):
        account.remove_tree(half)


def _make(base: BaseChroot, places: Places, account: Account, target: Path) -> None:
    scratch = account.make_directory(places.scratch / f"mmdebstrap-{os.getpid()}")
    log = places.logs / f"mmdebstrap-{base.suite}.log"
    written = beside(target)
    try:
        with log.open("wb") as errors:
            process = subprocess.Popen(
                account.namespace_command(_mmdebstrap(base)),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(scratch), "TMPDIR": str(scratch)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=scratch,
                start_new_session=True,
            )
            _pack(process, written, log, base.suite)
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)
        account.remove_tree(scratch)


def _mmdebstrap(base: BaseChroot) -> list[str]:
    """mmdebstrap's command line; the root file system comes out as a tar archive on its standard output."""
    mirror = base.mirror
    hooks = [f"--customize-hook={command}" for command in _CUSTOMIZE]
    if mirror.keyring != DEBIAN_KEYRING:  # Debian's own is in the chroot; this one must be brought in.
        hooks.append(f"--setup-hook=install -D -m 0644 '{mirror.keyring}' \"$1/etc/apt/trusted.gpg.d/mirror.gpg\"")
    return [
        "mmdebstrap",
        # It is root already, of namespaces that are gone when it is: its own mode for that ends too late when stopped.
        "--mode=root",
        "--skip=chroot/mount/sys",  # Only who owns the network may mount it.
        "--variant=buildd",
        "--skip=cleanup/apt/lists",  # With them, updating takes a build 0.2 s instead of 2.
        f"--architectures={base.architecture}",
        f"--keyring={mirror.keyring}",
        f"--include={','.join(_packages(mirror))}",
        *(f"--aptopt={line}" for line in carried_over()),
        *hooks,
        base.suite,
        "-",
        f"deb {mirror.url} {base.suite} main",
    ]


def _packages(mirror: Mirror) -> list[str]:
    """What is wanted beside the variant's own: newer mmdebstraps take what is essential only, which these are not."""
    return ["mount", "passwd", *(["ca-certificates"] if mirror.url.startswith("https:") else [])]


def _pack(process: "subprocess.Popen[bytes]", written: Path, log: Path, suite: str) -> None:
    """Write what mmdebstrap prints to a file, in the form that daemons want."""
    assert process.stdout is not None
    try:
        with written.open("wb") as target:
            repack(process.stdout, target)
            target.flush()
            os.fsync(target.fileno())
    except tarfile.ReadError:  # It printed nothing, or broke off. It may have to say more.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORDS_S)
        raise ChrootFailed(suite, log) from None
    else:
        if process.wait() != 0:
            raise ChrootFailed(suite, log)
    finally:
        process.kill()
        process.wait()


def repack(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a tar archive of a root file system, each entry moved below TOP, without device nodes.

    Streams: takes 5 s for 445 MB, all of it while mmdebstrap still writes. Unpacking the plain tar takes half the time
    of unpacking a gzipped one, and the file is made and unpacked on this machine only.

    :raises tarfile.ReadError: the source is not a whole archive.
    """
    with (
        tarfile.open(fileobj=source, mode="r|") as old,
        tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as new,
    ):
        for entry in old:
            if entry.isdev():
                continue
            entry.name = _moved(entry.name)
            if entry.islnk():
                entry.linkname = _moved(entry.linkname)
            new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)


def _moved(name: str) -> str:
    return posixpath.normpath(f"{TOP}/{name}")
