"""What a configuration file may say, and how its mistakes are told."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from buildmaster import settings
from buildmaster.settings import ConfigError, key


@dataclass(frozen=True)
class Farm:
    port: int = key("farm", "port", settings.parse_port, 80)
    patience_s: float = key("farm", "patience", settings.parse_duration, 1.0)


def write(directory: Path, text: str) -> Path:
    path = directory / "farm.conf"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3h", 10800), ("90m", 5400), ("1h30m", 5400), ("1h 30min", 5400), ("40", 40), ("0.5s", 0.5), ("200ms", 0.2)],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is numbers with units, or plain seconds."""
    assert settings.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "3x", "-3h", "3h and", "0", "0s", "1e3", "٣h"])
def test_not_durations(text: str) -> None:
    """What is no duration, or none at all, is refused."""
    with pytest.raises(ValueError, match=r"not a duration|more than nothing"):
        settings.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("500M", 500 << 20), ("10G", 10 << 30), ("1.5 GiB", 3 << 29), ("2kb", 2048)]
)
def test_sizes(text: str, size: int) -> None:
    """A size's units are powers of 1024."""
    assert settings.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "10X", "0M"])
def test_not_sizes(text: str) -> None:
    """What is no size, or none at all, is refused."""
    with pytest.raises(ValueError, match=r"not a size|more than nothing"):
        settings.parse_size(text)


@pytest.mark.parametrize("text", ["ftp://a/", "http://", "farm:8220", "http://a:x/", "http://a b/", "http://a/?q=1"])
def test_not_urls(text: str) -> None:
    """Only http and https URLs with a host are taken."""
    with pytest.raises(ValueError, match=r"not a URL"):
        settings.parse_url(text)


def test_defaults(tmp_path: Path) -> None:
    """A key that is left out or empty has its default."""
    assert settings.read(Farm, None) == Farm(80, 1.0)
    assert settings.read(Farm, write(tmp_path, "[farm]\nport =\npatience = 2m\n")) == Farm(80, 120.0)


def test_all_mistakes_together(tmp_path: Path) -> None:
    """Every mistake is named, each with file, section and key."""
    path = write(tmp_path, "[farm]\nport = abc\npatience = long\ncolour = red\n[barn]\nx = 1\n")
    with pytest.raises(ConfigError) as caught:
        settings.read(Farm, path)
    assert caught.value.mistakes == (
        "farm.conf: [farm] port: 'abc' is not a port",
        "farm.conf: [farm] patience: 'long' is not a duration such as 90m or 3h",
        "farm.conf: [farm] colour: there is no such key",
        "farm.conf: [barn]: there is no such section",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 80\n", "line 1 stands before the first"),
        ("[farm]\nport 80\nwhat\n", "line 2 is not KEY = VALUE"),
        ("[farm]\nport = 1\nport = 2\n", "[farm] port: is there twice"),
        ("[farm]\n[farm]\n", "[farm]: is there twice"),
    ],
)
def test_not_an_ini_file(tmp_path: Path, text: str, said: str) -> None:
    """A file that is no INI file is refused with the place."""
    with pytest.raises(ConfigError) as caught:
        settings.read(Farm, write(tmp_path, text))
    assert said in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there is named, with why."""
    with pytest.raises(ConfigError, match=r"nowhere\.conf: cannot be read: No such file"):
        settings.read(Farm, tmp_path / "nowhere.conf")


def test_binary_file(tmp_path: Path) -> None:
    """A file that is not text is refused."""
    (tmp_path / "farm.conf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text"):
        settings.read(Farm, tmp_path / "farm.conf")
