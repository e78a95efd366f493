"""A publisher whose process ends in the middle, by os._exit, at every point where it changes the disk or the database:
apt sees the old suite or the new one, and the next publication does the rest."""

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from buildmaster import entering
from buildmaster.farm import Farm
from buildmaster.publications import State
from buildmaster.publishing import cleaning
from buildmaster.publishing.publication import Press
from buildmaster.tests.archive_case import Client
from buildmaster.tests.factories import open_farm
from buildmaster.tests.test_press import Mine
from buildmaster.tests.test_publications import deb

DIED = 9
# What Python tells of when it is about to happen: see its table of audit events. os.replace() is a rename.
CHANGES = {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}


def dying(nth: int, act: Callable[[], object], farm: Farm) -> bool:
    """Do something in this process, which ends at the nth change. Whether there were fewer."""
    left = nth

    def point() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(DIED)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            point()

    database: Any = farm.database
    transaction = database._transaction

    @contextmanager
    def committing(*args: Any) -> Any:
        with transaction(*args) as connection:
            yield connection
            point()
        point()

    database._transaction = committing
    sys.addaudithook(hook)
    act()
    return True


def in_a_child(run: Callable[[], bool]) -> bool:
    """Whether it came to its end; else it died."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if run() else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, DIED), code
    return code == 0


def names(mine: Mine) -> list[str]:
    """What a client sees, every index and the pool's files checked."""
    dists = mine.folder / "dists" / "bookworm"
    Client(dists).check()
    text = Client(dists).index("main/binary-amd64/Packages").decode()
    for line in text.splitlines():
        if line.startswith("Filename: "):
            assert (mine.folder / line.removeprefix("Filename: ")).is_file()
    return mine.index()


def another(mine: Mine, version: str) -> int:
    """A version that is built, and not published yet."""
    accepted = mine.accept(version)
    own = [deb(mine.farm, version=version)]
    mine.farm.write(entering.add_binaries, accepted.source_id, accepted.build_ids[0], own, mine.now)
    return accepted.source_id


def press_of(farm: Farm, mine: Mine) -> Press:
    return Press(farm, mine.directory, mine.secrets, lambda: mine.now)


def story(farm: Farm, tmp_path: Path, act: Callable[[Press, Mine], object], step: int = 1) -> int:
    """Versions, each of which is published by one who dies at the next point; returns how many points there were."""
    mine = Mine(farm, tmp_path / "archives")
    another(mine, "1.0")
    mine.publish()
    for number, nth in enumerate(range(1, 1000, step), 1):
        old, new = f"1.{number - 1}", f"1.{number}"
        source_id = another(mine, new)
        mine.now += 1

        def run(nth: int = nth) -> bool:
            own = open_farm(farm.directory)
            return dying(nth, lambda: act(press_of(own, mine), mine), own)

        ended = in_a_child(run)
        assert names(mine) in ([f"hello {old}"], [f"hello {new}"])
        mine.publish()
        assert names(mine) == [f"hello {new}"]
        assert set(mine.states(source_id).values()) == {State.PUBLISHED}
        if ended:
            return nth
    raise AssertionError("it does not end")


def test_publishing(farm: Farm, tmp_path: Path) -> None:
    """At some hundred points."""
    assert story(farm, tmp_path, lambda press, mine: press.publish(mine.suite)) > 30


def test_from_nothing(farm: Farm, tmp_path: Path) -> None:
    """A publication that makes all anew; at every third."""
    assert story(farm, tmp_path, lambda press, mine: press.publish(mine.suite, full=True), step=3) > 30


def test_cleaning(farm: Farm, tmp_path: Path) -> None:
    """Files that are needed stay, and those that are not go in the end, whoever dies in between."""
    mine = Mine(farm, tmp_path / "archives")
    another(mine, "1.0")
    mine.publish()
    for nth in range(1, 100):
        another(mine, f"1.{nth}")
        mine.publish()
        assert cleaning.clean(mine.press, mine.archive_id).files == ()
        mine.now += 100_000

        def run(nth: int = nth) -> bool:
            own = open_farm(farm.directory)
            return dying(nth, lambda: cleaning.clean(press_of(own, mine), mine.archive_id), own)

        ended = in_a_child(run)
        assert names(mine) == [f"hello 1.{nth}"]
        cleaning.clean(mine.press, mine.archive_id)
        pool = {path.name for path in (mine.folder / "pool").rglob("*_*")}
        assert pool == {f"hello_1.{nth}.dsc", f"hello_1.{nth}.tar.xz", f"hello_1.{nth}_amd64.deb"}
        if ended:
            return
    raise AssertionError("it does not end")
