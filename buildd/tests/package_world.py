"""The manager of package builds, in an isolation that answers as a test says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from buildd.archives import Changed, Snapshot
from buildd.config import read_config
from buildd.disk_use import Disk
from buildd.managers.base import BuildResult
from buildd.managers.binarypackage import BinaryPackageManager
from buildd.managers.building import Host
from buildd.managers.memos import Memos
from buildd.process import Exit
from buildd.tests.fake_isolation import Answer, FakeIsolation
from buildd.tests.test_plan import request

T = TypeVar("T")

ROOMY, FULL = Disk(1 << 40, 1 << 20, 1 << 14), Disk(1 << 20, 1 << 20, 1 << 14)
FAILED = Exit(100, None, None)
PREPARED = Answer(words="amd64 2001:2001\n")
RESOLVE = "Archives=/nowhere build-dep"
DPKG_BEGINS = "debfarm: dpkg begins"


def at_once(blocking: Callable[..., T], /, *args: object) -> Deferred[T]:
    return succeed(blocking(*args))


def manager(
    isolation: FakeIsolation, tmp_path: Path, disk: Disk = ROOMY, archives: Sequence[Changed] = ()
) -> BinaryPackageManager:
    """
    :param archives: what they say, each time that they are asked.
    """
    answers = iter(archives)

    async def changed(snapshot: Snapshot, auth_conf: str, now: float) -> Changed:
        return next(answers)

    reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
    return BinaryPackageManager(
        Host(
            config=read_config(None, {}, {"directory": str(tmp_path), "architecture": "amd64"}),
            isolation=isolation,
            memos=Memos(tmp_path / "memos"),
            reactor=reactor,
            in_thread=at_once,
            changed=changed,
            disk=lambda path: disk,
        )
    )


def build(
    tmp_path: Path,
    answers: dict[str, Answer],
    *,
    disk: Disk = ROOMY,
    unpacking: Exception | None = None,
    more: str = "Build-Depends: aa\n",
    **arguments: Any,
) -> BuildResult:
    """Build hello 1.0 where commands are answered like this."""
    isolation = FakeIsolation({**answers, "prepare": answers.get("prepare", PREPARED)}, unpacking)
    return run(isolation, tmp_path, disk, more, **arguments)


def run(isolation: FakeIsolation, tmp_path: Path, disk: Disk = ROOMY, more: str = "", **arguments: Any) -> BuildResult:
    builder, asked = manager(isolation, tmp_path, disk), request(tmp_path, more, **arguments)
    results: list[BuildResult] = []
    Deferred.fromCoroutine(builder.build(asked, builder.check(asked))).addCallback(results.append)
    return results[0]
