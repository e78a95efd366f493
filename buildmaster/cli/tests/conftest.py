"""A real farm, and the command line called on it."""

import gzip
import hashlib
import inspect
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from buildd.protocol import Cause, FileName
from buildmaster import builders, builds, config
from buildmaster.cli import main
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, Event
from buildmaster.tests import databases
from buildmaster.tests.factories import make_tables, write_config

STATUS = b"Package: apt\nArchitecture: amd64\n\nPackage: dpkg\nStatus: install ok installed\nArchitecture: amd64\n"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """The command line, about one farm."""

    directory: Path

    def __call__(self, *words: object, status: int = 0) -> Ended:
        """Call `buildmaster --dir DIRECTORY WORDS...`, which must end with this status."""
        runner: Any = CliRunner
        apart = {"mix_stderr": False} if "mix_stderr" in inspect.signature(runner).parameters else {}  # Before 8.2.
        result = runner(**apart).invoke(main, ["--dir", str(self.directory), *map(str, words)])
        assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return Ended(result.exit_code, result.stdout, result.stderr)

    @property
    def how_to_make_it(self) -> str:
        """How a message tells to make this farm: who named its database in a configuration names that again."""
        if databases.on_postgresql():
            return "`buildmaster init`, with the same configuration"
        return f"`buildmaster --dir {self.directory} init`"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing of this machine's own configuration or farm is seen; the database has no tables, but for `ready`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUILDMASTER_DIR", raising=False)
    monkeypatch.delenv("BUILDMASTER_CONFIG", raising=False)
    write_config(tmp_path / "test.conf", empty="ready" not in request.fixturenames)
    with (tmp_path / "test.conf").open("a") as file:
        file.write("[dependencies]\nlook = no\n")  # Nobody would: no master runs.
    monkeypatch.setenv("BUILDMASTER_CONFIG", str(tmp_path / "test.conf"))
    monkeypatch.setattr("buildmaster.config.SYSTEM_CONFIG", tmp_path / "none.conf")
    with databases.dropped():
        yield


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line, about a farm that does not exist yet."""
    return Cli(tmp_path / "farm")


@pytest.fixture
def ready(cli: Cli, tmp_path: Path) -> Cli:
    """The same, about a farm with a chroot for debian bookworm amd64."""
    make_tables(cli.directory)  # Quicker than `init` does it.
    cli("init", "--distribution", "debian", "--series", "bookworm", "--architecture", "amd64")
    cli("add-chroot", "bookworm", "amd64", make_chroot(tmp_path / "chroot.tar.gz"))
    return cli


@pytest.fixture
def farm(ready: Cli) -> Iterator[Farm]:
    """The farm that `ready` is about."""
    opened = Farm.open(config.load(directory=ready.directory).places)
    yield opened
    opened.close()


@pytest.fixture
def dsc(tmp_path: Path) -> Path:
    """A source package."""
    return make_source(tmp_path / "source")


def make_chroot(path: Path, status: bytes = STATUS, top: str = "chroot-autobuild/", mode: str = "w:gz") -> Path:
    """The least that passes for a chroot."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in (("var/lib/dpkg/status", status), ("usr/bin/dpkg", b"x"), ("usr/bin/apt-get", b"x")):
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def make_source(directory: Path, name: str = "hello", version: str = "1.0", content: bytes = b"stuff") -> Path:
    """A source package whose .dsc has the right digests."""
    directory.mkdir(exist_ok=True)
    tarball = f"{name}_{version}.tar.xz"
    (directory / tarball).write_bytes(content)
    sums = {"Files": "md5", "Checksums-Sha1": "sha1", "Checksums-Sha256": "sha256"}
    fields = [
        f"Format: 3.0 (native)\nSource: {name}\nBinary: {name}\nArchitecture: any\nVersion: {version}",
        "Maintainer: Nobody <nobody@example.org>\nStandards-Version: 4.6.2",
    ]
    for field, algorithm in sums.items():
        fields.append(f"{field}:\n {hashlib.new(algorithm, content).hexdigest()} {len(content)} {tarball}")
    path = directory / f"{name}_{version}.dsc"
    path.write_text("\n".join(fields) + "\n")
    return path


class Meanwhile:
    """What happens while somebody sleeps: one thing each time."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)

    def then(self, *steps: Callable[[], object]) -> None:
        """Add things."""
        self._steps += steps

    def __call__(self, _seconds: float) -> None:
        self._steps.pop(0)()


def start(farm: Farm, build_id: int, stage: str = "build", builder: str = "local") -> None:
    """Let a builder have a build, which is at this stage."""
    with farm.transaction() as connection:
        try:
            builder_id = builders.find(connection, builder).id
        except builders.NoSuchBuilder:
            builder_id = builders.add(connection, builder, f"http://{builder}:8221/", "amd64", time.time())
        assert builds.claim(connection, build_id, builder_id, time.time())
        builds.set_stage(connection, build_id, stage)


def end(
    farm: Farm,
    build_id: int,
    event: Event,
    *,
    reason: str = "",
    cause: Cause | None = None,
    error: str = "",
    log: bytes | None = b"the log\n",
    files: Mapping[str, bytes] | None = None,
) -> BuildState:
    """Let a build that runs end so, with this log and these results."""
    now = time.time()
    with farm.transaction() as connection:
        state = builds.record(connection, build_id, event, now, reason=reason, cause=cause, error=error)
        if state is BuildState.GATHERING:
            results = {FileName(name): farm.store.add([content]) for name, content in (files or {}).items()}
            builds.keep_results(connection, build_id, results, now)
            state = builds.record(connection, build_id, Event.GATHERED, now)
        if log is not None:
            packed = farm.store.add([gzip.compress(log)])
            builds.keep_log(connection, build_id, builds.log_of(connection, build_id, packed), now)
    farm.log_path(build_id).unlink(missing_ok=True)
    return state
