"""The directories that builds run in."""

from itertools import count
from pathlib import Path

import pytest
from twisted.internet.defer import maybeDeferred

from buildd import build_directories
from buildd.build_directories import BuildDirectories
from buildd.tests.builder_world import now


def in_thread(blocking: object, *args: object) -> object:
    return maybeDeferred(blocking, *args)  # type: ignore[call-overload]


@pytest.fixture
def directories(tmp_path: Path) -> BuildDirectories:
    return BuildDirectories(tmp_path / "builds", in_thread, clock=count(step=5).__next__)  # type: ignore[arg-type]


def test_each_has_its_own(directories: BuildDirectories) -> None:
    """Each is empty, new, and for its owner only; nothing else is left."""
    first, second = now(directories.take()), now(directories.take())
    assert first != second and sorted(first.parent.iterdir()) == sorted([first, second])
    for path in (first, second):
        assert path.stat().st_mode & 0o777 == 0o700 and not list(path.iterdir())


def test_one_that_was_prepared(directories: BuildDirectories, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken without a look for a good place; to prepare it twice is to prepare it once."""
    now(directories.take())
    now(directories.prepare())
    now(directories.prepare())
    monkeypatch.setattr(build_directories, "make_directory", None)
    taken = now(directories.take())
    assert taken.stat().st_mode & 0o777 == 0o700 and taken.name.startswith("build-")


def test_what_is_good(directories: BuildDirectories, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is as good as the best one was, or nearly; that is looked for with care once, and when it was lucky."""
    took, good = iter([2.0, 5.0, 1.0, 3.0]), []

    def make(path: Path, good_s: float) -> float:
        path.mkdir()
        good.append(good_s)
        return next(took)

    monkeypatch.setattr(build_directories, "make_directory", make)
    for _ in range(4):
        now(directories.take())
    assert good == [0.0, 6.0, 6.0, 3.0]


def test_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows at once has any place: to look for a good one for each would make all places bad ones."""
    times, looked = iter([0.0, 4.9, 5.0, 9.9]), []

    def make(path: Path, good_s: float) -> float:
        looked.append(path)
        path.mkdir()
        return 1.0

    monkeypatch.setattr(build_directories, "make_directory", make)
    directories = BuildDirectories(tmp_path / "builds", in_thread, clock=times.__next__)  # type: ignore[arg-type]
    taken = [now(directories.take()) for _ in range(4)]
    assert looked == [taken[0], taken[2]]
    assert all(path.stat().st_mode & 0o777 == 0o700 and not list(path.iterdir()) for path in taken)


def test_it_cannot_be_prepared(directories: BuildDirectories, tmp_path: Path) -> None:
    """That is no error; who needs one hears of it."""
    (tmp_path / "builds").write_text("")
    now(directories.prepare())
    with pytest.raises(OSError, match="builds"):
        now(directories.take())


def test_none_is_left_at_the_end(directories: BuildDirectories, tmp_path: Path) -> None:
    """Neither when there was one, nor when there was none."""
    now(directories.take()).rmdir()
    now(directories.prepare())
    directories.clear()
    directories.clear()
    assert not list((tmp_path / "builds").iterdir())
