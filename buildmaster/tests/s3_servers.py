"""Real S3 servers for tests: SeaweedFS, and rclone's, which ignores conditional writes. Each has secrets and data of
its own, listens on loopback, and ends with the process that started it at the latest."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

from buildmaster.tests.ports import free_port, free_ports

ACCESS_KEY = "farm"
SECRET_KEY = "keep this to yourself"
BUCKET = "farm-files"
_START_S = 60.0  # On a machine that has much else to do.


@dataclass
class S3Server:
    """A running server."""

    name: str
    endpoint: str
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def __enter__(self) -> "S3Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it at once: its data goes as well."""
        self.process.kill()
        self.process.wait()


def seaweedfs(directory: Path) -> S3Server:
    """Start SeaweedFS with its data in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    identity = {"name": "farm", "credentials": [keys], "actions": ["Admin", "Read", "List", "Write", "Tagging"]}
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(8)
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    options = [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-ip=127.0.0.1"]
    options += ["-ip.bind=127.0.0.1", "-volume.max=100", "-master.volumeSizeLimitMB=1024", "-s3.config=s3.json"]
    options += [f"-filer.localSocket={directory}/filer.sock", f"-s3.localSocket={directory}/s3.sock"]
    command = [_program("weed"), "-logtostderr", "server", "-dir=.", "-filer", "-s3", *options]
    return _start("SeaweedFS", command, directory, ports[6])


def rclone(directory: Path) -> S3Server:
    """Start rclone's S3 server with its data in a directory. It knows no conditional writes."""
    (directory / "buckets").mkdir(parents=True, exist_ok=True)
    port = free_port()
    keys = ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    command = [_program("rclone"), "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{port}", *keys]
    return _start("rclone", [*command, "buckets"], directory, port)


def make_bucket(server: S3Server, name: str) -> None:
    """Make a bucket, as an operator does before there is a farm in it."""
    import boto3  # noqa: PLC0415 - slow.
    from botocore.config import Config  # noqa: PLC0415

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=name)
    client.close()


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:  # As where Debian's package is built, which has neither of them.
        pytest.skip(f"{name} is not installed: tools/bootstrap check")
    return found


def _start(name: str, command: Sequence[str], directory: Path, port: int) -> S3Server:
    log = directory / "log"
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    with log.open("wb") as stream:
        mortal = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        process = subprocess.Popen(
            mortal,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # Who interrupts the tests does not mean the server, which they need to the end.
        )
    server = S3Server(name, f"http://127.0.0.1:{port}", log, process)
    deadline = time.monotonic() + _START_S
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            raise RuntimeError(f"{name} does not run: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
    return server


def _answers(server: S3Server) -> bool:
    """Whether it answers a stranger, whom it refuses."""
    try:
        urllib.request.urlopen(server.endpoint, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return 400 <= error.code < 500
    except OSError:
        pass
    return False
