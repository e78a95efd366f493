"""Whether a file is a chroot that builds can happen in: a tar archive of a Debian system of the right architecture."""

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from buildmaster.cli.group import Refusal

TOP = "chroot-autobuild/"  # The one folder that a chroot may be packed in.
DPKG_STATUS = "var/lib/dpkg/status"
NEEDED = (DPKG_STATUS, "usr/bin/dpkg", "usr/bin/apt-get")
STATUS_LIMIT_BYTES = 64 << 20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass
class _Seen:
    """What was found under one top of the archive."""

    names: set[str] = field(default_factory=set)
    status: bytes = b""


def check_chroot(path: Path, architecture: str) -> None:
    """Read a chroot tarball from end to end, without unpacking it.

    :raises Refusal: it is no whole tar archive, holds no Debian system, or one of another architecture.
    """
    try:
        with _unpacked(path) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                seen = _look_through(archive)
            while plain.read(1 << 20):  # The checksums of a compressed file come at its end.
                pass
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise Refusal(f"{path} is not a whole tar archive (plain, .gz, .bz2, .xz or .zst): {error}") from error
    missing = [name for name in NEEDED if name not in seen.names]
    if missing:
        raise Refusal(
            f"{path} holds no Debian system, neither directly nor under {TOP}: it has no {', no '.join(missing)}. "
            "Make one with: mmdebstrap --variant=buildd SERIES FILE.tar"
        )
    found = _architecture(seen.status)
    if found is not None and found != architecture:
        raise Refusal(f"{path} is a chroot for {found}, not for {architecture}")


def _look_through(archive: tarfile.TarFile) -> _Seen:
    """The needed names, and dpkg's status, of whichever top has more of them."""
    tops = {"": _Seen(), TOP: _Seen()}
    for member in archive:
        name = member.name.removeprefix("./")
        top = TOP if name.startswith(TOP) else ""
        inner = name.removeprefix(top)
        # Symbolic links count: alternatives are some.
        if inner in NEEDED and (member.isfile() or member.issym() or member.islnk()):
            tops[top].names.add(inner)
        if inner == DPKG_STATUS and member.isfile() and member.size < STATUS_LIMIT_BYTES:
            content = archive.extractfile(member)
            tops[top].status = content.read() if content else b""
    return max(tops.values(), key=lambda seen: len(seen.names))


def _architecture(status: bytes) -> str | None:
    """The architecture that dpkg itself has in its own database."""
    for paragraph in status.split(b"\n\n"):
        lines = paragraph.splitlines()
        if b"Package: dpkg" in lines:
            for line in lines:
                if line.startswith(b"Architecture: "):
                    return line.removeprefix(b"Architecture: ").decode("ascii", "replace").strip()
    return None


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file's content without its compression, to be read once from its beginning."""
    with path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(ZSTD_MAGIC):
            with _unzstd(file) as plain:
                yield plain
        elif magic.startswith(b"\x1f\x8b"):
            with gzip.open(file) as plain:
                yield cast(IO[bytes], plain)
        elif magic.startswith(b"BZh"):
            with bz2.open(file) as plain:
                yield plain
        elif magic == b"\xfd7zXZ\0":
            with lzma.open(file) as plain:
                yield plain
        else:
            yield file


@contextmanager
def _unzstd(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Through the program zstd: Python has none before 3.14."""
    if shutil.which("zstd") is None:
        raise Refusal("a chroot packed by zstd can be read only where the program zstd is: apt install zstd")
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # Of the descriptor: seek() may stay within Python's own buffer.
    with subprocess.Popen(["zstd", "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            assert child.stdout is not None
            yield child.stdout
            if child.wait() != 0:
                raise EOFError("zstd cannot unpack it to its end")
        finally:
            child.kill()
