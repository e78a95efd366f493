"""Daemons that share layers, without namespaces: for the tests of layers."""

import contextlib
import json
import shutil
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from buildd.isolation import seal
from buildd.isolation.layers import Budget, Layer, LayerKey, Layers, layer_key, layer_note

T = TypeVar("T")

KEY = layer_key("a")


class HereAndNow:
    """Does what the commands of layers do, in this process; some go wrong."""

    def __init__(self) -> None:
        self.failing = ""  # The program that fails.
        self.ran: list[str] = []
        self.removing: Deferred[None] | None = None  # When set, what is removed is gone once it fires.
        self.meanwhile: Callable[[str], None] = lambda program: None  # Is called with one before it runs.

    async def run(self, argv: Sequence[str]) -> bytes:
        self.ran.append(" ".join(argv))
        if self.failing and self.failing in argv:
            raise OSError(f"{self.failing}: exit status 1")
        self.meanwhile("rm" if argv[0] == "rm" else "sync" if "sync" in argv else "seal")
        match [word for word in argv if word in ("rm", "sync", "--content")]:
            case ["rm"]:
                if self.removing is not None:
                    await self.removing
                shutil.rmtree(argv[-1])
                return b""
            case ["sync"]:
                return b""
            case words:
                with contextlib.chdir("."):
                    return json.dumps(seal.look_over(argv[-1], content=bool(words))).encode()


def done(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """What it gives, without waiting for anything."""
    results: list[T] = []
    failures: list[Any] = []
    Deferred.fromCoroutine(work).addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    return results[0]


class Farm:
    """Daemons that share a directory of layers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.commands = HereAndNow()
        self.today = 1000.0
        self._trees = 0

    def daemon(self, budget: Budget | None = None) -> Layers:
        return Layers(self.directory / "layers", self.commands, self.clock, budget or Budget(), lambda: self.today)

    def tree(self, content: str = "x") -> Path:
        """What a build has changed."""
        self._trees += 1
        tree = self.directory / f"upper-{self._trees}"
        (tree / "etc").mkdir(parents=True)
        (tree / "etc" / "file").write_text(content)
        (tree / "link").symlink_to("etc/file")
        return tree

    def keep(self, key: LayerKey = KEY, content: str = "x") -> Layer:
        return done(self.daemon().keep(key, self.tree(content), layer_note("test", content, "a test")))

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "layers").iterdir() if path.name != "locks")

    def locks(self) -> list[str]:
        return [path.name for path in (self.directory / "layers" / "locks").iterdir()]
