"""Which build is more urgent."""

import dataclasses

import pytest

from buildmaster.scoring import ArchivePurpose, Pocket, Urgency, score

USUAL = Urgency(
    private=False, purpose=ArchivePurpose.PRIMARY, relative_score=0, urgency="medium", pocket=Pocket.RELEASE,
    component="main",
)  # fmt: skip


def test_the_usual_build() -> None:
    """Medium urgency, main, before the release: 10 + 1000 + 1500."""
    assert score(USUAL) == 2510


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"private": True}, 10_000),
        ({"purpose": ArchivePurpose.COPY}, -2_600),
        ({"relative_score": -7}, -7),
        ({"urgency": "low"}, -5),
        ({"urgency": "HIGH"}, 5),
        ({"urgency": "emergency"}, 10),
        ({"urgency": "unheard-of"}, -10),
        ({"pocket": Pocket.BACKPORTS}, -1_500),
        ({"pocket": Pocket.SECURITY}, 3_000),
        ({"pocket": Pocket.UPDATES}, 1_500),
        ({"pocket": Pocket.PROPOSED}, 1_500),
        ({"component": "universe"}, -750),
        ({"component": "contrib"}, -750),
        ({"component": "non-free-firmware"}, -1_000),
        ({"component": "partner"}, 250),
        ({"component": "unheard-of"}, -1_000),
    ],
)
def test_what_counts(change: dict[str, object], more: int) -> None:
    """Each of these changes the score by so much."""
    assert score(dataclasses.replace(USUAL, **change)) == score(USUAL) + more  # type: ignore[arg-type]
