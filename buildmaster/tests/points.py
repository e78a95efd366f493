"""The points at which a master commits or talks, as they stand in its code; and how it is made to die at one.

What commits, talks to builders, stores a file or runs a program has to pass through one of few doors. Every expression
of the work layer that calls one of these is a point: found by reading the code, so that none is forgotten.
"""

import ast
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import context

import buildmaster
from buildmaster import external
from buildmaster.builder_client import BuilderClient
from buildmaster.builder_http import BodyReader, BuilderHttp
from buildmaster.database import Database
from buildmaster.examiner import Examiner
from buildmaster.farm import Farm
from buildmaster.fetching import Fetcher
from buildmaster.leases import Leases

DIED = 9  # The exit status of a master that died where it was to.
LOST = 7  # That of one that came to a door from where there is no point.
SIDES = ("before", "after")
COMMIT, TALK, STORE, PROGRAM = "commit", "talk", "store", "program"
_CALLS = frozenset(
    name for name, each in vars(BuilderClient).items() if inspect.iscoroutinefunction(each) and name[0] != "_"
)


@dataclass(frozen=True)
class Point:
    """An expression that calls a door."""

    kind: str
    name: str  # MODULE.CLASS.FUNCTION: WHAT
    first: int  # Its lines, with what it is a part of.
    last: int


@cache
def points_of(path: Path) -> tuple[Point, ...]:
    """All points of a module. Of several that are called alike, the second has `#2` behind its name, and so on."""
    found: dict[str, Point] = {}
    for where, outer, node in _expressions(ast.parse(path.read_text()), path.stem, None):
        called = _door(node)
        if called is None:
            continue
        kind, what = called
        name, same = f"{where}: {what}", 1
        while name in found:
            same += 1
            name = f"{where}: {what} #{same}"
        found[name] = Point(kind, name, outer.lineno, outer.end_lineno or outer.lineno)
    return tuple(found.values())


def _expressions(node: ast.AST, where: str, outer: ast.expr | None) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Each expression: in which function it is, and the longest that it is a part of."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield where, outer or child, child
            yield from _expressions(child, where, outer or child)
        else:
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            yield from _expressions(child, f"{where}.{child.name}" if named else where, None)  # type: ignore[attr-defined]


def _door(node: ast.expr) -> tuple[str, str] | None:
    """What kind of door an expression calls, if it does, and for what."""
    found = None
    match node:
        case ast.Call(func=ast.Attribute(attr="transact", value=whose), args=[first, *more]):
            found = COMMIT, ast.unparse(more[0] if ast.unparse(whose).endswith("tenure") else first)
        case ast.Call(func=ast.Attribute(attr="_write"), args=[first, *_]):
            found = COMMIT, ast.unparse(first)
        case ast.Attribute(attr=attr, value=ast.Name(id="client") | ast.Call(func=ast.Attribute(attr="client"))):
            found = (TALK, f"client.{attr}") if attr in _CALLS else None
        case ast.Attribute(attr="commit", value=ast.Name(id="partial")):
            found = STORE, "commit"
        case ast.Call(func=ast.Attribute(attr="run", value=ast.Name(id="external"))):
            found = PROGRAM, "external.run"
        case ast.Call(func=ast.Attribute(attr="_in"), args=[_, first, *_]):
            found = PROGRAM, ast.unparse(first)
    return found


def work_points(modules: set[str]) -> dict[str, Point]:
    """All points of these modules, by name."""
    return {each.name: each for path in files_of(modules) for each in points_of(path)}


def files_of(modules: set[str]) -> list[Path]:
    """Where these modules are. Packages are left out: deaths at each of their steps are for tests of their own."""
    paths = (Path(buildmaster.__file__).parent / f"{name}.py" for name in sorted(modules))
    return [path for path in paths if not path.with_suffix("").is_dir()]


# In the process of the master


def arm(wanted: str, side: str) -> None:
    """Let this process end when it comes to a point, on this side of it; "": to none."""

    def tick(point: str, at: str) -> None:
        if not point:
            print("at a door, from where there is no point:", file=sys.stderr)
            traceback.print_stack()
            sys.stderr.flush()
            os._exit(LOST)
        if (point, at) == (wanted, side):
            os._exit(DIED)

    _arm_commits(tick)
    for place, name, kind, passes in _DOORS:
        _arm_door(place, name, kind, passes, tick)


_Tick = Callable[[str, str], None]
_Passes = Callable[..., bool]  # Whether these arguments of a door are of no interest, where it is called from no point.


def _none(*_: object) -> bool:
    return False


_DOORS: tuple[tuple[Any, str, str, _Passes], ...] = (
    (BuilderHttp, "post", TALK, _none),
    (BuilderHttp, "get", TALK, _none),
    (BodyReader, "read", TALK, lambda *_: True),  # Of the answer to post(), too.
    (external, "run", PROGRAM, _none),
    (Examiner, "_in", PROGRAM, _none),
    (Fetcher, "_thread", STORE, lambda _, function, *__: getattr(function, "__name__", "") != "commit"),
)


def _arm_door(place: Any, name: str, kind: str, passes: _Passes, tick: _Tick) -> None:
    real = getattr(place, name)

    async def door(*arguments: Any, **more: Any) -> Any:
        point = _point(kind)
        if not point and passes(*arguments):
            return await real(*arguments, **more)
        tick(point, "before")
        result = await real(*arguments, **more)
        tick(point, "after")
        return result

    setattr(place, name, door)


def _arm_commits(tick: _Tick) -> None:
    """Commits are made in threads, which are told by whom."""
    for place, name in ((Leases, "transact"), (Leases, "_write"), (Farm, "transact")):
        _arm_committing(place, name)
    transaction: Any = Database._transaction

    @contextmanager
    def committing(*arguments: Any) -> Iterator[Any]:
        point = context.get(COMMIT) or ""  # type: ignore[no-untyped-call]
        with transaction(*arguments) as connection:
            yield connection
            tick(point, "before")
        tick(point, "after")

    Database._transaction = committing  # type: ignore[method-assign, assignment]


def _arm_committing(place: Any, name: str) -> None:
    real = getattr(place, name)

    async def door(*arguments: Any, **more: Any) -> Any:
        said = {COMMIT: _point(COMMIT)}
        return await context.call(said, Deferred.fromCoroutine, real(*arguments, **more))  # type: ignore[no-untyped-call]

    setattr(place, name, door)


def _point(kind: str) -> str:
    """The name of the point, of this kind, from which we were called; "": from none."""
    frame: FrameType | None = sys._getframe(2)
    folder = Path(buildmaster.__file__).parent
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent == folder:
            for each in points_of(path):
                if each.kind == kind and each.first <= frame.f_lineno <= each.last:
                    return each.name
        frame = frame.f_back
    return ""
