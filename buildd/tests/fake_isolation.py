"""An isolation without namespaces: its root answers as the test says, and keeps what it was asked."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildd.disk_use import Usage
from buildd.isolation.layers import Layer, LayerKey
from buildd.process import Children, Exit
from buildd.protocol import Sha1
from buildd.reach import Reach

OK = Exit(0, None, None)


@dataclass(frozen=True)
class Answer:
    """How a command ends, and what it writes before."""

    ended: Exit = OK
    words: str = ""


@dataclass
class FakeIsolation:
    """The first answer whose key is in a command is the command's; without one it ends well and says nothing."""

    answers: dict[str, Answer]
    unpacking: Exception | None = None  # Raised by unpack().
    unremovable: frozenset[str] = frozenset()  # Names of directories that cannot be removed.
    removed: list[Path] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    kept: dict[LayerKey, Layer] = field(default_factory=dict)
    put: dict[str, bytes] = field(default_factory=dict)
    inputs: dict[str, bytes] = field(default_factory=dict)  # Command to its standard input.
    turns: list[LayerKey] = field(default_factory=list)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)  # What others do while one waits for a turn.

    async def unpack(self, tarball: Path, sha1: Sha1, children: Children) -> Layer:
        if self.unpacking:
            raise self.unpacking
        return Layer(Path("/nowhere"), "")

    def open(self, layers: Sequence[Layer], directory: Path, children: Children) -> "FakeRoot":
        directory.mkdir()
        return FakeRoot(self, directory, directory)

    async def find(self, key: LayerKey) -> Layer | None:
        return self.kept.get(key)

    @asynccontextmanager
    async def turn(self, key: LayerKey) -> AsyncIterator[None]:
        if self.meanwhile:
            self.meanwhile.pop()()
        self.turns.append(key)
        yield

    async def keep(self, key: LayerKey, root: object, note: str) -> Layer:
        self.kept[key] = Layer(Path("/nowhere"), note)
        return self.kept[key]

    async def remove(self, directory: Path) -> None:
        if directory.name in self.unremovable:
            raise OSError(f"{directory} is busy")
        self.removed.append(directory)

    async def usage(self, directory: Path) -> Usage:
        return Usage(0, 0)

    async def make_room(self) -> None:
        return

    async def recover(self) -> None:
        return


@dataclass
class FakeRoot:
    """Runs nothing."""

    isolation: FakeIsolation
    path: Path
    changes: Path
    ran: bool = False

    def put(self, name: str, content: bytes) -> None:
        assert not self.ran, "what has run in it may have put a link there"
        self.isolation.put[name] = content

    def take_back(self, name: str) -> None:
        del self.isolation.put[name]

    async def run(
        self,
        argv: Sequence[str],
        *,
        network: Reach | None,
        stdin: bytes = b"",
        output: Callable[[bytes], None] | None = None,
    ) -> Exit:
        self.ran, command = True, " ".join(argv)
        self.isolation.commands.append(command)
        self.isolation.inputs[command] = stdin
        answer = next((answer for part, answer in self.isolation.answers.items() if part in command), Answer())
        if output is not None:
            output(answer.words.encode())
        return answer.ended

    async def run_beside(self, argv: Sequence[str], **_: object) -> Exit:
        return await self.run(argv, network=None)
