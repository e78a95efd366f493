"""Look a chroot tarball over before it is unpacked: `python3 chroot_tar.py TARBALL`, a program of its own.

Exit status 0: standard output holds the names of the members to leave out (devices, and what is in /dev), one a
line. Exit status 1: standard output says in a sentence what is wrong with it. It runs as a child of the daemon, for it
reads hundreds of megabytes, and uses the standard library only.
"""

import posixpath
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

TOP = "chroot-autobuild"  # Launchpad's tarballs have everything below this folder.
_MEMBERS_MAX = 1_000_000  # A chroot for builds has 30,000.
_LEFT_OUT_MAX = 10_000
_PATH_MAX = 4096
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class BadTar(Exception):
    """The tarball is damaged, or has a member that no chroot has."""


def main() -> None:
    """Check the tarball named on the command line."""
    try:
        for name in members_to_leave_out(Path(sys.argv[1])):
            sys.stdout.write(f"{name}\n")
    except (BadTar, OSError, EOFError, tarfile.TarError) as exc:
        sys.exit(_refuse(str(exc)))


def _refuse(why: str) -> int:
    print(f"the chroot tarball cannot be used: {' '.join(why.split())}")
    return 1


def members_to_leave_out(tarball: Path) -> list[str]:
    """Read the whole tarball; name the members that unpacking must skip, as they are written in it.

    :raises BadTar: an entry would end up, or lead, outside the chroot; or the archive ends early.
    """
    left_out: list[str] = []
    links: set[str] = set()
    with _Archive(tarball) as archive:
        for number, member in enumerate(archive):
            if number >= _MEMBERS_MAX or len(left_out) > _LEFT_OUT_MAX or len(member.name) > _PATH_MAX:
                raise BadTar("no chroot has so many members, so many devices or so long a path")
            path = _checked_path(member.name)
            parent = posixpath.dirname(path)
            while parent:
                if parent in links:
                    raise BadTar(f"{member.name!r} lies below a symbolic link")
                parent = posixpath.dirname(parent)
            if path == TOP and not member.isdir():
                raise BadTar(f"{TOP} must be a folder")
            if member.issym():
                _check_symlink(member, path)
                links.add(path)
            elif member.islnk():
                _checked_path(member.linkname)
            if member.ischr() or member.isblk() or _is_in_dev(path):
                left_out.append(member.name)
    return left_out


def _checked_path(name: str) -> str:
    """A member's path without a leading ./, relative to the top."""
    if name.startswith("/"):
        raise BadTar(f"{name!r} is an absolute path")
    if ".." in name.split("/"):
        raise BadTar(f"{name!r} leads out of the chroot")
    if "\n" in name:
        raise BadTar(f"{name!r} has a line break in it")
    path = posixpath.normpath(name)
    return "" if path == "." else path


def _check_symlink(member: tarfile.TarInfo, path: str) -> None:
    """Absolute links are relative to the chroot once it is the root; relative ones may not climb out of it."""
    target = member.linkname
    if not target.startswith("/"):
        landed = posixpath.normpath(posixpath.join(posixpath.dirname(_below_wrapper(path)), target))
        if landed == ".." or landed.startswith("../"):
            raise BadTar(f"the link {member.name!r} leads out of the chroot: {target!r}")


def _below_wrapper(path: str) -> str:
    """The path inside the chroot."""
    return path.removeprefix(f"{TOP}/")


def _is_in_dev(path: str) -> bool:
    return _below_wrapper(path).startswith("dev/")


class _Archive:
    """The archive, of whichever compression; checks at the end that it was complete."""

    def __init__(self, tarball: Path) -> None:
        self._decompressor: subprocess.Popen[bytes] | None = None
        with tarball.open("rb") as stream:
            zstd = stream.read(4) == _ZSTD_MAGIC
        try:
            if zstd:  # Not in Python's standard library before 3.14.
                self._decompressor = subprocess.Popen(["zstd", "-dcq", str(tarball)], stdout=subprocess.PIPE)
                self._archive = tarfile.open(fileobj=self._decompressor.stdout, mode="r|")  # noqa: SIM115 __exit__ closes it.
            else:
                self._archive = tarfile.open(tarball, mode="r:*")  # noqa: SIM115
        except FileNotFoundError as exc:
            raise BadTar("it is compressed with zstd: install the package zstd on the builder") from exc
        except tarfile.ReadError as exc:
            raise BadTar(f"it is no tar archive: {exc}") from exc

    def __enter__(self) -> "_Archive":
        return self

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        found = False
        for member in self._archive:
            found = True
            yield member
            self._archive.members = []  # type: ignore[attr-defined]  # Or all 30,000 are kept.
        if not found:
            raise BadTar("it is empty")
        self._check_complete()

    def _check_complete(self) -> None:
        """Two blocks of zeros end an archive (POSIX.1, pax); one that was cut off between members lacks them."""
        if self._decompressor is not None:
            assert self._decompressor.stdout is not None
            while self._decompressor.stdout.read(1 << 20):
                pass
            if self._decompressor.wait() != 0:
                raise BadTar("it ends early, or is damaged: zstd cannot read it to its end")
            return
        stream: IO[bytes] = self._archive.fileobj  # type: ignore[assignment]
        stream.seek(self._archive.offset)
        if stream.read(512) != bytes(512):
            raise BadTar("it ends early")

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        if self._decompressor is not None:
            self._decompressor.kill()
            self._decompressor.wait()


if __name__ == "__main__":
    main()
