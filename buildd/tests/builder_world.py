"""A builder with everything around it, for tests."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from buildd.build_directories import NEXT
from buildd.builder import Builder
from buildd.config import BuilddConfig
from buildd.enforcement import Enforcement
from buildd.filecache import FileCache
from buildd.protocol import BuildId, FileName
from buildd.tests.fakes import FakeManager

T = TypeVar("T")
BUILD = BuildId("PACKAGEBUILD-1")
BUILDING = ("BuilderStatus.BUILDING", BUILD)


class World:
    """A builder with everything around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.config = BuilddConfig(directory=directory, architecture="amd64", label="tester")
        self.cache = FileCache(directory / "filecache", 1 << 30, 0)
        self.manager = FakeManager()
        self.threads: list[Deferred[None]] | None = None  # When set, what blocks waits until its Deferred fires.
        self.no_threads = False  # None can be started.
        self.builder = Builder(
            config=self.config,
            cache=self.cache,
            enforcement=Enforcement(self.config, self.clock, self._in_thread),
            managers={"fake": self.manager},
            clock=self.clock,
            in_thread=self._in_thread,
            version="1.2",
        )
        self.chroot = self.cache.add([b"chroot"])
        self.dsc = self.cache.add([b"dsc"])

    def _in_thread(self, blocking: Callable[..., T], /, *args: object) -> Deferred[T]:
        if self.no_threads:
            raise RuntimeError("can't start new thread")
        if self.threads is None:
            return maybeDeferred(blocking, *args)
        gate: Deferred[None] = Deferred()
        self.threads.append(gate)
        return gate.addCallback(lambda _: blocking(*args))

    def let_threads_go(self) -> None:
        """Let what blocks go on, one after the other."""
        while self.threads:
            self.threads.pop().callback(None)

    def start(self, build_id: BuildId = BUILD, **arguments: Any) -> Deferred[tuple[str, str]]:
        """Ask for a build; see FakeManager for the arguments."""
        files = {FileName("hello.dsc"): self.dsc}
        return Deferred.fromCoroutine(self.builder.build(build_id, "fake", self.chroot, files, arguments))

    def build(self, **arguments: Any) -> None:
        assert now(self.start(**arguments)) == BUILDING

    @property
    def status(self) -> Any:
        return self.builder.status()

    def left(self) -> list[str]:
        """What is in the directory, beside the two files of the source."""
        paths = {str(path.relative_to(self.directory)) for path in self.directory.rglob("*")}
        kept = {"builds", f"builds/{NEXT}", "filecache", f"filecache/{self.chroot}", f"filecache/{self.dsc}"}
        return sorted(paths - kept)


def now(awaitable: "Deferred[T] | Coroutine[Any, Any, T]") -> T:
    """What is there without waiting."""
    deferred = awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(awaitable)
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has no result yet"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]  # type: ignore[no-any-return]
