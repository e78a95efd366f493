"""What a configuration file may say, what beats it, and how mistakes are told."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from buildd import settings
from buildd.settings import ConfigError, key


@dataclass(frozen=True)
class Farm:
    port: int = key("farm", "port", "80", settings.parse_port)
    patience_s: float = key("farm", "patience", "1s", settings.parse_duration)
    name: str = key("sign", "name", "none", str, empty="blank", option="--called")


def write(directory: Path, text: str) -> Path:
    path = directory / "farm.conf"
    path.write_text(text)
    return path


def mistakes_in(path: Path, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        settings.read(Farm, path, environment=environment, prefix="FARM_")
    assert all(mistake.isprintable() for mistake in caught.value.mistakes)
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h", 10800), ("90m", 5400), ("150min", 9000), ("45s", 45), ("1h30m", 5400), ("1h 30min", 5400), ("1d", 86400),
        ("1h 5 s", 3605), ("3H", 10800), ("0.5s", 0.5), ("200ms", 0.2), ("1m200ms", 60.2), ("1000d", 86400000),
    ],
)  # fmt: skip
def test_durations_are_written_as_people_do(text: str, seconds: float) -> None:
    """Durations: 3h, 90m, 150min, 45s, 1h30m, 0.5s, 200ms."""
    assert settings.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "0s", "0ms", "3", "40", "h", "3x", "-3h", "3.5h", "30m1h", "3h and", "1 0s", "1e3", "٣h", "nan", "inf",
        "1001d", "9" * 400 + "s", "9" * 5000 + "s",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit is no duration: nobody could say whether it is seconds. Nor is nothing, nor for ever."""
    with pytest.raises(ValueError, match=r"is (not )?a duration"):
        settings.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10G", 10 << 30), ("500M", 500 << 20), ("64k", 65536), ("1 GiB", 1 << 30), ("2kb", 2048), ("12", 12), ("1", 1),
        ("0", 0), ("2T", 2 << 40),
    ],
)  # fmt: skip
def test_sizes_are_written_as_people_do(text: str, size: int) -> None:
    """Sizes: 10G, 500M, 64K (powers of 1024), or plain bytes."""
    assert settings.parse_size(text) == size
    if size:
        assert settings.parse_limit(text) == size


