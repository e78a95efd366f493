"""What a file's answer is to a request with conditions and ranges (RFC 9110, 13 and 14). Pure."""

import re
from dataclasses import dataclass, field
from email.utils import formatdate, mktime_tz, parsedate_tz

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """What there is."""

    size: int
    modified: int  # Unix time; another for other content.
    tag: str  # Another for other content; without quotation marks.


@dataclass(frozen=True)
class Asked:
    """The headers of a request that matter; "": it has none."""

    none_match: str = ""
    modified_since: str = ""
    range: str = ""
    if_range: str = ""


@dataclass(frozen=True)
class Answer:
    """What to answer: of the file, `length` bytes from `start` on."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)
    start: int = 0
    length: int = 0


def answer(file: File, asked: Asked) -> Answer:
    """The answer to a GET or HEAD.

    By date, only who has the very date of the file has the file: a suite may have been put back to an older state.
    """
    headers = {"ETag": f'"{file.tag}"', "Last-Modified": formatdate(file.modified, usegmt=True)}
    if _has_it(file, asked):
        return Answer(304, headers)
    headers["Accept-Ranges"] = "bytes"
    part = _part(file, asked, headers)
    if part is None:
        return Answer(200, headers, 0, file.size)
    start, length = part
    if length <= 0:
        return Answer(416, {"Content-Range": f"bytes */{file.size}"})
    headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{file.size}"
    return Answer(206, headers, start, length)


def _has_it(file: File, asked: Asked) -> bool:
    """Whether the client has this very content."""
    if asked.none_match:
        tags = [tag.strip().removeprefix("W/") for tag in asked.none_match.split(",")]
        return "*" in tags or f'"{file.tag}"' in tags
    return _date(asked.modified_since) == file.modified


def _part(file: File, asked: Asked, headers: dict[str, str]) -> tuple[int, int] | None:
    """First byte and number of bytes of the range asked for, none of them where it is outside; None: the whole file.

    Several ranges at once are answered with the whole, as is allowed: nobody who fetches packages asks for them.
    """
    match = _RANGE.fullmatch(asked.range)
    if match is None or asked.if_range not in ("", headers["ETag"], headers["Last-Modified"]):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), file.size) if last else -1
        return None if length < 0 else (file.size - length, length)
    if last and int(last) < int(first):
        return None
    end = min(int(last) + 1, file.size) if last else file.size
    return int(first), end - int(first)


def _date(text: str) -> float | None:
    try:
        parsed = parsedate_tz(text)
        return None if parsed is None else mktime_tz(parsed)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
