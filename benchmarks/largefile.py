"""A file too large to be handled carelessly, of which there can be any number without that much disk."""

import hashlib
import os
from pathlib import Path

MARK_BYTES = 16
_BLOCK_BYTES = 10**6


def mark(number: int) -> bytes:
    """What is put before the file to make another of it, for each number."""
    return f"{number:>{MARK_BYTES - 1}}\n".encode()


def large_file(folder: Path, size_bytes: int) -> Path:
    """A file of random content, whole blocks of 1 MB; in memory, once this returns."""
    path = folder / "large"
    block = os.urandom(_BLOCK_BYTES)
    with path.open("wb") as file:
        for _ in range(size_bytes // _BLOCK_BYTES):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())  # Not to be written while something is measured.
    path.chmod(0o644)
    return path


def marked_sha1(path: Path, number: int) -> str:
    """The SHA-1 of the file with a mark before it, as the server `sendfile` has it at /NUMBER."""
    digest = hashlib.sha1(mark(number), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
