"""Packages may install what they like: it is kept, looked over and removed all the same (keeping.py)."""

import pytest

from ftests.trial import run_trial

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What came of it."""
    return run_trial("keeping.py")


def test_a_hostile_tree_becomes_a_layer(found: dict[str, str]) -> None:
    """The next daemon finds it sound, and builds see in it what was planted."""
    assert found["planted"] == "exit status 0"
    content, owner, names = found["found"].split()
    assert (content, owner) == ("here", "1234")
    assert int(names) > 600
    assert found["sound"] == "[True, True]"


def test_a_file_that_is_not_the_accounts_is_looked_at(found: dict[str, str]) -> None:
    """Its mode was changed behind our back: the layer is gone."""
    assert found["found when changed"] == "None"


def test_a_hostile_tree_is_removed(found: dict[str, str]) -> None:
    """To the last file, and so is the chroot below."""
    assert found["dropped"] == "[True]"
    assert set(found["left"].split()) <= {"layers/locks", "layers/memos"}
