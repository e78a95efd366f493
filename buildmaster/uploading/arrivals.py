"""Where the files of an upload are: what acceptance needs to know of them, and a folder that has them."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from buildd.control import CONTROL_MAX_BYTES
from buildmaster.uploading.rules import Came

_PIECE = 1 << 20


class NotReadable(Exception):
    """A file is none that can be looked at; the message says why."""


@dataclass(frozen=True)
class Arrived:
    """A file that came."""

    path: Path
    came: Came


class Arrivals(Protocol):
    """The files that came with a .changes."""

    def find(self, name: str, sha256: str) -> Arrived | None:
        """The file of this name, and of this content if there is one, else of another; None: there is none.

        Blocks.

        :param name: a plain segment of a path.
        """


@dataclass(frozen=True)
class Received:
    """A .changes that came, with what came with it."""

    name: str
    content: bytes
    arrivals: Arrivals


@dataclass(frozen=True)
class Folder:
    """A folder that has the files of an upload, as who built them left it."""

    path: Path

    def find(self, name: str, sha256: str) -> Arrived | None:
        path = self.path / name
        try:
            digest, size = hashlib.sha256(), 0
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    return None
                while piece := stream.read(_PIECE):
                    digest.update(piece)
                    size += len(piece)
        except (FileNotFoundError, IsADirectoryError):
            return None
        return Arrived(path, Came(size, digest.hexdigest()))


def read_control(path: Path) -> bytes:
    """What is in a .changes or .dsc.

    :raises NotReadable: it is too large, or no file.
    :raises OSError: it cannot be read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise NotReadable("is no regular file")
        content = stream.read(CONTROL_MAX_BYTES + 1)
    if len(content) > CONTROL_MAX_BYTES:
        raise NotReadable(f"is larger than {CONTROL_MAX_BYTES} bytes, as no such file is")
    return content
