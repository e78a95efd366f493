"""Values as a person reads them, and text of strangers made harmless for a terminal. Pure."""

import codecs
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

_ELAPSED_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def harmless(text: str, keep: str = "\n\t") -> str:
    r"""The text with everything that could drive a terminal shown instead of sent.

    Control characters become ``^[`` or ``\x9b``; marks that turn the direction of writing, and lone surrogates, become
    ``\u202e``. A carriage return that a progress bar draws itself with becomes a new line.

    :param keep: control characters to leave.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _shown(c) for c in text)


def escaped(document: str) -> str:
    """A JSON document in which no string has characters that are not to be seen."""
    if document.replace("\n", "").isprintable():
        return document
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in document)


def _shown(character: str) -> str:
    code = ord(character)
    if character.isspace() and code > 0xA0:  # Wide and thin spaces, line and paragraph separators.
        return " "
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str) -> str:
    """The text on one line, harmless for a terminal and for a table."""
    return harmless(" ".join(text.split()), keep="")


def command_on(directory: Path, words: str, config: Path | None = None) -> str:
    """A command of ours on this farm, which does what it says wherever somebody calls it.

    :param config: the configuration file that was named: the farm's database and store may be in no other.
    """
    options = ["--config", str(config.absolute())] if config else []
    return f"{shlex.join(['buildmaster', *options, '--dir', str(directory)])} {words}"


class HarmlessDecoder:
    """Bytes of a log, in pieces cut anywhere, to text that a terminal may have.

    What is no UTF-8 becomes U+FFFD; a character or a CR LF cut in two by the pieces is put together again.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def decode(self, data: bytes, final: bool = False) -> str:
        """The text of this piece, and of what the last one left open."""
        text = self._held + self._decoder.decode(data, final)
        self._held = ""
        if text.endswith("\r") and not final:
            text, self._held = text[:-1], "\r"
        return harmless(text)


def elapsed(seconds: float) -> str:
    """A span in its two largest units: ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 1 h``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in _ELAPSED_UNITS:
        if left >= length or parts:
            parts.append(f"{left // length} {unit}")
            left %= length
        if len(parts) == 2:
            return " ".join(parts)
    parts.append(f"{left} s")
    return " ".join(parts)


def size(count: int) -> str:
    """A number of bytes: ``812 B``, ``3.4 MiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def moment(when: float | None) -> str:
    """A Unix time on the clock of whoever reads it, ``-`` when there is none."""
    return datetime.fromtimestamp(when).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if when is not None else "-"


def stamp(when: float | None) -> str | None:
    """A Unix time for a program: ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if when is not None else None


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 build``, ``3 builds``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
