"""A configuration file into a frozen dataclass: each key is declared once, and all mistakes are reported together.

A dataclass declares its keys with :func:`key`; :func:`read` fills it from an INI file. Pure but for reading that one
file, standard library only, and nothing of the master in it.
"""

import configparser
import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d)\s*)+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", re.ASCII)


class ConfigError(ValueError):
    """A configuration file cannot be used; the message has one line a mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


def parse_duration(text: str) -> float:
    """Seconds in a human duration: ``3h``, ``1h30m``, ``0.5s``, ``200ms``, or a plain number of seconds.

    :raises ValueError: it is none, or not more than nothing.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(count) * _DURATION_UNITS[unit] for count, unit in _DURATION_PART.findall(text))
    else:
        raise ValueError(f"{text!r} is not a duration such as 90m or 3h")
    if not seconds:
        raise ValueError(f"{text!r} must be more than nothing")
    return seconds


def parse_size(text: str) -> int:
    """Bytes in a human size; units are powers of 1024: ``500M``, ``10G``, ``1.5 GiB``, or plain bytes.

    :raises ValueError: it is none, or not more than nothing.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size such as 500M or 10G")
    size = int(float(match[1]) * 1024 ** _SIZE_POWERS[match[2].lower()])
    if not size:
        raise ValueError(f"{text!r} must be more than nothing")
    return size


def parse_port(text: str) -> int:
    """A TCP port; 0 lets the system choose a free one.

    :raises ValueError: it is none.
    """
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise ValueError(f"{text!r} is not a port")


def parse_count(text: str) -> int:
    """A whole number from 1.

    :raises ValueError: it is none.
    """
    if text.isascii() and text.isdigit() and 0 < int(text) < 10**9:
        return int(text)
    raise ValueError(f"{text!r} is not a number from 1")


def parse_host(text: str) -> str:
    """A host's name or address.

    :raises ValueError: it cannot be one.
    """
    if _HOST.fullmatch(text):
        return text
    raise ValueError(f"{text!r} is not a host name or address")


def parse_url(text: str) -> str:
    """An http or https URL with a host; a slash at its end is taken off.

    :raises ValueError: it is none.
    """
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not a URL such as http://farm.example:8220")
    return text.rstrip("/")


def parse_path(text: str) -> Path:
    """A path; ``~`` is the home directory."""
    return Path(text).expanduser()


def key(section: str, name: str, parse: Callable[[str], Any], default: T) -> T:
    """Declare a field of a configuration dataclass: where it stands in the file, and how its text is read.

    :param parse: raises ValueError with a message that holds the value; it never sees an empty value, which means the
        default.
    """
    field: T = dataclasses.field(default=default, metadata={"section": section, "name": name, "parse": parse})
    return field


def read(settings: type[T], path: Path | None) -> T:
    """Fill a dataclass whose fields are made by :func:`key`.

    :param path: the file; None: every field has its default.
    :raises ConfigError: it cannot be read, is no INI file, has a section or key that does not exist, or bad values.
    """
    if path is None:
        return settings()
    mistakes: list[str] = []
    values: dict[str, object] = {}
    given = _parse_ini(path)
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        section, name, parse = field.metadata["section"], field.metadata["name"], field.metadata["parse"]
        text = given.get(section, {}).pop(name, "")
        if not text:
            continue
        try:
            values[field.name] = parse(text)
        except ValueError as error:
            mistakes.append(f"{path.name}: [{section}] {name}: {error}")
    mistakes += _strangers(settings, given, path.name)
    if mistakes:
        raise ConfigError(mistakes)
    return settings(**values)


def _strangers(settings: type[Any], left: Mapping[str, Mapping[str, str]], file_name: str) -> list[str]:
    """A mistake for each section and key that no field has taken."""
    known = {field.metadata["section"] for field in dataclasses.fields(settings)}
    mistakes = []
    for section, keys in left.items():
        if section not in known:
            mistakes.append(f"{file_name}: [{section}]: there is no such section")
        else:
            mistakes += [f"{file_name}: [{section}] {name}: there is no such key" for name in keys]
    return mistakes


def _parse_ini(path: Path) -> dict[str, dict[str, str]]:
    """Section to key to text.

    :raises ConfigError: the file cannot be read, or is no INI file.
    """
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file, source=path.name)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path.name}: is not text in UTF-8"]) from error
    except configparser.DuplicateSectionError as error:
        raise ConfigError([f"{path.name}: [{error.section}]: is there twice"]) from error
    except configparser.DuplicateOptionError as error:
        raise ConfigError([f"{path.name}: [{error.section}] {error.option}: is there twice"]) from error
    except configparser.MissingSectionHeaderError as error:
        raise ConfigError([f"{path.name}: line {error.lineno} stands before the first [section]"]) from error
    except configparser.ParsingError as error:
        lines = [f"{path.name}: line {number} is not KEY = VALUE: {text}" for number, text in error.errors]
        raise ConfigError(lines) from error
    return {section: dict(parser.items(section)) for section in parser.sections()}
