"""An archive whose packages come and go, and a master's look at it: the real examiner, without apt and libsolv."""

import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.python.threadpool import ThreadPool

from buildmaster.available import Lack
from buildmaster.chroot_system import System
from buildmaster.examiner import FOLDER, Examiner, _Shelf
from buildmaster.looking import CannotLook, Look
from buildmaster.package_lists import Changed, Lists, ListSource, NoLists
from buildmaster.store import Sha256

PACKAGES = tuple(f"lib{number}-dev" for number in range(6))
_FIELD = "Build-Depends: "


class SimArchive:
    """What the builds of a farm are built with."""

    def __init__(self, chance: random.Random, seconds: Callable[[], float]) -> None:
        """:param seconds: the clock."""
        self._chance = chance
        self._seconds = seconds
        self._is_sound = False
        self.packages: set[str] = set(PACKAGES[:2])
        self.trouble_until = -1.0  # By the clock: when something of it, or of looking at it, went wrong last.
        self._publications = 0

    @property
    def state(self) -> str:
        return f"state-{self._publications}"

    def relations(self) -> str:
        """What some source needs."""
        return _FIELD + ", ".join(sorted(self._chance.sample(PACKAGES, self._chance.choice((1, 1, 2)))))

    def fail(self, now: float, seconds: float) -> None:
        """Do not answer for a while."""
        self.trouble_until = max(self.trouble_until, now + seconds)

    def repair(self) -> None:
        self.trouble_until, self._is_sound = -1.0, True

    @property
    def answers(self) -> bool:
        return self._seconds() >= self.trouble_until

    def publish(self, *, everything: bool = False) -> None:
        """Some package or other appears, or is gone; or all are there."""
        self._publications += 1
        if everything:
            self.packages |= set(PACKAGES)
        else:
            self.packages ^= {self._chance.choice(PACKAGES)}

    def lacks(self, relations: str) -> Lack | None:
        wanted = relations.removeprefix(_FIELD).split(", ")
        missing = [each for each in wanted if each in PACKAGES and each not in self.packages]
        return Lack(f"it needs {', '.join(missing)}", ", ".join(missing)) if missing else None

    def has(self, dependencies: str) -> bool:
        return self.packages.issuperset(dependencies.split(", "))

    # As the examiner asks

    def changed(self, lists: Lists) -> Changed:
        if not self.answers:
            return Changed.UNKNOWN
        return Changed.NO if lists.state == self.state else Changed.YES

    def lists(self) -> Lists:
        if not self.answers:
            raise NoLists("it does not answer")
        return Lists(Path("/nowhere"), "amd64", self.state, ())

    def look(self, lists: Lists, looks: Sequence[Look]) -> list[Lack | None]:
        if not self._is_sound and self._chance.random() < 0.01:
            self.fail(self._seconds(), 0.0)
            raise CannotLook("the process died")
        return [self.lacks(each.relations) for each in looks]


class SimLooker:
    """In place of the process with libsolv. The lists may be older than what the archive has by now, as real ones."""

    def __init__(self, archive: SimArchive) -> None:
        self.look = archive.look

    def close(self) -> None:
        """There is no process."""


class _Shelves(dict[str, _Shelf]):
    """All shelves of a master, each of the same archive."""

    def __init__(self, archive: SimArchive) -> None:
        super().__init__()
        self._archive: Any = archive

    def setdefault(self, key: str, default: Any = None) -> _Shelf:
        return super().setdefault(key, _Shelf(self._archive))


class SimExaminer(Examiner):
    """The examiner of one master. What is decided is decided by the real one."""

    def __init__(self, archive: SimArchive, moment: Callable[[str], Awaitable[None]], *args: Any, **more: Any) -> None:
        """:param moment: awaited before and after what takes time."""
        super().__init__(*args, **more)
        self._archive = archive
        self._moment = moment
        someone: Any = SimLooker(archive)
        self._looker = someone
        self._shelves = _Shelves(archive)
        self._looking = ThreadPool(0, 1, name="looking")  # It has no thread.

    async def _in(self, pool: Any, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        name = getattr(function, "__name__", "work")
        await self._moment(f"before {name}")
        result = function(*args, **more)
        await self._moment(f"after {name}")
        return result

    async def _system(self, chroot: Sha256 | None) -> System | None:
        return None if chroot is None else System({})

    async def _fetch(self, shelf: _Shelf, source: ListSource, changed: Changed) -> None:
        (self._farm.directory / FOLDER / source.key).mkdir(parents=True, exist_ok=True)
        shelf.lists = await self._in(None, self._archive.lists)
