"""Conditional requests and ranges."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildmaster.conditions import Answer, Asked, File, answer

FILE = File(size=1000, modified=1_700_000_000, tag="abc")
TRUE_DATE = formatdate(1_700_000_000, usegmt=True)


def ask(**headers: str) -> Answer:
    return answer(FILE, Asked(**headers))


def test_the_whole_file() -> None:
    """Who sets no conditions gets the file, and what to ask by the next time."""
    got = ask()
    assert (got.code, got.start, got.length) == (200, 0, 1000)
    assert got.headers == {"ETag": '"abc"', "Last-Modified": TRUE_DATE, "Accept-Ranges": "bytes"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"none_match": '"abc"'}, 304),
        ({"none_match": 'W/"abc", "x"'}, 304),
        ({"none_match": "*"}, 304),
        ({"none_match": '"abd"'}, 200),
        ({"none_match": '"abd"', "modified_since": TRUE_DATE}, 200),  # The tag counts, where there is one.
        ({"modified_since": TRUE_DATE}, 304),
        ({"modified_since": formatdate(1_700_000_001, usegmt=True)}, 200),
        ({"modified_since": formatdate(1_699_999_999, usegmt=True)}, 200),
        ({"modified_since": "yesterday"}, 200),
        ({"modified_since": "Mon, 99 Jan 99999 99:99:99 GMT"}, 200),
    ],
)
def test_what_the_client_has(headers: dict[str, str], code: int) -> None:
    """Nothing is sent to who has this very content."""
    got = ask(**headers)
    assert got.code == code and (got.length == 0) == (code == 304)


@pytest.mark.parametrize(
    ("wanted", "code", "part"),
    [
        ("bytes=0-", 206, (0, 1000)),
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=990-5000", 206, (990, 10)),
        ("bytes=-10", 206, (990, 10)),
        ("bytes=-5000", 206, (0, 1000)),
        ("bytes=999-999", 206, (999, 1)),
        ("bytes=1000-", 416, (0, 0)),
        ("bytes=-0", 416, (0, 0)),
        ("bytes=5-4", 200, (0, 1000)),
        ("bytes=-", 200, (0, 1000)),
        ("bytes=0-1,5-6", 200, (0, 1000)),
        ("lines=1-2", 200, (0, 1000)),
        ("bytes=" + "9" * 30 + "-", 200, (0, 1000)),
    ],
)
def test_ranges(wanted: str, code: int, part: tuple[int, int]) -> None:
    """One range is answered with its bytes; none of the file, with its size; what cannot be read, with the whole."""
    got = ask(range=wanted)
    assert (got.code, (got.start, got.length)) == (code, part)
    if code == 206:
        assert got.headers["Content-Range"] == f"bytes {part[0]}-{part[0] + part[1] - 1}/1000"
    if code == 416:
        assert got.headers == {"Content-Range": "bytes */1000"}


def test_a_range_of_what_has_changed() -> None:
    """The rest of another file is no rest: who asks for it gets the whole."""
    assert ask(range="bytes=5-", if_range='"abc"').code == 206
    assert ask(range="bytes=5-", if_range=TRUE_DATE).code == 206
    assert ask(range="bytes=5-", if_range='"abd"').code == 200
    assert ask(range="bytes=5-", if_range=formatdate(1_600_000_000, usegmt=True)).code == 200


@given(st.text(), st.text(), st.text(), st.text(), st.integers(0, 5))
def test_nonsense(none_match: str, since: str, wanted: str, if_range: str, size: int) -> None:
    """Whatever is asked, what is answered is inside the file."""
    got = answer(File(size, 1, "t"), Asked(none_match, since, wanted, if_range))
    assert got.start >= 0 and got.start + got.length <= size
