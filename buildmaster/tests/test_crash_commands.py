"""Commands whose process ends in the middle, by os._exit, at every point where they commit or store a file: what they
were to do is done wholly or not at all, and once when they are called again."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from buildmaster import builds, packages
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState, ImpossibleTransition
from buildmaster.tests.factories import make_build, make_farm, make_series, open_farm, write_source
from buildmaster.tests.simulation.invariants import Invariants

S = BuildState
PLACE = {"distribution": "debian", "series_name": "bookworm"}
Act = Callable[[Farm], object]


def arm(farm: Farm, nth: int, last: Callable[[str], None]) -> None:
    """Have this called at the nth point, wherever in the farm that is."""
    left = nth

    def point(where: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            last(where)

    database: Any = farm.database
    store: Any = farm.store
    transaction, new_writer = database._transaction, store.writer

    @contextmanager
    def committing(*args: Any) -> Iterator[Any]:
        point("before a transaction")
        with transaction(*args) as connection:
            yield connection
            point("before a commit")
        point("after a commit")

    def writer() -> Any:
        made = new_writer()
        commit = made.commit

        def storing() -> Any:
            point("before a file is stored")
            stored = commit()
            point("after a file is stored")
            return stored

        made.commit = storing
        return made

    database._transaction, store.writer = committing, writer


def die_at(nth: int, directory: Path, act: Act) -> str:
    """Do it in a process that ends at its nth point. Returns where; "" when there are not so many."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:

            def last(where: str) -> None:
                os.write(writing, where.encode())
                os._exit(9)

            farm = open_farm(directory)
            arm(farm, nth, last)
            act(farm)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as stream:
        where = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if where else 0)
    return where


def states(farm: Farm) -> list[str]:
    """The states of all builds, in their order; they are checked to be in step with the queue."""
    checked = Invariants()
    with farm.reading() as connection:
        checked.check_all(connection)
    return [str(state) for _, state in sorted(checked.states.items())]


def submit(version: str) -> Act:
    """Submit a source; once more does not matter."""

    def act(farm: Farm) -> None:
        dsc = write_source(farm.directory / f"sources-{version}", "hello", version)
        try:
            packages.accept(farm, dsc, 100.0, **PLACE)  # type: ignore[arg-type]
        except packages.SourceRefused as refused:
            assert "is here already" in str(refused)

    return act


def add_chroot(farm: Farm) -> None:
    path = farm.directory / "chroot.tar"
    path.write_bytes(b"a chroot\n")
    farm.add_chroot("debian", "bookworm", "amd64", path)


def cancel_all(farm: Farm) -> None:
    for build_id in (1, 2):
        with farm.transaction() as connection:
            if builds.state(connection, build_id) is S.NEEDS_BUILD:
                builds.cancel(connection, build_id, 100.0)


def retry_all(farm: Farm) -> None:
    for build_id in (1, 2):
        try:
            with farm.transaction() as connection:
                builds.retry(connection, build_id, 100.0)
        except ImpossibleTransition as error:
            assert error.state is S.NEEDS_BUILD


def empty(farm: Farm) -> None:
    make_series(farm)


def one_queued(farm: Farm) -> None:
    make_series(farm)
    submit("1.0")(farm)


def two_queued(farm: Farm) -> None:
    make_series(farm)
    make_build(farm, "one")
    make_build(farm, "two")


def two_cancelled(farm: Farm) -> None:
    two_queued(farm)
    cancel_all(farm)


def two_without_a_chroot(farm: Farm) -> None:
    make_series(farm, chroot=None)
    make_build(farm, "one")
    make_build(farm, "two")


# What there is, what is done, what may be seen when its process died, and what there is in the end.
STORIES: dict[str, tuple[Act, Act, list[list[str]], list[str]]] = {
    "submit": (empty, submit("1.0"), [[], ["needs-build"]], ["needs-build"]),
    "submit a newer version": (
        one_queued, submit("2.0"), [["needs-build"], ["superseded", "needs-build"]], ["superseded", "needs-build"],
    ),
    "add a chroot": (
        two_without_a_chroot, add_chroot, [["chroot-wait"] * 2, ["needs-build"] * 2], ["needs-build"] * 2,
    ),
    "cancel": (
        two_queued, cancel_all, [["needs-build"] * 2, ["cancelled", "needs-build"], ["cancelled"] * 2],
        ["cancelled"] * 2,
    ),
    "retry": (
        two_cancelled, retry_all, [["cancelled"] * 2, ["needs-build", "cancelled"], ["needs-build"] * 2],
        ["needs-build"] * 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_a_command_that_dies(story: str, tmp_path: Path) -> None:
    """Wherever it died, nothing is half done; and called again it does what was left, and nothing twice."""
    prepare, act, between, end = STORIES[story]
    places: list[str] = []
    while True:
        (folder := tmp_path / str(len(places))).mkdir()
        farm = make_farm(folder)
        prepare(farm)
        where = die_at(len(places) + 1, farm.directory, act)
        told = f"died {where}, point {len(places) + 1}"
        assert states(farm) in between, told
        act(farm)
        assert states(farm) == end, told
        farm.close()
        if not where:
            break
        places.append(where)
    assert {"before a commit", "after a commit"} <= set(places)
