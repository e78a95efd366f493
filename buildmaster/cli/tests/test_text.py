"""Values for people, and text of strangers on a terminal."""

import json
from pathlib import Path

import pytest

from buildmaster.cli import text
from buildmaster.cli.text import HarmlessDecoder


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain\n\ttext: grün 漢字\n", "plain\n\ttext: grün 漢字\n"),
        ("\x1b[2J\x07", "^[[2J^G"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\x7f\x00", "^?^@"),
        ("10%\r20%\r\n", "10%\n20%\n"),
        ("a\u2028b", "a b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_harmless(given: str, shown: str) -> None:
    """Whatever could drive a terminal is shown instead."""
    assert text.harmless(given) == shown


def test_every_character_is_harmless() -> None:
    """No character below U+3000 but newline and tab gets through unless it is printable."""
    every = "".join(chr(code) for code in range(0x3000))
    assert all(c.isprintable() or c in "\n\t" for c in text.harmless(every))


def test_log_in_pieces_cut_anywhere() -> None:
    """A log gives the same text however it is cut into pieces."""
    log = "über\r\n\x1b[1mfett\x1b[0m\r€\n".encode() + b"\xff\xfe\n\xe2\x82"
    whole = HarmlessDecoder().decode(log, final=True)
    assert whole == "über\n^[[1mfett^[[0m\n€\n\ufffd\ufffd\n\ufffd"
    for step in range(1, 6):
        decoder = HarmlessDecoder()
        pieces = [decoder.decode(log[i : i + step]) for i in range(0, len(log), step)]
        assert "".join(pieces) + decoder.decode(b"", final=True) == whole


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (3600, "1 h 0 min"), (7500, "2 h 5 min"), (349200, "4 d 1 h")],
)
def test_elapsed(seconds: float, shown: str) -> None:
    """A span is told in its two largest units."""
    assert text.elapsed(seconds) == shown


def test_size() -> None:
    """A size is told in the unit that suits it."""
    assert [text.size(n) for n in (812, 3_500_000, 1 << 41)] == ["812 B", "3.3 MiB", "2.0 TiB"]


def test_one_line() -> None:
    """A cell of a table stays on its line."""
    assert text.one_line(" a\n\tb\x1b ") == "a b^["


def test_count() -> None:
    """One build, two builds, no builds."""
    assert [text.count(n, "build") for n in (0, 1, 2)] == ["0 builds", "1 build", "2 builds"]
    assert text.count(2, "copy", "copies") == "2 copies"


def test_a_command_that_can_be_copied() -> None:
    """Into a shell, wherever that is."""
    assert text.command_on(Path("/srv/our farm"), "log 3") == "buildmaster --dir '/srv/our farm' log 3"
    words = text.command_on(Path("/srv/farm"), "log 3", Path("/etc/our farm.conf"))
    assert words == "buildmaster --config '/etc/our farm.conf' --dir /srv/farm log 3"


def test_documents() -> None:
    """A JSON document says the same, and nothing to a terminal."""
    value = {"a": "\x9b31m\u202e \U000e0001 b", "c": ["ä", "x\ny"]}
    document = text.escaped(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(document) == value and document.replace("\n", "").isprintable() and "ä" in document
    assert text.escaped(json.dumps({"a": "ä"}, indent=2)) == json.dumps({"a": "ä"}, indent=2)
