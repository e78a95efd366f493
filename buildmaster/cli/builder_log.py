"""The log of a build that runs, from its builder.

The copy that grows is on the machine of the master that holds the builder. Where several masters share a farm that may
be any, so there the builder itself is asked.
"""

import time
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path

from buildmaster.builder_answers import parse_status
from buildmaster.builder_client import ANSWER_LIMIT_BYTES
from buildmaster.builder_http import BuilderError
from buildmaster.cli.asking import NoAnswer, answer_of, call
from buildmaster.cli.group import Refusal
from buildmaster.cli.growing import Attempt, GrowingLog
from buildmaster.cli.text import one_line

_TIMEOUT_S = 5.0
_AT_ONCE_BYTES = 1 << 20
_PAUSE_S = 1.0  # Between two questions, when there was nothing new;
_TROUBLE_S = 5.0  # and when there was no answer.


class BuilderLog(GrowingLog):
    """Reads what the builder that has a build has of its log; the copy on this machine, as long as none answers."""

    def __init__(self, copy: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(copy)
        self._attempt: Attempt | None = None
        self._heard = False  # Something that was read came from the builder.
        self._clock = clock
        self._not_before = 0.0

    def look_at(self, attempt: Attempt | None) -> bool:
        if attempt is None or attempt == self._attempt:
            return False
        again = self._attempt is not None and self._read > 0
        self._attempt, self._not_before = attempt, 0.0
        if again:
            self._heard = False
            self.begin_again()
        return again

    def _more(self) -> bytes:
        if self._attempt is not None and self._clock() >= self._not_before:
            try:
                return self._ask(self._attempt)
            except (Refusal, BuilderError) as error:
                self.trouble = error.message if isinstance(error, Refusal) else str(error)
                self._not_before = self._clock() + _TROUBLE_S
        return super()._more() if self.trouble and not self._heard else b""

    def _ask(self, attempt: Attempt) -> bytes:
        data = more_of(attempt, self._read)
        self.trouble, self._heard = "", self._heard or bool(data)
        self._not_before = 0.0 if data else self._clock() + _PAUSE_S
        return data


def more_of(attempt: Attempt, offset: int) -> bytes:
    """What a builder has of a build's log from an offset on, or a part of that; b"" when that is nothing, or when it is
    not at this build.

    :raises Refusal: it does not answer, or is no build daemon.
    :raises BuilderError: it answers something else.
    """
    if not _has_it(attempt):
        return b""
    data = _part(attempt.url, offset)
    return data if data and _has_it(attempt) else b""  # It may have begun another meanwhile.


def _has_it(attempt: Attempt) -> bool:
    return parse_status(call(f"{attempt.url}rpc", "status", _TIMEOUT_S, ANSWER_LIMIT_BYTES)).build_id == attempt.cookie


def _part(url: str, offset: int) -> bytes:
    url = f"{url}filecache/buildlog"
    with answer_of(url, _TIMEOUT_S, "GET", None, {"Range": f"bytes={offset}-"}) as response:
        if response.status in (404, 416):
            return b""
        if response.status not in (200, 206):
            raise NoAnswer(f"{url} answers {response.status} {one_line(response.reason)}")
        skip = offset if response.status == 200 else 0  # It knows no ranges.
        return _read(response, skip)


def _read(response: HTTPResponse, skip: int) -> bytes:
    """What comes in a while, but for so many bytes at its beginning."""
    parts, size, deadline = [], 0, time.monotonic() + _TIMEOUT_S
    while size < _AT_ONCE_BYTES and time.monotonic() < deadline and (data := response.read1(1 << 16)):
        skipped, data = min(skip, len(data)), data[skip:]
        skip -= skipped
        parts.append(data)
        size += len(data)
    return b"".join(parts)
