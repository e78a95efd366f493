"""Stores for tests: a folder, and buckets on real servers, which are started once in a process and end with it."""

import atexit
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from buildmaster.store import Store
from buildmaster.store.local import LocalStore
from buildmaster.store.s3 import Bucket, Credentials, S3Store
from buildmaster.tests.s3_servers import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, make_bucket, rclone, seaweedfs

KINDS = ("local", "seaweedfs", "rclone")
_SERVERS: dict[str, Callable[[Path], S3Server]] = {"seaweedfs": seaweedfs, "rclone": rclone}


@functools.cache
def server(kind: str) -> S3Server:
    """The server of this kind, with BUCKET in it."""
    directory = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    here = os.getpid()

    def end() -> None:
        if os.getpid() == here:  # And not in a child that was forked.
            running.stop()
            shutil.rmtree(directory, ignore_errors=True)

    running = _SERVERS[kind](directory)
    atexit.register(end)
    make_bucket(running, BUCKET)
    return running


def credentials() -> Credentials:
    """What every server here takes."""
    return Credentials(ACCESS_KEY, SECRET_KEY)


def bucket(kind: str) -> Bucket:
    """A place on a server that nobody else uses."""
    return Bucket(BUCKET, prefix=f"{uuid.uuid4()}/", endpoint=server(kind).endpoint)


def make_store(kind: str, directory: Path) -> Store:
    """An empty store of one of the KINDS, with what it needs of the disk in a directory."""
    if kind == "local":
        return LocalStore(directory / "store")
    return S3Store(bucket(kind), credentials, directory / "spool")
