"""What a build may use, and what its arguments may say of that."""

from dataclasses import replace
from typing import Any

import pytest

from buildd.config import read_config
from buildd.limits import Limit, configured_limits, duration, parse_limits, size
from buildd.protocol import ProtocolError
from buildd.settings import parse_duration

MOST = configured_limits(read_config(None, {"DEBFARM_BUILDD_MEMORY": "8G"}))


def test_every_limit_is_configured() -> None:
    """Each key of buildd.conf that limits a build is one of its limits."""
    keys = {"memory": "2G", "processes": "50", "disk": "3G", "open_files": "60", "timeout": "1h", "silence": "1m"}
    environment = {f"DEBFARM_BUILDD_{name.upper()}": text for name, text in keys.items()}
    limits = configured_limits(read_config(None, environment | {"DEBFARM_BUILDD_LOG_SIZE": "1M"}))
    assert (limits.memory_bytes, limits.processes, limits.disk_bytes) == (2 << 30, 50, 3 << 30)
    assert (limits.open_files, limits.wall_s, limits.silence_s, limits.log_bytes) == (60, 3600, 60, 1 << 20)


def test_memory_is_limited_without_being_asked_for() -> None:
    """Without a word on memory a build gets less than the machine has."""
    limits = configured_limits(read_config())
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
        kilobytes = {line.split()[0]: int(line.split()[1]) for line in file}
    assert 0 < limits.memory_bytes < (kilobytes["MemTotal:"] + kilobytes["SwapTotal:"]) << 10


def test_a_build_may_have_less_than_the_configuration_says_and_not_more() -> None:
    """Of each limit the smaller counts; what is not named stays."""
    asked = {"memory": 1 << 20, "processes": 10**6, "timeout": 60, "disk": str(1 << 33)}
    assert parse_limits({"limits": asked}, MOST) == replace(MOST, memory_bytes=1 << 20, wall_s=60, disk_bytes=1 << 33)
    assert parse_limits({}, MOST) == parse_limits({"limits": None}, MOST) == MOST


@pytest.mark.parametrize(
    "asked",
    [
        [],
        "1G",
        {"memory": "1G"},
        {"memory": 0},
        {"memory": -1},
        {"memory": True},
        {"memory": 1.5},
        {"memory": None},
        {"memory": "٣"},
        {"memory": "9" * 100},
        {"memroy": 1},
    ],
)
def test_a_limit_that_is_none_is_refused(asked: Any) -> None:
    """Not taken for no limit: nobody would notice."""
    with pytest.raises(ProtocolError, match="limits"):
        parse_limits({"limits": asked}, MOST)


def test_a_limit_is_told_with_its_number() -> None:
    """As people write it."""
    assert MOST.allowed(Limit.MEMORY) == "8G"
    assert MOST.allowed(Limit.LOG_ERROR) == ""
    assert [size(number) for number in (5, 1536, 1 << 20, 3 << 29, 1 << 40)] == ["5", "1.5K", "1M", "1.5G", "1T"]


@pytest.mark.parametrize("text", ["3h", "2h30m", "1h5s", "90s", "0.5s", "1m"])
def test_a_duration_is_told_as_it_is_configured(text: str) -> None:
    """Not in thousands of seconds."""
    assert duration(parse_duration(text)) == {"90s": "1m30s"}.get(text, text)
