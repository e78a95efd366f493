"""Several things done at the same time, where there are several."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(at_once: int, act: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """What comes of each thing, in their order. One alone needs no thread: that takes as long as a small piece does."""
    things = list(things)
    if len(things) < 2:
        return [act(thing) for thing in things]
    with ThreadPoolExecutor(min(at_once, len(things))) as threads:
        return list(threads.map(act, things))
