"""Stores for tests: a folder, and buckets on real servers, which are started once in a process and end with it."""

import atexit
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from buildmaster.store import Sha256, Store
from buildmaster.store.local import LocalStore
from buildmaster.store.s3 import Bucket, Credentials, S3Store
from buildmaster.tests.memory import in_memory
from buildmaster.tests.s3_servers import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, make_bucket, rclone, seaweedfs

STORE = os.environ.get("DEBFARM_TEST_STORE", "local")  # What farms in tests have: one of the KINDS.
IN_A_FOLDER = STORE == "local"  # So that a file of the farm's has a path.
KINDS = ("local", "seaweedfs", "rclone")
UNCONDITIONAL = "rclone"  # The kind that ignores conditional writes.
_SERVERS: dict[str, Callable[[Path], S3Server]] = {"seaweedfs": seaweedfs, "rclone": rclone}


@functools.cache
def server(kind: str) -> S3Server:
    """The server of this kind, with BUCKET in it."""
    directory = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=in_memory()))
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


def configuration(directory: Path, kind: str = STORE) -> str:
    """What buildmaster.conf says of a new farm's store; its secrets are put below a directory."""
    if kind == "local":
        return ""
    write_secrets(directory / "secrets")
    there = bucket(kind)
    return f"""[master]
secrets = {directory / "secrets"}
[store]
url = s3://{there.name}/{there.prefix}
endpoint = {there.endpoint}
"""


def write_secrets(directory: Path) -> None:
    """The secrets for every server here, in a directory that is made."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, secret in (("s3-access-key", ACCESS_KEY), ("s3-secret-key", SECRET_KEY)):
        path = directory / name
        path.write_text(f"{secret}\n")
        path.chmod(0o600)


def make_store(kind: str, directory: Path) -> Store:
    """An empty store of one of the KINDS, with what it needs of the disk in a directory."""
    if kind == "local":
        return LocalStore(directory / "store")
    return S3Store(bucket(kind), credentials, directory / "spool")


def spoil(store: Store, sha256: Sha256, content: bytes) -> None:
    """Put other content under a file's name, behind everybody's back."""
    if isinstance(store, LocalStore):
        path = store.path(sha256)
        path.chmod(0o600)
        path.write_bytes(content)
        return
    assert isinstance(store, S3Store)
    store._client.put_object(**store._at(sha256), Body=content)
