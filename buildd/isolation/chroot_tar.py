"""Unpack a chroot tarball, looking it over on the way: `python3 chroot_tar.py TARBALL TREE`, a program of its own.

It runs as root of the ids that builds have. Every member is checked before tar(1) gets to see it; devices, and what is
in /dev, tar never sees. So the tarball is read once, and decompressed once, by a program that uses all processors if
there is one. Exit status 1: standard output says in a sentence what is wrong with the tarball, and TREE is of no use.

Whatever tar takes the bytes for, it can write nowhere but below TREE: all else is read-only in its mount namespace.
Standard library only.
"""

import contextlib
import ctypes
import fcntl
import os
import posixpath
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

TOP = "chroot-autobuild"  # Launchpad's tarballs have everything below this folder.
_MEMBERS_MAX = 1_000_000  # A chroot for builds has 30,000.
_LEFT_OUT_MAX = 10_000
_PATH_MAX = 4096
_PIPE_BYTES = 1 << 20
_PART_BYTES = 1 << 30  # Who makes a tarball may say that a member is longer than any number that the kernel takes.
_BLOCK = 512
_TAR = ("tar", "--extract", "--file=-", "--numeric-owner", "--preserve-permissions", "--blocking-factor=512")
# How a compressed file begins, and the programs that read it, the fastest first.
_DECOMPRESSORS: tuple[tuple[bytes, tuple[tuple[str, ...], ...]], ...] = (
    (b"\x1f\x8b", (("pigz", "-dc"), ("gzip", "-dc"))),
    (b"\x28\xb5\x2f\xfd", (("zstd", "-dcq", "-T0"),)),
    (b"\xfd7zXZ\0", (("xz", "-dc", "-T0"),)),
    (b"BZh", (("lbzip2", "-dc"), ("pbzip2", "-dc"), ("bzip2", "-dc"))),
)
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MS_BIND = 0x1000
_MOUNT_ATTR_RDONLY = 1
_SYS_MOUNT_SETATTR = 442  # The same on every architecture (mount_setattr(2)).


class BadTar(Exception):
    """The tarball is damaged, or has a member that no chroot has."""


def main() -> None:
    """Unpack the tarball, as the command line says."""
    tarball, tree = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        with _decompressed(tarball) as source:
            make_all_else_read_only(tree)
            unpack(source, tree)
    except (BadTar, EOFError, tarfile.TarError) as exc:
        print(f"the chroot tarball cannot be used: {' '.join(str(exc).split())}")
        sys.exit(1)


def unpack(source: int, tree: Path) -> None:
    """Have tar unpack what comes from a file descriptor.

    :raises BadTar: an entry would end up, or lead, outside the chroot; or the archive ends early.
    """
    with subprocess.Popen([*_TAR, f"--directory={tree}"], stdin=subprocess.PIPE, bufsize=0) as tar:
        assert tar.stdin is not None
        try:
            _enlarge(tar.stdin.fileno())
            sift(source, tar.stdin.fileno())
            tar.stdin.close()
        except BrokenPipeError:
            pass  # It has said why.
        except BaseException:
            tar.kill()
            raise
    if tar.returncode != 0:
        sys.exit(2)


def sift(source: int, sink: int) -> list[str]:
    """Read a tar archive to its end, and write all members on that are fit; the names of those that were left out.

    :raises BadTar: see unpack().
    """
    left_out: list[str] = []
    links: set[str] = set()
    passing = _Passing(source, sink)
    found = False
    for number, member in enumerate(_members(passing)):
        found = True
        if number >= _MEMBERS_MAX or len(left_out) > _LEFT_OUT_MAX or len(member.name) > _PATH_MAX:
            raise BadTar("no chroot has so many members, so many devices or so long a path")
        path = _checked(member, links)
        if member.issym():
            links.add(path)
        fit = not (member.ischr() or member.isblk() or _is_in_dev(path))
        if not fit:
            left_out.append(member.name)
        passing.decide(fit)
    if not found:
        raise BadTar("it is empty")
    passing.end()
    return left_out


def _members(passing: "_Passing") -> Iterator[tarfile.TarInfo]:
    try:
        archive = tarfile.TarFile(fileobj=passing)  # type: ignore[arg-type]
        for member in archive:
            yield member
            archive.members = []  # type: ignore[attr-defined]  # Or all 30,000 are kept.
    # tarfile itself stumbles over numbers that are none, and over long names of long names.
    except (tarfile.ReadError, ValueError, RecursionError) as exc:
        raise BadTar(f"it is no tar archive: {exc}") from exc


