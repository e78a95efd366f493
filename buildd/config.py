"""buildd.conf, the environment and the command line, read once at start into one frozen BuilddConfig.

What wins: the command line, then the environment (``DEBFARM_BUILDD_PORT`` sets ``port``), then the file, then the
default. Every mistake in all of them is reported at once.
"""

import configparser
import difflib
import os
import re
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Final

from buildd.protocol import DEFAULT_PORT, ProtocolError, parse_architecture

ENVIRONMENT_PREFIX: Final = "DEBFARM_BUILDD_"
OPTION_NAMES: Final = {"directory": "dir", "allow_root": "allow-root"}  # Where they differ from the key's name.
# Options of the program itself rather than keys of the file, for service.py.
ENVIRONMENT_OPTIONS: Final = frozenset({"CONFIG"})

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?", re.ASCII)
_DURATION_UNITS_S = (86400, 3600, 60, 1)
_SIZE = re.compile(r"(\d+)([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_LABEL_MAX = 100


class ConfigError(Exception):
    """The configuration has mistakes; each is one line that names file, section and key."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def parse_duration(text: str) -> float:
    """Seconds in a human duration: ``3h``, ``90m``, ``150min``, ``45s``, ``1h30m``.

    :raises ValueError: it is none, or it is zero.
    """
    match = _DURATION.fullmatch(text.replace(" ", "").lower())
    parts = [int(part or 0) for part in match.groups()] if match else []
    seconds = sum(part * unit for part, unit in zip(parts, _DURATION_UNITS_S, strict=False))
    if not seconds:
        raise ValueError("is not a duration; write one like 3h, 90m, 45s or 1h30m")
    return float(seconds)


def parse_size(text: str) -> int:
    """Bytes in a human size: ``10G``, ``500M``, ``64K`` (powers of 1024), or plain bytes.

    :raises ValueError: it is none.
    """
    match = _SIZE.fullmatch(text.replace(" ", ""))
    if not match:
        raise ValueError("is not a size; write one like 10G, 500M or 64K")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


def parse_port(text: str) -> int:
    """A TCP port; 0 lets the kernel choose a free one."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError("is not a port")
    return int(text)


def parse_flag(text: str) -> bool:
    """``yes`` or ``no``, or one of their usual synonyms."""
    try:
        return configparser.ConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError("is neither yes nor no") from None


def parse_label(text: str) -> str:
    """One line that names this builder in logs; the host's name when empty."""
    if not text:
        return socket.gethostname()
    if len(text) > _LABEL_MAX or not text.isprintable():
        raise ValueError(f"is not one printable line of at most {_LABEL_MAX} characters")
    return text


def parse_host(text: str) -> str:
    """An address of this machine to listen on; empty means all of them."""
    if text and not re.fullmatch(r"[A-Za-z0-9.:%_-]+", text):
        raise ValueError("is not an address or a host name")
    return text


def parse_directory(text: str) -> Path:
    """An absolute path."""
    path = Path(text).expanduser()
    if "\0" in text or not path.is_absolute():
        raise ValueError("is not an absolute path")
    return path


def parse_jobs(text: str) -> int:
    """A number of processes; as many as this process may use processors when empty."""
    if not text:
        return len(os.sched_getaffinity(0))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise ValueError("is not a number of processes from 1 to 1024")
    return int(text)


def parse_proxy(text: str) -> str:
    """An http URL, or nothing. It is going to stand in quotes in a configuration of apt's."""
    if text and not re.fullmatch(r"https?://[A-Za-z0-9._~:/@%\[\]-]+", text, re.ASCII):
        raise ValueError("is not the URL of a proxy")
    return text


def parse_own_architecture(text: str) -> str:
    """A Debian architecture; dpkg's own when empty."""
    try:
        return parse_architecture(text or _dpkg_architecture())
    except ProtocolError:
        raise ValueError("is not a Debian architecture") from None


@cache
def _dpkg_architecture() -> str:
    command = ["dpkg", "--print-architecture"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError) as exc:
        raise ValueError(f"is empty, and dpkg cannot tell the architecture: {exc}") from exc


def _key(section: str, name: str, default: str, parse: Callable[[str], Any]) -> Any:
    """A field of BuilddConfig that is a key of the file. The default is written as in the file."""
    return field(
        default_factory=lambda: parse(default),
        metadata={"section": section, "name": name, "default": default, "parse": parse},
    )


@dataclass(frozen=True, kw_only=True)
class BuilddConfig:
    """The daemon's configuration. What each key means is written in buildd.conf."""

    label: str = _key("builder", "label", "", parse_label)
    host: str = _key("builder", "host", "127.0.0.1", parse_host)
    port: int = _key("builder", "port", str(DEFAULT_PORT), parse_port)
    architecture: str = _key("builder", "architecture", "", parse_own_architecture)
    directory: Path = _key("builder", "directory", "/var/lib/debfarm-buildd", parse_directory)  # noqa: RUF009
    allow_root: bool = _key("builder", "allow_root", "no", parse_flag)

    timeout_s: float = _key("limits", "timeout", "3h", parse_duration)
    silence_s: float = _key("limits", "silence", "150m", parse_duration)
    abort_timeout_s: float = _key("limits", "abort", "120s", parse_duration)
    log_limit_bytes: int = _key("limits", "log_size", "256M", parse_size)
    request_body_bytes: int = _key("limits", "request_body", "16M", parse_size)
    connect_timeout_s: float = _key("limits", "download_connect", "30s", parse_duration)
    stall_timeout_s: float = _key("limits", "download_stall", "60s", parse_duration)
    download_timeout_s: float = _key("limits", "download", "1h", parse_duration)
    collect_timeout_s: float = _key("limits", "collect", "10m", parse_duration)
    cache_limit_bytes: int = _key("limits", "cache_size", "20G", parse_size)
    free_floor_bytes: int = _key("limits", "free_space", "1G", parse_size)

    jobs: int = _key("binarypackage", "jobs", "", parse_jobs)
    apt_proxy: str = _key("binarypackage", "apt_proxy", "", parse_proxy)


@dataclass(frozen=True)
class Key:
    """A key of buildd.conf."""

    attribute: str  # Of BuilddConfig.
    section: str
    name: str
    default: str
    parse: Callable[[str], Any]

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()


def keys() -> tuple[Key, ...]:
    """Every key there is, in the order of the file."""

    def key(of: Field[Any]) -> Key:
        return Key(attribute=of.name, **of.metadata)

    return tuple(key(of) for of in fields(BuilddConfig))


@dataclass(frozen=True)
class _Value:
    """A value as written, and where, as a mistake names it."""

    text: str
    place: str


def read_config(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> BuilddConfig:
    """Read the configuration.

    :param path: buildd.conf; None for none.
    :param environment: variables of the process; those without our prefix are ignored.
    :param options: from the command line: name of a key to its value as written.
    :raises ConfigError: something in it is wrong; it lists everything that is.
    """
    mistakes: list[str] = []
    written = _from_file(path, mistakes) if path else {}
    written |= _from_environment(environment or {}, mistakes)
    written |= {name: _Value(text, f"--{OPTION_NAMES.get(name, name)}") for name, text in (options or {}).items()}
    values: dict[str, Any] = {}
    for key in keys():
        value = written.get(key.name, _Value(key.default, f"default: [{key.section}] {key.name}"))
        try:
            values[key.attribute] = key.parse(value.text.strip())
        except ValueError as exc:
            mistakes.append(f"{value.place}: {value.text!r} {exc}")
    if mistakes:
        raise ConfigError(mistakes)
    return BuilddConfig(**values)


def _from_file(path: Path, mistakes: list[str]) -> dict[str, _Value]:
    """The values of the file by key name; what is not a key goes to mistakes."""
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", strict=True)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        mistakes.append(f"{path}: cannot be read: {reason}")
        return {}
    except configparser.Error as exc:
        mistakes.append(f"{path.name}: {' '.join(exc.message.replace('<string>', 'the file').split())}")
        return {}
    known = {(key.section, key.name) for key in keys()}
    sections = sorted({key.section for key in keys()})
    values: dict[str, _Value] = {}
    for section in parser.sections():
        if section not in sections:
            mistakes.append(f"{path.name}: [{section}]: no such section{_near(section, sections)}")
            continue
        for name, text in parser.items(section):
            place = f"{path.name}: [{section}] {name}"
            if (section, name) in known:
                values[name] = _Value(text, place)
            else:
                mistakes.append(f"{place}: no such key{_near_key(name)}")
    return values


def _from_environment(environment: Mapping[str, str], mistakes: list[str]) -> dict[str, _Value]:
    by_variable = {key.variable: key.name for key in keys()}
    values: dict[str, _Value] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable[len(ENVIRONMENT_PREFIX) :] in ENVIRONMENT_OPTIONS:
            continue
        if variable in by_variable:
            values[by_variable[variable]] = _Value(text, f"environment: {variable}")
        else:
            mistakes.append(f"environment: {variable}: no such variable{_near(variable, list(by_variable))}")
    return values


def _near(word: str, words: list[str]) -> str:
    """A suggestion for a word that is none of these, or nothing."""
    close = difflib.get_close_matches(word, words, n=1)
    return f"; do you mean {close[0]}?" if close else ""


def _near_key(name: str) -> str:
    """A suggestion for a key: one of the same name in another section, or of a similar name."""
    sections = {key.name: key.section for key in keys()}
    close = difflib.get_close_matches(name, list(sections), n=1)
    return f"; do you mean [{sections[close[0]]}] {close[0]}?" if close else ""
