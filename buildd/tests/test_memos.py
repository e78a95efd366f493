"""What was found out before is found again, or nothing is."""

from pathlib import Path

import pytest

from buildd.isolation.layers import layer_key
from buildd.managers import memos
from buildd.managers.memos import Memos

KEY, OTHER = layer_key("one"), layer_key("other")


def test_what_was_remembered_last_counts(tmp_path: Path) -> None:
    """For whichever daemon looks."""
    ours, theirs = Memos(tmp_path / "memos"), Memos(tmp_path / "memos")
    assert ours.find(KEY) is None
    ours.keep(KEY, {"state": "old"})
    theirs.keep(KEY, {"state": "new", "packages": ["a_1_all"]})
    assert ours.find(KEY) == {"state": "new", "packages": ["a_1_all"]}
    assert ours.find(OTHER) is None


@pytest.mark.parametrize("content", [b"", b'{"state": "o', b"[]", b"\xff", b"null", b"[" * 100_000])
def test_what_is_damaged_was_never_there(tmp_path: Path, content: bytes) -> None:
    """A full disk or a power cut may leave anything."""
    there = Memos(tmp_path)
    (tmp_path / KEY).write_bytes(content)
    assert there.find(KEY) is None
    there.keep(KEY, {"state": "new"})
    assert there.find(KEY) == {"state": "new"}


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    """And nothing beside it."""
    there = Memos(tmp_path)
    there.keep(KEY, {"state": "old"})
    with pytest.raises(TypeError):
        there.keep(KEY, {"state": object()})
    assert there.find(KEY) == {"state": "old"}
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they never fill a disk; what is used stays."""
    monkeypatch.setattr(memos, "_MEMOS_MAX", 3)
    monkeypatch.setattr(memos, "_LOOK_EVERY", 1)
    there = Memos(tmp_path)
    keys = [layer_key(str(number)) for number in range(6)]
    for key in keys:
        there.keep(key, {})
        there.find(keys[0])
    assert [key in {path.name for path in tmp_path.iterdir()} for key in keys] == [
        True,
        False,
        False,
        False,
        True,
        True,
    ]
