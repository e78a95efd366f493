"""What writers of stores have in common: count and digest what goes through them; and names that last."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from buildd.protocol import Sha1
from buildmaster.store import Sha256, StoredFile


class DigestingWriter:
    """The half of a :class:`buildmaster.store.StoreWriter` that does not depend on the store."""

    def __init__(self, stream: BinaryIO) -> None:
        """:param stream: on the local disk; takes what is written."""
        self._stream = stream
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    @property
    def sha1(self) -> Sha1:
        return Sha1(self._sha1.hexdigest())

    @property
    def sha256(self) -> Sha256:
        return Sha256(self._sha256.hexdigest())

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._sha1.update(data)
        self._sha256.update(data)
        self._size += len(data)

    def stored(self) -> StoredFile:
        """What was written, as a file that is in the store now."""
        return StoredFile(self.sha256, self.sha1, self._size)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
