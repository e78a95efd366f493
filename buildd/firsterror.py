"""The lines of a build's log that say first what went wrong. Pure.

A log is whatever a package wrote: lines of megabytes, bytes that are no text, other programs' errors quoted. It is
read once, line by line, and only some lines are kept. A sign costs a search for plain text, and a pattern only in a
line that has that text, which was cut before; no pattern has a repetition inside a repetition.

What counts is the last step that was begun, since those before it ended well; and what its tools wrote until the
failure was passed on: debhelper shows whole logs of configure then, full of errors that are none.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from buildd.protocol import Cause

LINE_MAX = 2000  # Bytes of a line that are looked at.
_KEPT_BEGIN, _KEPT_END = 220, 80  # Characters of a long line that is kept.
_NEAR = 200  # Lines.

# What debhelper and dpkg-buildpackage announce: "   dh_auto_build -a", " debian/rules binary"; make echoes it without
# the spaces when debian/rules calls it. And the daemon's own stages.
_STEP = re.compile(
    r"=== [a-z -]+ ===$"
    r"| {0,3}(?:fakeroot )?(?:debian/rules (?P<target>[a-z_-]+)|(?P<tool>(?:dh_|dpkg-)[a-z0-9_-]+)(?: |$))"
)
_AROUND_STEP = re.compile(r"^(?:override_|execute_before_|execute_after_)|-(?:arch|indep)$")
# The failure is passed on: by debhelper, dpkg-buildpackage, the daemon. unshare complains when what it waits for is
# killed from outside.
_OURS = ("BuildStatus.", "unshare: sigprocmask ")
_OVER = re.compile(
    r"BuildStatus\.|unshare: sigprocmask |dpkg-buildpackage: error: |\t(?:cd [^&]{1,500} && )?tail -v -n "
)
_PASSED_ON = re.compile(r"(?:make(?:\[\d+\])?|ninja|dh_auto\w+): ")
# Goes on with what the line before says: indented, or as compilers quote a source.
_GOES_ON = re.compile(r"\s|\||\d+ +\||Error: ")
_DIRECTORY = re.compile(r"make(?:\[\d+\])?: (?:Entering|Leaving) directory ")
_MARKS = re.compile(r"[\s^~]+$")  # Under a line of a traceback's.
_RULER = re.compile(r"[=-]{4,}$")
_HEADING = re.compile(r"[A-Z]{3,}: |[=-]{4,}$")
# automake shows under these words what a test wrote.
_SKIPPED = re.compile(r"(?:SKIP|XFAIL|PASS): ")
_WENT_WELL = re.compile(r"\b(?:ok|OK|PASS|PASSED|passed)\W{0,5}$")
_NOT_SKIPPED = re.compile(r"FAIL|ERROR|make")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]{0,30}[A-Za-z]")


@dataclass(frozen=True)
class Sign:
    """How an error looks in a log."""

    cause: Cause | None  # None: the step that failed tells.
    text: str  # Is in its line; and
    pattern: str = ""  # matches that line, from its beginning.
    more: int = 8  # So many lines after it are kept, as far as they go on with it;
    anything: bool = False  # or whatever they say.
    before: int = 0  # So many lines before it are kept,
    told_after: bool = False  # and come after it, which says more than they do.
    said_last: bool = False  # The line that ends it says what it is: that comes first.
    can_pass: bool = False  # A build that goes well may have it, too: it counts only near the end of what failed.

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def is_in(self, line: str) -> bool:
        """Whether a line is this error's."""
        return self.text in line and self._compiled.match(line) is not None


@dataclass(frozen=True)
class FirstError:
    """What a log says."""

    step: str  # What failed, such as "dh_auto_test", or a target of debian/rules; "" when nothing was announced.
    sign: Sign | None  # The first in the table that is there.
    lines: Sequence[str]  # Where it is, and what goes with it; without a sign, the last lines.


def first_error(lines: Iterable[bytes], signs: Sequence[Sign]) -> FirstError:
    """Find the error that ended a build.

    :param signs: the earlier in the table, the more it explains.
    """
    reader = _Reader(signs)
    for line in lines:
        reader.read(_text(line))
    for sign in signs:
        block = reader.blocks.get(sign)
        if block is not None and not (sign.can_pass and reader.number - block.number > _NEAR):
            return FirstError(reader.step, sign, block.lines)
    return FirstError(reader.step, None, list(reader.last))


