"""How builds are to be done."""

import pytest

from buildd.limits import Limits, parse_limits
from buildd.protocol import parse_binarypackage_arguments
from buildmaster import orders, wishes
from buildmaster.farm import Farm
from buildmaster.tests.factories import make_build, make_series
from buildmaster.wishes import Wishes, WishesRefused

MOST = Limits(
    memory_bytes=1 << 60,
    processes=10**9,
    disk_bytes=1 << 60,
    open_files=10**9,
    wall_s=1e9,
    silence_s=1e9,
    log_bytes=1 << 60,
)
EVERY = {"memory": 2 << 30, "disk": 10 << 30, "log_size": 5 << 20, "processes": 100, "open_files": 64}
EVERY |= {"timeout": 5400, "silence": 1}


def every() -> Wishes:
    limits = [
        "memory=2G",
        "disk=10G",
        "log_size=5M",
        "processes=100",
        "open_files=64",
        "timeout=1h30m",
        "silence=200ms",
    ]
    return wishes.parse("direct", ["nocheck", "nodoc"], ["parallel=2", "noddebs"], limits)


def test_kept_and_found_again() -> None:
    """What was said comes out of the database as it went in; nothing is nothing."""
    assert Wishes.from_text(every().to_text()) == every()
    assert dict(every().limits) == EVERY
    assert (wishes.NONE.to_text(), Wishes.from_text("")) == ("", wishes.NONE)


def test_a_daemon_takes_it(farm: Farm) -> None:
    """What dispatch sends is what the daemon's own parsers take, with every limit in force."""
    make_series(farm)
    build_id = make_build(farm, wishes=every())
    with farm.reading() as connection:
        wire = orders.find(connection, build_id).wire_arguments()
    taken = parse_binarypackage_arguments(wire, "amd64")
    assert (taken.package_builder, taken.build_profiles) == ("direct", ("nocheck", "nodoc"))
    assert taken.build_options == ("parallel=2", "noddebs")
    limits = parse_limits(wire, MOST)
    found = (limits.memory_bytes, limits.disk_bytes, limits.log_bytes, limits.processes, limits.open_files)
    assert (*found, limits.wall_s, limits.silence_s) == tuple(EVERY.values())


def test_nothing_said(farm: Farm) -> None:
    """Where nothing was said nothing is sent: a stock daemon gets what it knows."""
    make_series(farm)
    build_id = make_build(farm)
    with farm.reading() as connection:
        wire = orders.find(connection, build_id).wire_arguments()
    assert not wire.keys() & {"package_builder", "build_profiles", "build_options", "limits"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"package_builder": "make"}, "is one of sbuild, direct, not 'make'"),
        ({"profiles": ["a b"]}, "build_profiles: not a word"),
        ({"options": ["parallel=0"]}, "build_options: not a word"),
        ({"options": ["$(id)"]}, "build_options: not a word"),
        ({"limits": ["memory"]}, "limit memory: '' is not a size"),
        ({"limits": ["memory=0"]}, "must be more than nothing"),
        ({"limits": ["timeout=10"]}, "limit timeout: '10' is not a duration"),
        ({"limits": ["processes=-1"]}, "is not a whole number"),
        ({"limits": ["colour=red"]}, "there is no limit 'colour'; there are memory"),
    ],
)
def test_what_no_daemon_takes(words: dict[str, object], message: str) -> None:
    """Refused here, and not by the builder, which would be blamed for it."""
    with pytest.raises(WishesRefused, match=message):
        wishes.parse(**words)  # type: ignore[arg-type]
