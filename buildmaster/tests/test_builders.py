"""Builders as rows."""

import pytest

from buildmaster import builders
from buildmaster.builders import BuilderRefused, Cleanliness
from buildmaster.farm import Farm
from buildmaster.tests.factories import make_builder


@pytest.mark.parametrize(
    "url", ["http://h:8221", "http://h:8221/", "http://h:8221/rpc", "http://h:8221/rpc/", " http://h:8221/ "]
)
def test_one_form_of_url(farm: Farm, url: str) -> None:
    """Whichever way a builder's URL is given, it is kept in one form, so that one builder is not added twice."""
    make_builder(farm, "a", url)
    with farm.transaction() as connection:
        assert builders.find(connection, "a").url == "http://h:8221/"
        with pytest.raises(BuilderRefused, match="'a'"):
            builders.add(connection, "b", "http://h:8221/rpc", "amd64", 0.0)


@pytest.mark.parametrize(
    ("name", "url", "architecture"),
    [
        ("", "http://h/", "amd64"),
        ("a/b", "http://h/", "amd64"),
        ("a", "h:8221", "amd64"),
        ("a", "file:///etc/passwd", "amd64"),
        ("a", "http:///", "amd64"),
        ("a", "http://h/ x", "amd64"),
        ("a", "http://h/", "AMD 64"),
    ],
)
def test_what_cannot_be_a_builder(farm: Farm, name: str, url: str, architecture: str) -> None:
    """A name, URL or architecture that is none is refused, with the reason."""
    with farm.transaction() as connection, pytest.raises(BuilderRefused):
        builders.add(connection, name, url, architecture, 0.0)


def test_a_new_builder_is_not_known_to_be_clean(farm: Farm) -> None:
    """What a new builder holds is not known: it is cleaned first."""
    with farm.transaction() as connection:
        builders.add(connection, "a", "http://h/", "amd64", 0.0)
        assert builders.find(connection, "a").cleanliness is Cleanliness.DIRTY


def test_enable_forgets_failures(farm: Farm) -> None:
    """A builder that is put into service again begins anew: no failures, and cleaned first."""
    builder_id = make_builder(farm)
    with farm.transaction() as connection:
        assert [builders.count_failure(connection, builder_id) for _ in range(3)] == [1, 2, 3]
        builders.fail(connection, builder_id, "it smokes")
        assert not builders.find(connection, "x86").enabled
        builders.enable(connection, "x86")
        found = builders.find(connection, "x86")
    assert (found.enabled, found.failures, found.cleanliness) == (True, 0, Cleanliness.DIRTY)


def test_no_such_builder(farm: Farm) -> None:
    """A builder that is not there is told by its name."""
    with farm.transaction() as connection:
        for change in (builders.find, builders.enable):
            with pytest.raises(builders.NoSuchBuilder, match="'nobody'"):
                change(connection, "nobody")