def _text(line: bytes) -> str:
    """A line as a terminal would have it in the end: what a progress bar wrote over is gone, colours are."""
    line = line.rstrip(b"\r\n").rpartition(b"\r")[2]
    text = line[:LINE_MAX].decode(errors="replace")
    if len(line) > LINE_MAX:
        text = text.rstrip("\ufffd")  # Half a character.
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def _kept(line: str) -> str:
    """A line as it is kept: where it is long, its end often tells most."""
    if len(line) <= _KEPT_BEGIN + _KEPT_END:
        return line
    return f"{line[:_KEPT_BEGIN]} ... {line[-_KEPT_END:]}"


@dataclass
class _Block:
    """The lines of one error."""

    number: int  # Of the line that has the sign.
    lines: list[str]
    left: int  # Lines that may still come.
    anything: bool
    detailed: bool = False  # It is what was said under a heading.


@dataclass
class _Reader:
    """What is known of the step that the log is in."""

    signs: Sequence[Sign]
    step: str = ""
    number: int = 0  # Lines, until what failed was over.
    over: bool = False
    skipped: bool = False
    blocks: dict[Sign, _Block] = field(default_factory=dict)  # The first of each.
    open: Sign | None = None  # Its block may go on.
    seen: Sign | None = None  # In the line before this one.
    last: deque[str] = field(default_factory=lambda: deque(maxlen=6))

    def read(self, line: str) -> None:
        """Take the next line."""
        if (step := _STEP.match(line)) is not None:
            fresh = _Reader(self.signs, _AROUND_STEP.sub("", step["target"] or step["tool"] or ""))
            vars(self).update(vars(fresh))
            return
        if self.over:
            return
        self.number += 1
        self.over = _OVER.match(line) is not None
        if not self.over:
            self._continue_block(line)
            self._look(line)
        if line.strip() and not line.startswith(_OURS) and not _DIRECTORY.match(line):
            self.last.append(_kept(line))

    def _continue_block(self, line: str) -> None:
        """The line may belong to the error before it."""
        if self.open is None:
            return
        sign, block = self.open, self.blocks[self.open]
        goes_on = block.anything or not line.strip() or _GOES_ON.match(line) is not None
        if sign.said_last:
            if not goes_on:
                block.lines = [_kept(line), *block.lines[-2:]]
                self.open = None
            elif not _MARKS.match(line):
                block.lines = [*block.lines[-1:], _kept(line)]
        elif goes_on and block.left and not _PASSED_ON.match(line) and not (block.detailed and _HEADING.match(line)):
            block.lines.append(_kept(line))
            block.left -= bool(line.strip())
        else:
            self.open = None

    def _look(self, line: str) -> None:
        """The line may be an error's first."""
        heading, self.seen = self.seen, None
        if heading is not None and _RULER.match(line):
            self._begin_details(heading)
            return
        if _SKIPPED.match(line) or (self.skipped and _NOT_SKIPPED.match(line)):
            self.skipped = _SKIPPED.match(line) is not None
        self.seen = next((sign for sign in self.signs if sign.is_in(line) and not self._passes(sign, line)), None)
        if self.seen is None:
            return
        known = self.blocks.get(self.seen)
        if known is None or (self.seen.can_pass and self.number - known.number > _NEAR):
            before = list(self.last)[-self.seen.before :] if self.seen.before else []
            lines = [_kept(line), *before] if self.seen.told_after else [*before, _kept(line)]
            self.blocks[self.seen] = _Block(self.number, lines, self.seen.more, self.seen.anything)
            if self.open is None or not self.blocks[self.open].detailed:
                self.open = self.seen

    def _passes(self, sign: Sign, line: str) -> bool:
        return sign.can_pass and (self.skipped or "skip" in line.lower() or _WENT_WELL.search(line) is not None)

    def _begin_details(self, sign: Sign) -> None:
        """The error is a heading: what it tells now is more than what it told when it was first said."""
        if not self.blocks[sign].detailed:
            self.blocks[sign] = _Block(self.number, [self.last[-1]], sign.more, anything=True, detailed=True)
            self.open = sign
