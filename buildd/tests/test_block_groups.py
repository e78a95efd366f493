"""Where many files are to be made."""

import errno
import os
from pathlib import Path

import pytest

from buildd.isolation import block_groups


@pytest.mark.parametrize(("good_s", "taken"), [(0.0, 1.0), (0.9, 1.0), (4.5, 4.0), (5.0, 5.0), (9.0, 5.0)])
def test_the_quickest_place_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good_s: float, taken: float
) -> None:
    """Or the first that is good. It is empty, and nothing is left of the others."""
    took = iter([5.0, 4.0, 1.0, 2.0, 3.0, 6.0])
    numbers: dict[int, float] = {}

    def seconds(directory: Path) -> float:
        directory.mkdir()
        numbers[directory.stat().st_ino] = found = next(took)
        return found

    monkeypatch.setattr(block_groups, "_seconds", seconds)
    assert block_groups.make_directory(tmp_path / "new", good_s) == taken
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert numbers[(tmp_path / "new").stat().st_ino] == taken


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of those that were tried, whether files could be made there or not."""
    touched = []

    def touch(file: Path) -> None:
        touched.append(file)
        if len(touched) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.write_bytes(b"")

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(OSError, match="No space"):
        block_groups.make_directory(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_for_many_files(tmp_path: Path) -> None:
    """Made for everybody to look into, as mkdir would."""
    block_groups.make_directory(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755
    assert len(list(tmp_path.iterdir())) == 1
