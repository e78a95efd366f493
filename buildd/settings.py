"""Configuration files into frozen dataclasses: each key is declared once, and all mistakes are told together.

A dataclass declares its keys with :func:`key`; :func:`read` fills it. What wins: the command line, then the
environment, then the file, then the default. Standard library only, and nothing of the daemon: the master reads its own
file with it.

The parsers raise ValueError with the rest of the sentence that begins with the value: "is not a port".
"""

import configparser
import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, TypeVar
from urllib.parse import urlsplit

_DURATION = re.compile(
    r"(?:(\d{1,9})\s*d)?\s*(?:(\d{1,9})\s*h)?\s*(?:(\d{1,9})\s*m(?:in)?)?\s*"
    r"(?:(\d{1,9}(?:\.\d{1,9})?)\s*s)?\s*(?:(\d{1,9})\s*ms)?",
    re.ASCII | re.IGNORECASE,
)
_DURATION_UNITS_S: Final = (86400, 3600, 60, 1, 0.001)
_DURATION_MAX_D: Final = 1000  # Clocks and sockets take no number whatever.
_SIZE = re.compile(r"(\d{1,15})\s*(?:([KMGT])i?)?B?", re.ASCII | re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_COUNT_MAX: Final = 10**9 - 1


class ConfigError(Exception):
    """The configuration has mistakes; each is one line that names file, section, key and value."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


# --- values


def parse_duration(text: str) -> float:
    """Seconds in a human duration: ``3h``, ``90m``, ``150min``, ``45s``, ``1h30m``, ``0.5s``, ``200ms``.

    A number alone is none: nobody could say whether it means seconds.

    :raises ValueError: it is none, or it is zero.
    """
    match = _DURATION.fullmatch(text)
    parts = [float(part or 0) for part in match.groups()] if match else []
    seconds = sum(part * unit for part, unit in zip(parts, _DURATION_UNITS_S, strict=False))
    if not seconds:
        raise ValueError("is not a duration; write one like 3h, 90m, 45s or 1h30m")
    if seconds > _DURATION_MAX_D * 86400:
        raise ValueError(f"is a duration of more than {_DURATION_MAX_D} days")
    return seconds


def parse_size(text: str) -> int:
    """Bytes in a human size: ``10G``, ``500M``, ``64K`` (powers of 1024), or plain bytes.

    :raises ValueError: it is none.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("is not a size; write one like 10G, 500M or 64K")
    return int(match[1]) << 10 * " KMGT".index((match[2] or " ").upper())


def parse_limit(text: str) -> int:
    """A size that leaves room for something.

    :raises ValueError: it is no size, or zero.
    """
    size = parse_size(text)
    if not size:
        raise ValueError("must be more than nothing")
    return size


def parse_port(text: str) -> int:
    """A TCP port; 0 lets the system choose a free one."""
    if re.fullmatch(r"\d{1,5}", text, re.ASCII) and int(text) <= 65535:
        return int(text)
    raise ValueError("is not a port")


def parse_count(text: str, most: int = _COUNT_MAX) -> int:
    """A whole number from 1."""
    if re.fullmatch(r"\d{1,9}", text, re.ASCII) and 1 <= int(text) <= most:
        return int(text)
    raise ValueError(f"is not a whole number from 1 to {most}")


def parse_flag(text: str) -> bool:
    """``yes`` or ``no``, or one of their usual synonyms."""
    try:
        return configparser.ConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError("is neither yes nor no") from None


def parse_host(text: str) -> str:
    """A host's name or address; one of IPv6 without brackets."""
    try:
        if _NAME.fullmatch(text) or ipaddress.IPv6Address(text):
            return text
    except ValueError:
        pass
    raise ValueError("is not a host name or address")


def parse_url(text: str) -> str:
    """An http or https URL with a host, a slash at its end taken off; nothing when empty."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if text and (not good or not text.isprintable() or " " in text or parts.query or parts.fragment):
        raise ValueError("is not a URL such as http://farm.example:8220")
    return text.rstrip("/")


def parse_path(text: str) -> Path:
    """A path; ``~`` is the home directory."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError("is not a path: nobody knows that home directory") from None
    if "\0" in text:
        raise ValueError("is not a path")
    return path


# --- declaring keys

T = TypeVar("T")


def key(
    section: str,
    name: str,
    default: str,
    parse: Callable[[str], T],
    *,
    empty: str | None = None,
    option: str | None = None,
) -> T:
    """Declare a field of a configuration dataclass.

    :param name: of the key, lower-case. Where :func:`read` is given an environment or options, no two sections may have
        a key of the same name.
    :param default: written as in the file, and parsed like that.
    :param empty: what an empty value stands for, where that is not the default.
    :param option: of the command line, where that is not ``--name``.
    """
    metadata = {
        "section": section,
        "name": name,
        "default": default,
        "parse": parse,
        "empty": default if empty is None else empty,
        "option": option or f"--{name.replace('_', '-')}",
    }
    return field(default_factory=lambda: parse(default), metadata=metadata)


class Settings(Protocol):
    """A dataclass, each of whose fields is made by :func:`key`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Key:
    """A key, as it was declared."""

    attribute: str  # Of the dataclass.
    section: str
    name: str
    default: str
    parse: Callable[[str], Any]
    empty: str
    option: str


def keys(settings: type[Settings]) -> tuple[Key, ...]:
    """Every key there is, in the order of their declaration."""
    return tuple(Key(attribute=of.name, **of.metadata) for of in fields(settings))


# --- reading


@dataclass(frozen=True)
class _Written:
    """A value as it was written, and where, as a mistake names it."""

    text: str
    place: str


def read(
    settings: type[S],
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    prefix: str = "",
    options: Mapping[str, str] | None = None,
) -> S:
    """Fill a dataclass whose fields are made by :func:`key`.

    :param path: the file; None for none.
    :param environment: variables, of which those that begin with the prefix set a key each (PREFIX + NAME).
    :param options: from the command line: name of a key to its value as written.
    :raises ConfigError: something is wrong; it lists everything that is.
    """
    known = keys(settings)
    mistakes: list[str] = []
    written = _from_file(path, known, mistakes) if path else {}
    written |= _from_environment(environment or {}, prefix, known, mistakes)
    by_name = {each.name: each for each in known}
    written |= {by_name[name]: _Written(text, by_name[name].option) for name, text in (options or {}).items()}
    values: dict[str, Any] = {}
    for each in known:
        value = written.get(each, _Written(each.default, f"default: [{each.section}] {each.name}"))
        text = value.text.strip()
        try:
            values[each.attribute] = each.parse(text or each.empty)
        except ValueError as exc:
            mistakes.append(f"{value.place}: {text!r} {exc}")
    if mistakes:
        raise ConfigError(mistakes)
    return settings(**values)


class _IniParser(configparser.ConfigParser):
    # The library's own takes "[section] key = value" for "[section]".
    SECTCRE = re.compile(r"\[(?P<header>[^\]]+)\]$")


def _from_file(path: Path, known: tuple[Key, ...], mistakes: list[str]) -> dict[Key, _Written]:
    """The values of the file; what is not a key goes to mistakes."""
    parser = _IniParser(interpolation=None, default_section="]")  # No section can be called so: there are no defaults.
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        parser.read_string(text)
    except OSError as exc:
        mistakes.append(f"{path}: cannot be read: {exc.strerror}")
    except UnicodeDecodeError:
        mistakes.append(f"{path.name}: is not text in UTF-8")
    except configparser.Error as exc:
        mistakes += [f"{path.name}: {mistake}" for mistake in _syntax_mistakes(exc, text.split("\n"))]
        return {}
    by_place = {(each.section, each.name): each for each in known}
    sections = sorted({each.section for each in known})
    values: dict[Key, _Written] = {}
    for section in parser.sections():
        if section not in sections:
            mistakes.append(f"{path.name}: [{section}]: no such section{_near(section, sections)}")
            continue
        for name, value in parser.items(section):
            place = f"{path.name}: [{section}] {name}"
            if (section, name) in by_place:
                values[by_place[section, name]] = _Written(value, place)
            else:
                mistakes.append(f"{place}: no such key{_near_key(section, name, known)}")
    return values


def _syntax_mistakes(error: configparser.Error, lines: list[str]) -> list[str]:
    """What is wrong with a file that is no INI file; a line each."""
    match error:
        case configparser.DuplicateSectionError():
            return [f"[{error.section}]: is there twice, again in line {error.lineno}"]
        case configparser.DuplicateOptionError():
            return [f"[{error.section}] {error.option}: is there twice, again in line {error.lineno}"]
        case configparser.MissingSectionHeaderError():
            return [f"line {error.lineno} stands before the first [section]: {lines[error.lineno - 1].strip()!r}"]
        case configparser.ParsingError():
            numbers = [number for number, _ in error.errors]
            return [f"line {number} is not KEY = VALUE: {lines[number - 1].strip()!r}" for number in numbers]
    return [" ".join(error.message.split())]


def _from_environment(
    environment: Mapping[str, str], prefix: str, known: tuple[Key, ...], mistakes: list[str]
) -> dict[Key, _Written]:
    by_variable = {prefix + each.name.upper(): each for each in known}
    values: dict[Key, _Written] = {}
    for variable, text in environment.items():
        if variable in by_variable:
            values[by_variable[variable]] = _Written(text, f"environment: {variable}")
        elif variable.startswith(prefix):
            mistakes.append(f"environment: {variable}: no such variable{_near(variable, list(by_variable))}")
    return values


def _near(word: str, words: list[str]) -> str:
    """A suggestion for a word that is none of these, or nothing."""
    close = difflib.get_close_matches(word, words, n=1)
    return f"; do you mean {close[0]}?" if close else ""


def _near_key(section: str, name: str, known: tuple[Key, ...]) -> str:
    """A suggestion for a key: one of the same or a similar name, if there is one in this section, else in another."""
    for close in difflib.get_close_matches(name, [each.name for each in known], n=1):
        sections = [each.section for each in known if each.name == close]
        return f"; do you mean [{section if section in sections else sections[0]}] {close}?"
    return ""
