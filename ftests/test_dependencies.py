"""The master judges build-dependencies as dose-builddebcheck does, on Debian's own sources."""

from functools import cache

import pytest

from ftests import dose
from ftests.dose import Source

pytestmark = pytest.mark.real  # Needs the network for Debian's archive; seconds, once the lists are here.


@cache
def debian() -> tuple[bytes, list[Source]]:
    return dose.debian()


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "with holes"])
def test_a_thousand_sources(holes: bool) -> None:
    """Of 1,000 sources of bookworm's main, the two find the same ones that cannot be built, in an archive that is in
    order and in one where a part of the packages is gone or too old; but for those that are explained."""
    available, all_sources = debian()
    available = dose.with_holes(available) if holes else available
    sources = dose.every(all_sources, 1000)
    ours, doses = dose.ours(available, sources), dose.doses(available, sources)
    assert len(sources) == 1000
    assert not dose.differences(ours, doses)
    if holes:
        assert 200 < len(ours.broken) < 800, "or yes to all, or no, would be as good an answer"


def test_differences_are_seen() -> None:
    """What one of them calls broken and the other not is told."""
    ours, doses = dose.Judged({"a_1": "x", "b_1": "y"}, 0, 0), dose.Judged({"a_1": "z", "c_2": "w"}, 0, 0)
    assert dose.differences(ours, doses) == {"b_1": "y", "c_2": "w"}
