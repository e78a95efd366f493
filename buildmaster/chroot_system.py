"""What apt in a chroot goes by: its sources, keys and preferences, and what is installed. A program as well.

`python -m buildmaster.chroot_system <TARBALL` reads a chroot tarball from standard input, without unpacking it, and
prints what `System.parse` takes. A tarball is not to be trusted: only plain files of known names are taken, none of
them large, and nothing that could make apt run something (apt.conf) is among them.
"""

import base64
import binascii
import contextlib
import io
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

STATUS = "var/lib/dpkg/status"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,100}"
_WANTED = re.compile(
    rf"{STATUS}|etc/apt/(?:sources\.list|preferences|trusted\.gpg)"
    rf"|etc/apt/(?:sources\.list\.d|preferences\.d|trusted\.gpg\.d|keyrings)/{_NAME}|usr/share/keyrings/{_NAME}"
)
_TOP = "chroot-autobuild/"  # The one folder that a chroot may be packed in.
_STATUS_MAX = 64 << 20
_FILE_MAX = 1 << 20
_FILES_MAX = 1000
_ZSTD = b"\x28\xb5\x2f\xfd"


class NoSystem(ValueError):
    """A file is no chroot tarball, or none that has dpkg's status in it."""


@dataclass(frozen=True)
class System:
    """The files, by their paths below the root."""

    files: Mapping[str, bytes]

    def pack(self) -> bytes:
        """As the database keeps it: some 100 kB."""
        plain = {path: base64.b64encode(content).decode() for path, content in sorted(self.files.items())}
        return zlib.compress(json.dumps(plain).encode())

    @classmethod
    def parse(cls, packed: bytes) -> "System":
        """:raises NoSystem: it is not what `pack` makes."""
        try:
            plain = json.loads(zlib.decompress(packed))
            return cls({path: base64.b64decode(content) for path, content in plain.items() if _WANTED.fullmatch(path)})
        except (ValueError, zlib.error, binascii.Error, AttributeError, TypeError) as exc:
            raise NoSystem(f"not a packed system: {exc}") from exc


def read(tarball: IO[bytes]) -> System:
    """The system in a chroot tarball, which is read to its end and need not be able to seek.

    :raises NoSystem: it is none.
    """
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=tarball, mode="r|*") as archive:
            for member in archive:
                path = member.name.removeprefix("./").removeprefix(_TOP)
                if not _WANTED.fullmatch(path) or len(files) + len(links) >= _FILES_MAX:
                    continue
                if member.isreg() and member.size <= (_STATUS_MAX if path == STATUS else _FILE_MAX):
                    content = archive.extractfile(member)
                    files[path] = content.read() if content is not None else b""
                elif member.issym():
                    links[path] = member.linkname
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, RecursionError) as exc:
        raise NoSystem(f"not a tar archive: {exc}") from exc
    for path, target in links.items():  # Keyrings have other names besides.
        pointed = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).removeprefix("/")
        if pointed in files:
            files.setdefault(path, files[pointed])
    if STATUS not in files:
        raise NoSystem(f"there is no {STATUS} in it")
    return System(files)


def main() -> None:
    """Read what is on standard input."""
    source = io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
    try:
        packed = source.peek(len(_ZSTD)).startswith(_ZSTD)
        system = _read_by_zstd(source) if packed else read(source)
    except NoSystem as exc:
        sys.exit(str(exc))
    sys.stdout.buffer.write(system.pack())


def _read_by_zstd(source: IO[bytes]) -> System:
    """Through the program zstd: Python has none before 3.14."""
    if shutil.which("zstd") is None:
        raise NoSystem("it is packed by zstd, and the program zstd is not here: apt install zstd")
    with subprocess.Popen(["zstd", "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        threading.Thread(target=_feed, args=(source, child.stdin), daemon=True).start()
        try:
            return read(child.stdout)
        finally:
            child.kill()


def _feed(source: IO[bytes], child: IO[bytes]) -> None:
    """Not the file itself: some of it was read ahead."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        shutil.copyfileobj(source, child, 1 << 20)
        child.close()


if __name__ == "__main__":
    main()
