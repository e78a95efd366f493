"""Clients that update in a loop while an archive is published: real apt, over HTTP, from a real master."""

import os

import pytest

from ftests.publishing_loop import loop

pytestmark = pytest.mark.real

PUBLICATIONS = int(os.environ.get("DEBFARM_TEST_PUBLICATIONS", "100"))


def test_no_mismatch() -> None:
    """No update ends with a complaint, and whatever InRelease names is as it says."""
    count, seen, changes = loop(PUBLICATIONS)
    assert count >= PUBLICATIONS
    assert {"enter", "remove", "promote"} <= changes.made.keys()
    for name in ("apt", "all by digest"):
        assert seen[name].updates > 1 and len(seen[name].generations) > 3, seen
