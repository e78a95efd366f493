"""Resource tags: what a builder has, and a build needs."""

import pytest

from buildmaster import tags
from buildmaster.tags import TagsRefused, can_take


@pytest.mark.parametrize(
    ("needed", "offered", "restricted", "fits"),
    [
        ("", "", "", True),
        ("", "gpu", "", True),  # What is offered may be left.
        ("gpu", "", "", False),
        ("gpu", "gpu", "", True),
        ("gpu large", "gpu", "", False),
        ("gpu large", "gpu large x", "", True),
        ("", "", "gpu", False),  # What is restricted must be wanted.
        ("gpu", "", "gpu", True),  # And is offered to who wants it.
        ("gpu", "", "gpu large", False),
        ("gpu large", "", "gpu large", True),
        ("gpu large", "large", "gpu", True),
        ("large", "large", "gpu", False),
        ("gp", "gpu", "", False),  # Whole words.
    ],
)
def test_which_build_a_builder_may_have(needed: str, offered: str, restricted: str, fits: bool) -> None:
    """All that a build needs is offered, and all that a builder is kept for is needed."""
    assert can_take(needed, offered, restricted) is fits


def test_equal_sets_are_equal_strings() -> None:
    """Order and repetition make no difference; joining sets keeps it so."""
    assert tags.parse(["large", "gpu", "large"]) == tags.parse(["gpu", "large"]) == "gpu large"
    assert tags.union("large x", "", "gpu large") == "gpu large x"
    assert tags.parse([]) == tags.union() == ""


@pytest.mark.parametrize("word", ["", "GPU", "a b", "a,b", "-a", "ä", "a\n", "a" * 65, "'; drop table build;--"])
def test_what_is_no_tag(word: str) -> None:
    """A tag is one word of a few characters; what is none is named."""
    with pytest.raises(TagsRefused, match="no resource tag"):
        tags.parse([word])


def test_too_many() -> None:
    """A set that its column could not hold is refused, also when it is made of two."""
    half = tags.parse(f"tag-number-{number}" for number in range(12))
    with pytest.raises(TagsRefused, match="longer"):
        tags.union(half, half.replace("number", "other"))
