"""Files and folders that are there for certain, or not at all."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from buildmaster.publishing import threads

_AT_ONCE: Final = 4  # One commit of the file system's journal is enough for several that wait for it.


def sync(paths: Iterable[Path]) -> None:
    """Make files' contents, and the names in folders, outlast a power cut."""
    threads.each(_AT_ONCE, _sync, paths)


@contextlib.contextmanager
def syncing() -> Iterator[Callable[[Iterable[Path]], None]]:
    """The same with what is told while this lasts, and begun with at once: all of it is done when this ends.

    :raises OSError: at the end.
    """
    begun: list[Future[None]] = []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        yield lambda paths: begun.extend([threads.submit(_sync, path) for path in paths])
        for each in begun:
            each.result()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes) -> None:
    """Write a file so that there is all of it, durably, or what was there before."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    _sync(beside)
    beside.replace(path)
    _sync(path.parent)


def make(folder: Path) -> list[Path]:
    """Have a folder and those above it. Returns which folders have new names in them, to be synced."""
    missing = [folder, *folder.parents]
    missing = missing[: next(at for at, each in enumerate(missing) if each.is_dir())]
    folder.mkdir(parents=True, exist_ok=True)
    return [each.parent for each in missing]


@contextlib.contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """Wait for one's turn. It ends with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def names(folder: Path) -> set[str]:
    """What is in a folder; of one that is not there, nothing."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208
    except FileNotFoundError:
        return set()
