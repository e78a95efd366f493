"""Whoever changes an archive dies before each thing that it does to the disk: what apt sees is the old or the new."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from buildmaster.indices.records import put, take_out
from buildmaster.publishing.pool import PoolFile
from buildmaster.publishing.snapshots import remove_snapshot, take_snapshot
from buildmaster.publishing.tree import Keep
from buildmaster.tests.archive_case import FACTS, PACKAGES, Archive, Client, package, tree_of
from buildmaster.tests.dying import die_at

NAME = "20261122T120000Z"


def told(archive: Archive) -> set[str]:
    """All that is in an archive's folder, whichever generation it is of."""
    return {re.sub(r"(?<=/bookworm/)\d+(?=[/.])", "N", path) for path in tree_of(archive.directory)}


class Scene:
    """An archive, brought anew into the same state for each death."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = 0
        self.first = Archive(folder / "first", keep=Keep(seconds=1, generations=1))
        self.source = folder / "source"
        self.source.write_bytes(b"a .deb")

    def file(self, name: str, copied: bool = False) -> PoolFile:
        file = package(name, content=b"a .deb")[1]
        source = (lambda: self.source.open("rb")) if copied else self.source
        return PoolFile(file.path, file.size, file.sha256, source)

    def again(self) -> Archive:
        """The archive as it was first."""
        self._numbers += 1
        archive = Archive(self._folder / str(self._numbers), keep=Keep(seconds=1, generations=1))
        shutil.copytree(self.first.directory, archive.directory, symlinks=True)
        archive.now = self.first.now
        return archive

    def at_each_point(
        self, act: Callable[[Archive], object], between: Callable[[Archive], object], enough: int
    ) -> None:
        """Die at each point; look; then do it again, after which everything is as if nobody had died."""
        wanted = self.again()
        act(wanted)
        nth = 0
        while True:
            nth += 1
            archive = self.again()
            died = die_at(nth, lambda archive=archive: act(archive))  # type: ignore[misc]
            between(archive)
            act(archive)
            assert told(archive) == told(wanted), f"died at {nth}"
            shutil.rmtree(archive.directory)
            if not died:
                break
        assert nth > enough  # Or nobody died where it matters.


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    scene.first.pool.place([scene.file("bash"), scene.file("hello")])
    scene.first.add("bash", "hello")
    return scene


def consistent(archive: Archive, *wanted: list[str]) -> None:
    """A client finds the packages of one time or another, and all that InRelease says."""
    Client(archive.dists).check()
    assert archive.names() in wanted


def test_a_publication(scene: Scene) -> None:
    """Publishing: who read InRelease before can go on, too."""

    def act(archive: Archive) -> None:
        archive.publish([*put(PACKAGES, [package("coreutils")[0]]), *take_out(PACKAGES, [b"bash 1 amd64"])])

    def between(archive: Archive) -> None:
        consistent(archive, ["bash", "hello"], ["coreutils", "hello"])
        older.check_in(archive.dists)

    older = Client(scene.first.dists)
    scene.at_each_point(act, between, enough=40)


def test_a_publication_that_takes_over_what_was(scene: Scene) -> None:
    """Publishing by who remembers the digests of the publication before, and copies what did not change."""
    scene.first.publish(put(PACKAGES, [package("large", more=f"Section: {'x' * 100_000}\n")[0]]))
    scene.first.add("one")

    def act(archive: Archive) -> None:
        archive.add("two")
        archive.add("three")

    before = scene.first.names()
    wanted = [before, sorted([*before, "two"]), sorted([*before, "two", "three"])]
    for nth in range(1, 1000):
        archive = scene.again()
        died = die_at(nth, lambda archive=archive: act(archive))  # type: ignore[misc]
        consistent(archive, *wanted)
        act(archive)
        assert archive.names() == wanted[-1]
        shutil.rmtree(archive.directory)
        if not died:
            break
    assert nth > 60


def test_the_first_publication(tmp_path: Path) -> None:
    """The first publication of a suite: there is nothing, or all."""

    def between(archive: Archive) -> None:
        if archive.dists.exists():
            consistent(archive, ["hello"])

    scene = Scene(tmp_path)
    scene.first.directory.mkdir()
    scene.at_each_point(lambda archive: archive.add("hello"), between, enough=40)


def test_a_rebuild(scene: Scene) -> None:
    """Rebuilding what was lost."""
    (scene.first.directory / ".state/suites/bookworm/1.manifest").unlink()
    records = [(PACKAGES, package(name)[0]) for name in ("hello", "more")]

    def act(archive: Archive) -> None:
        archive.tree.rebuild(records, FACTS, archive.signer, archive.now)

    def between(archive: Archive) -> None:
        consistent(archive, ["bash", "hello"], ["hello", "more"])

    wanted = scene.again()
    act(wanted)
    for nth in range(1, 1000):
        archive = scene.again()
        died = die_at(nth, lambda archive=archive: act(archive))  # type: ignore[misc]
        between(archive)
        act(archive)
        assert archive.names() == ["hello", "more"]
        if not died:
            break
    assert nth > 40


@pytest.mark.parametrize("copied", [False, True], ids=["linked", "copied"])
def test_placing(scene: Scene, copied: bool) -> None:
    """Placing files, of which one was retired: each is whole, or not there."""
    scene.first.pool.retire([scene.file("hello").path], 1.0)

    def act(archive: Archive) -> None:
        archive.pool.place([scene.file("hello", copied), scene.file("coreutils", copied)])
        archive.pool.sweep(0.0)

    def between(archive: Archive) -> None:
        for name in ("bash", "hello", "coreutils"):
            path = archive.directory / scene.file(name).path
            assert (path.read_bytes() if path.exists() or name != "coreutils" else b"a .deb") == b"a .deb"

    scene.at_each_point(act, between, enough=4)


def test_retiring_and_sweeping(scene: Scene) -> None:
    """What is retired and swept goes, and nothing else."""

    def act(archive: Archive) -> None:
        archive.pool.retire([scene.file("hello").path], 1.0)
        archive.pool.sweep(2.0)

    def between(archive: Archive) -> None:
        assert (archive.directory / scene.file("bash").path).exists()

    scene.at_each_point(act, between, enough=6)


def test_snapshots(scene: Scene) -> None:
    """A snapshot is whole, or not there; so it is when one is removed."""

    def between(archive: Archive) -> None:
        consistent(archive, ["bash", "hello"])
        snapshot = archive.directory / "snapshot" / NAME
        if snapshot.exists():
            Client(snapshot / "dists/bookworm").check()
            assert (snapshot / scene.file("hello").path).read_bytes() == b"a .deb"

    scene.at_each_point(lambda archive: take_snapshot(archive.directory, NAME), between, enough=15)
    take_snapshot(scene.first.directory, NAME)
    scene.at_each_point(lambda archive: remove_snapshot(archive.directory, NAME), between, enough=15)