@pytest.mark.parametrize("text", ["", "G", "1.5G", "1.5 GiB", "-1", "10X", "1e9", "1i", "9" * 5000])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A size is a whole number with K, M, G or T."""
    for parse in (settings.parse_size, settings.parse_limit):
        with pytest.raises(ValueError, match="is not a size"):
            parse(text)


@pytest.mark.parametrize("text", ["0", "0M"])
def test_limit_is_more_than_nothing(text: str) -> None:
    """A limit of nothing is refused."""
    with pytest.raises(ValueError, match="more than nothing"):
        settings.parse_limit(text)


@pytest.mark.parametrize("text", ["", "abc", "65536", "-1", "+1", "1_0", "٣", "8.0", "9" * 5000])
def test_not_ports(text: str) -> None:
    """A port is a number up to 65535."""
    with pytest.raises(ValueError, match=r"^is not a port$"):
        settings.parse_port(text)


def test_ports() -> None:
    """Port 0 is any free one."""
    assert [settings.parse_port(text) for text in ("0", "80", "65535")] == [0, 80, 65535]


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "many", "9" * 5000])
def test_not_counts(text: str) -> None:
    """A count is a whole number from 1."""
    with pytest.raises(ValueError, match="not a whole number from 1"):
        settings.parse_count(text)


def test_counts_have_a_limit() -> None:
    """A count is at most what its key allows."""
    assert settings.parse_count("4", 4) == 4
    with pytest.raises(ValueError, match=r"from 1 to 4$"):
        settings.parse_count("5", 4)


def test_flags() -> None:
    """A flag is yes or no, or a usual synonym."""
    assert [settings.parse_flag(text) for text in ("yes", "On", "1", "no", "FALSE")] == [True, True, True, False, False]
    with pytest.raises(ValueError, match="neither yes nor no"):
        settings.parse_flag("maybe")


@pytest.mark.parametrize("text", ["localhost", "farm.example", "127.0.0.1", "::1", "fe80::1%eth0", "a_b"])
def test_hosts(text: str) -> None:
    """A host is a name or an address."""
    assert settings.parse_host(text) == text


@pytest.mark.parametrize("text", ["", "a b", "farm:80", "[::1]", "http://a", "::1::", "ä.example"])
def test_not_hosts(text: str) -> None:
    """A port is no part of a host, nor are brackets."""
    with pytest.raises(ValueError, match="not a host name or address"):
        settings.parse_host(text)


@pytest.mark.parametrize("text", ["ftp://a/", "http://", "farm:8220", "http://a:x/", "http://a b/", "http://a/?q=1"])
def test_not_urls(text: str) -> None:
    """Only http and https URLs with a host are taken."""
    with pytest.raises(ValueError, match=r"not a URL"):
        settings.parse_url(text)


def test_urls() -> None:
    """A slash at the end of a URL is taken off, and an empty one is none."""
    assert [settings.parse_url(text) for text in ("http://a:1/", "https://a/b", "")] == [
        "http://a:1",
        "https://a/b",
        "",
    ]


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """~ is the home directory; that of somebody unknown is a mistake."""
    monkeypatch.setenv("HOME", "/home/me")
    assert settings.parse_path("~/farm") == Path("/home/me/farm")
    for text in ("~nobody-has-this-name/farm", "a\0b"):
        with pytest.raises(ValueError, match="is not a path"):
            settings.parse_path(text)


def test_defaults(tmp_path: Path) -> None:
    """A key that is left out or empty has its default, unless it says what an empty value stands for."""
    assert settings.read(Farm) == Farm() == Farm(80, 1.0, "none")
    assert settings.read(Farm, write(tmp_path, "[farm]\nport =\npatience = 2m\n[sign]\nname =\n")) == Farm(
        80, 120.0, "blank"
    )


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    """What wins: the command line, then the environment, then the file, then the default."""
    path = write(tmp_path, "[farm]\nport = 1\npatience = 2m\n[sign]\nname = file\n")
    environment = {"FARM_PORT": "2", "FARM_NAME": "environment", "PATH": "/bin", "PORT": "3"}
    read = settings.read(Farm, path, environment=environment, prefix="FARM_", options={"name": "option"})
    assert read == Farm(2, 120.0, "option")


def test_mistake_names_where_the_value_was_written() -> None:
    """A mistake names the option as it is spelled, or the variable."""
    with pytest.raises(ConfigError) as caught:
        settings.read(Farm, environment={"FARM_PORT": "x"}, prefix="FARM_", options={"patience": "y"})
    assert [mistake.split(" is ")[0] for mistake in caught.value.mistakes] == [
        "environment: FARM_PORT: 'x'",
        "--patience: 'y'",
    ]
    assert [each.option for each in settings.keys(Farm)] == ["--port", "--patience", "--called"]


def test_value_that_was_beaten_is_no_mistake(tmp_path: Path) -> None:
    """A bad value that another beats does no harm: an option helps out where a file cannot be changed."""
    path = write(tmp_path, "[farm]\nport = abc\n")
    assert settings.read(Farm, path, options={"port": "7"}).port == 7


def test_all_mistakes_together(tmp_path: Path) -> None:
    """Every mistake is named, each with file, section, key and value."""
    path = write(tmp_path, "[farm]\nport = abc\npatience = long\ncolour = red\n[barn]\nx = 1\n[farms]\n")
    assert mistakes_in(path, {"FARM_PROT": "1"}) == (
        "farm.conf: [farm] colour: no such key",
        "farm.conf: [barn]: no such section",
        "farm.conf: [farms]: no such section; do you mean farm?",
        "environment: FARM_PROT: no such variable; do you mean FARM_PORT?",
        "farm.conf: [farm] port: 'abc' is not a port",
        "farm.conf: [farm] patience: 'long' is not a duration; write one like 3h, 90m, 45s or 1h30m",
    )


@dataclass(frozen=True)
class Twins:
    first: str = key("one", "name", "", str)
    second: str = key("two", "name", "", str)


def test_suggestions(tmp_path: Path) -> None:
    """A key in the wrong section, or almost right, is told where it belongs: in its own section where that has it."""
    path = write(tmp_path, "[sign]\nport = 1\n[farm]\npatince = 1s\n")
    assert mistakes_in(path) == (
        "farm.conf: [sign] port: no such key; do you mean [farm] port?",
        "farm.conf: [farm] patince: no such key; do you mean [farm] patience?",
    )
    with pytest.raises(ConfigError, match=r"^farm\.conf: \[two\] nmae: no such key; do you mean \[two\] name\?$"):
        settings.read(Twins, write(tmp_path, "[two]\nnmae = x\n"))


def test_same_name_in_two_sections(tmp_path: Path) -> None:
    """In a file, two sections may have keys of the same name."""
    assert settings.read(Twins, write(tmp_path, "[one]\nname = a\n[two]\nname = b\n")) == Twins("a", "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 80\n", ["line 1 stands before the first [section]: 'port = 80'"]),
        ("[farm\n", ["line 1 stands before the first [section]: '[farm'"]),
        ("[farm] port = 80\n", ["line 1 stands before the first [section]: '[farm] port = 80'"]),
        ("[farm]\nport 80\nwhat\n", ["line 2 is not KEY = VALUE: 'port 80'", "line 3 is not KEY = VALUE: 'what'"]),
        ("[farm]\n= 80\n", ["line 2 is not KEY = VALUE: '= 80'"]),
        ("[farm]\nport = 1\nport = 2\n", ["[farm] port: is there twice, again in line 3"]),
        ("[farm]\n[farm]\n", ["[farm]: is there twice, again in line 2"]),
        ("[DEFAULT]\nport = 1\n", ["[DEFAULT]: no such section"]),
        ("[farm]\n[sign] port = 1\n", ["[farm] [sign] port: no such key"]),
    ],
)
def test_not_an_ini_file(tmp_path: Path, text: str, said: list[str]) -> None:
    """A file that is no INI file is refused with the place, in one line for each thing that is wrong."""
    assert mistakes_in(write(tmp_path, text)) == tuple(f"farm.conf: {each}" for each in said)


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there is named, with why."""
    (mistake,) = mistakes_in(tmp_path / "nowhere.conf")
    assert mistake == f"{tmp_path}/nowhere.conf: cannot be read: No such file or directory"


def test_binary_file(tmp_path: Path) -> None:
    """A file that is not text is refused."""
    (tmp_path / "farm.conf").write_bytes(b"\xff\xfe\x00")
    assert mistakes_in(tmp_path / "farm.conf") == ("farm.conf: is not text in UTF-8",)


def test_byte_order_mark(tmp_path: Path) -> None:
    """The mark with which some editors begin a file is no part of it."""
    (tmp_path / "farm.conf").write_bytes(b"\xef\xbb\xbf[farm]\r\nport = 7\r\n")
    assert settings.read(Farm, tmp_path / "farm.conf").port == 7


def test_values_are_taken_as_they_are_written(tmp_path: Path) -> None:
    """Percent signs and the like are plain characters."""
    assert settings.read(Farm, write(tmp_path, "[sign]\nname = 100%(port)s ; #1\n")).name == "100%(port)s ; #1"
