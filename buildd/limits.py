"""What a build may use: from buildd.conf, and less of it where the build's own arguments say so."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from buildd.config import BuilddConfig
from buildd.protocol import ProtocolError


class Limit(StrEnum):
    """Why we ended a command, or why it failed; its value is the sentence that the log shows."""

    WALL_TIME = "it ran longer than the time limit for a build"
    SILENCE = "it wrote nothing to the log for too long"
    LOG_SIZE = "its log grew over the size limit"
    LOG_ERROR = "its log could not be written"
    MEMORY = "it needed more memory than a build may use"
    PROCESSES = "it needed more processes than a build may have"
    DISK = "it took more of the disk than a build may"
    OPEN_FILES = "it needed more open files than a process may have"
    DISK_FULL = "the builder's disk is full"
    MACHINE_MEMORY = "the builder ran out of memory, and its kernel ended a process of the build"

    @property
    def blames_builder(self) -> bool:
        """The package may be innocent."""
        return self in (Limit.LOG_ERROR, Limit.DISK_FULL, Limit.MACHINE_MEMORY)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one build may use, all its processes together."""

    memory_bytes: int  # Swap included.
    processes: int  # Threads as well.
    disk_bytes: int
    open_files: int  # Of each process.
    wall_s: float
    silence_s: float
    log_bytes: int

    def allowed(self, limit: Limit) -> str:
        """How much a limit allows, in words; empty where there is no number."""
        return {
            Limit.WALL_TIME: duration(self.wall_s),
            Limit.SILENCE: duration(self.silence_s),
            Limit.LOG_SIZE: size(self.log_bytes),
            Limit.MEMORY: size(self.memory_bytes),
            Limit.PROCESSES: str(self.processes),
            Limit.DISK: size(self.disk_bytes),
            Limit.OPEN_FILES: str(self.open_files),
        }.get(limit, "")


# The keys of the argument `limits`, and what they limit.
_KEYS = {
    "memory": "memory_bytes",
    "processes": "processes",
    "disk": "disk_bytes",
    "open_files": "open_files",
    "timeout": "wall_s",
    "silence": "silence_s",
    "log_size": "log_bytes",
}
assert set(_KEYS.values()) == {field.name for field in fields(Limits)}


def configured_limits(config: BuilddConfig) -> Limits:
    """What buildd.conf allows every build."""
    return Limits(
        memory_bytes=config.memory_bytes,
        processes=config.processes,
        disk_bytes=config.disk_bytes,
        open_files=config.open_files,
        wall_s=config.timeout_s,
        silence_s=config.silence_s,
        log_bytes=config.log_limit_bytes,
    )


def parse_limits(arguments: Mapping[str, object], most: Limits) -> Limits:
    """Take the argument `limits` of a build, whatever its type: of each limit the smaller counts.

    :param most: what buildd.conf allows.
    :raises ProtocolError: a value is no whole number from 1, or a key is none; a limit that nobody keeps is no limit.
    """
    asked = arguments.get("limits")
    if asked is None:
        return most
    if not isinstance(asked, Mapping):
        raise ProtocolError("limits must be a struct")
    limits: dict[str, Any] = {}
    for key, value in asked.items():
        if key not in _KEYS:
            raise ProtocolError(f"limits has no {str(key)[:40]!r}; there are {', '.join(_KEYS)}")
        name = _KEYS[key]
        limits[name] = min(_parse_count(value, f"limits: {key}"), getattr(most, name))
    return replace(most, **limits)


def _parse_count(value: object, what: str) -> int:
    """XML-RPC's own integers have 32 bits, which is little for bytes: digits in a string are as good."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ProtocolError(f"{what} must be a whole number from 1, or a string of its digits, not {str(value)[:40]!r}")


def size(number: int) -> str:
    """A number of bytes, as people write it."""
    for unit, name in ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if number >= unit:
            return f"{number / unit:.4g}{name}"
    return f"{number}"


def duration(seconds: float) -> str:
    """A span of time, as people write it in buildd.conf."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number:g}{unit}" for number, unit in parts if number) or "0s"