def _checked(member: tarfile.TarInfo, links: set[str]) -> str:
    """A member's path, relative to the top.

    :param links: the paths of the symbolic links before it.
    """
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
    elif member.islnk():
        _checked_path(member.linkname)
    return path


def _checked_path(name: str) -> str:
    """A path without a leading ./, relative to the top."""
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


class _Passing:
    """The archive as tarfile reads it, which passes on what it has read, once it is decided whether.

    tarfile reads headers, and seeks over content: to its last byte, which it reads to see that it is there.
    """

    def __init__(self, source: int, sink: int) -> None:
        """:param sink: a pipe."""
        self._source = source
        self._sink = sink
        self._position = 0
        self._headers = bytearray()  # Of the next member, which nothing was decided on.
        self._fit = False  # Whether the member before is passed on.

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Go forward over content; the kernel copies it."""
        left = position - self._position
        self._position = position
        while left > 0:
            part = min(left, _PART_BYTES)
            passed = os.splice(self._source, self._sink, part) if self._fit else len(self._read(part))
            if not passed:
                return  # What is read next is missing.
            left -= passed

    def read(self, size: int) -> bytes:
        if size > _PIPE_BYTES:
            raise BadTar("no chroot has members of so long a description")
        data = self._read(size)
        self._position += len(data)
        if size > 1:
            self._headers += data
        elif self._fit:
            _write(self._sink, data)
        return data

    def decide(self, fit: bool) -> None:
        """Pass a member on, whose headers were read, or leave it out."""
        self._fit = fit
        if fit:
            _write(self._sink, self._headers)
        self._headers.clear()

    def end(self) -> None:
        """No member follows: what was read last must say so. An archive that was cut off between members does not.

        :raises BadTar: it does not.
        """
        if self._headers != bytes(_BLOCK):  # Two blocks of zeros end an archive (POSIX.1, pax); tarfile reads one.
            raise BadTar("it ends early")
        _write(self._sink, bytes(2 * _BLOCK))

    def _read(self, size: int) -> bytes:
        pieces = []
        while size and (piece := os.read(self._source, min(size, _PIPE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def _write(sink: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


@contextlib.contextmanager
def _decompressed(tarball: Path) -> Iterator[int]:
    """What is in a tarball, as a file descriptor, to be read to its end or not.

    :raises BadTar: it cannot be decompressed.
    """
    with tarball.open("rb", buffering=0) as file:
        begin = file.read(6)
        file.seek(0)
        programs = next((programs for magic, programs in _DECOMPRESSORS if begin.startswith(magic)), ())
        if not programs:
            yield file.fileno()
            return
        found = [program for program in programs if shutil.which(program[0])]
        if not found:
            name = programs[-1][0]
            raise BadTar(f"it is compressed with {name}: install the package {name} on the builder")
        with subprocess.Popen(found[0], stdin=file, stdout=subprocess.PIPE, bufsize=0) as program:
            assert program.stdout is not None
            source = program.stdout.fileno()
            try:
                _enlarge(source)
                yield source
                while os.read(source, _PIPE_BYTES):  # Padding.
                    pass
            except BaseException:
                program.kill()
                raise
    if program.returncode != 0:
        raise BadTar(f"it ends early, or is damaged: {found[0][0]} cannot read it to its end")


def _enlarge(pipe: int) -> None:
    with contextlib.suppress(OSError):  # A user may have so many large pipes, and no more.
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def make_all_else_read_only(tree: Path) -> None:
    """In this mount namespace.

    :raises OSError: that cannot be.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def check(answer: int) -> None:
        if answer != 0:
            raise OSError(ctypes.get_errno(), f"{tree} cannot be made the only place to write to")

    def set_attributes(path: bytes, flags: int, setting: int, clearing: int) -> None:
        attributes = (ctypes.c_uint64 * 4)(setting, clearing, 0, 0)  # struct mount_attr
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        check(libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path, flags, attributes, size))

    place = os.fsencode(tree)
    check(libc.mount(place, place, None, ctypes.c_ulong(_MS_BIND), None))
    set_attributes(b"/", _AT_RECURSIVE, _MOUNT_ATTR_RDONLY, 0)
    set_attributes(place, 0, 0, _MOUNT_ATTR_RDONLY)


if __name__ == "__main__":
    main()
