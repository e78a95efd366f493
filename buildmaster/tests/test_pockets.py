"""Pockets, and what builds on what."""

import pytest

from buildmaster.pockets import nearest, path, served_by
from buildmaster.scoring import Pocket

RELEASE, SECURITY, UPDATES = Pocket.RELEASE, Pocket.SECURITY, Pocket.UPDATES
PROPOSED, BACKPORTS = Pocket.PROPOSED, Pocket.BACKPORTS


def test_paths() -> None:
    """Release <- security <- updates <- proposed, and backports beside that."""
    assert path(PROPOSED) == [PROPOSED, UPDATES, SECURITY, RELEASE]
    assert path(BACKPORTS) == [BACKPORTS, UPDATES, SECURITY, RELEASE]
    assert path(RELEASE) == [RELEASE]


@pytest.mark.parametrize(
    ("having", "expected"),
    [
        ({RELEASE}, dict.fromkeys(Pocket, RELEASE)),
        ({RELEASE, SECURITY}, dict.fromkeys(Pocket, SECURITY) | {RELEASE: RELEASE}),
        ({RELEASE, PROPOSED}, dict.fromkeys(Pocket, RELEASE) | {PROPOSED: PROPOSED}),
        ({UPDATES}, {PROPOSED: UPDATES, BACKPORTS: UPDATES, UPDATES: UPDATES, SECURITY: None, RELEASE: None}),
        (set(), dict.fromkeys(Pocket)),
    ],
)
def test_nearest(having: set[Pocket], expected: dict[Pocket, Pocket | None]) -> None:
    """The first on the way down; and the other way round, whom one serves."""
    assert {each: nearest(each, having) for each in Pocket} == expected
    for pocket in Pocket:
        assert served_by(pocket, having) == [each for each in Pocket if expected[each] is pocket]
