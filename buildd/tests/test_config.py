"""Tests of buildd.config, and of buildd.conf."""

import configparser
from pathlib import Path

import pytest

from buildd.config import BuilddConfig, ConfigError, keys, parse_duration, parse_size, read_config

SHIPPED = Path(__file__).parents[2] / "buildd.conf"


def _mistakes(text: str, tmp_path: Path, environment: dict[str, str] | None = None) -> list[str]:
    path = tmp_path / "buildd.conf"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_config(path, environment)
    return raised.value.mistakes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3h", 10800), ("90m", 5400), ("150min", 9000), ("45s", 45), ("1h30m", 5400), ("1d", 86400), ("1h 5 s", 3605)],
)
def test_durations_are_written_as_people_do(text: str, seconds: float) -> None:
    """Durations: 3h, 90m, 150min, 45s, 1h30m."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "3", "h", "3x", "-3h", "3.5h", "30m1h", "٣h", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit is no duration: nobody could say whether it is seconds."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("10G", 10 << 30), ("500M", 500 << 20), ("64k", 65536), ("1 GiB", 1 << 30), ("12", 12), ("0", 0)]
)
def test_sizes_are_written_as_people_do(text: str, size: int) -> None:
    """Sizes: 10G, 500M, 64K, or plain bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "1.5G", "-1", "10X", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A size is a whole number with K, M, G or T."""
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


def test_shipped_file_has_every_key_with_its_default() -> None:
    """buildd.conf has every key with its default."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SHIPPED)
    shipped = {(section, name): text for section in parser.sections() for name, text in parser.items(section)}
    assert shipped == {(key.section, key.name): key.default for key in keys()}
    assert read_config(SHIPPED) == read_config() == BuilddConfig()


def test_every_key_of_the_shipped_file_is_explained() -> None:
    """buildd.conf is commented: every key, or the group of lines that it is in, follows a comment."""
    groups = [group.splitlines() for group in SHIPPED.read_text().split("\n\n")]
    for group in groups:
        lines = [line for line in group if not line.startswith("[")]
        assert lines[0].startswith("#"), group


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    """All mistakes at once, each with file, section and key."""
    mistakes = _mistakes(
        "[builder]\nport = abc\nlable = x\ntimeout = 3h\n[limit]\ntimeout = 1h\n[limits]\nsilence = 9\n",
        tmp_path,
        {"DEBFARM_BUILDD_CACHE_SIZE": "much", "DEBFARM_BUILDD_PROT": "1", "PATH": "/bin"},
    )
    assert mistakes == [
        "buildd.conf: [builder] lable: no such key; do you mean [builder] label?",
        "buildd.conf: [builder] timeout: no such key; do you mean [limits] timeout?",
        "buildd.conf: [limit]: no such section; do you mean limits?",
        "environment: DEBFARM_BUILDD_PROT: no such variable; do you mean DEBFARM_BUILDD_PORT?",
        "buildd.conf: [builder] port: 'abc' is not a port",
        "buildd.conf: [limits] silence: '9' is not a duration; write one like 3h, 90m, 45s or 1h30m",
        "environment: DEBFARM_BUILDD_CACHE_SIZE: 'much' is not a size; write one like 10G, 500M or 64K",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "port = 65536",
        "port = -1",
        "port = ٣",
        "directory = var/lib",
        "allow_root = maybe",
        "architecture = ../x",
        "label = " + "x" * 101,
        "host = a b",
    ],
)
def test_bad_value_is_a_mistake(line: str, tmp_path: Path) -> None:
    """A value of the wrong form is a mistake that names its key."""
    (mistake,) = _mistakes(f"[builder]\n{line}\n", tmp_path)
    assert mistake.startswith(f"buildd.conf: [builder] {line.split(maxsplit=1)[0]}: ")


@pytest.mark.parametrize("line", ["jobs = 0", "jobs = many", 'apt_proxy = http://x"; evil', "apt_proxy = localhost"])
def test_bad_value_for_builds_is_a_mistake(line: str, tmp_path: Path) -> None:
    """What goes into a configuration of apt's must not say more than an address."""
    (mistake,) = _mistakes(f"[binarypackage]\n{line}\n", tmp_path)
    assert mistake.startswith(f"buildd.conf: [binarypackage] {line.split(maxsplit=1)[0]}: ")


@pytest.mark.parametrize(
    "text", ["port = 1\n", "[builder]\nport = 1\nport = 2\n", "[DEFAULT]\nport = 1\n", "[builder\n"]
)
def test_file_that_is_no_ini_is_a_mistake(text: str, tmp_path: Path) -> None:
    """A file that cannot be read as INI is one mistake that names it."""
    (mistake,) = _mistakes(text, tmp_path)
    assert mistake.startswith("buildd.conf: ")


def test_missing_file_is_a_mistake(tmp_path: Path) -> None:
    """A file that was named and is not there is a mistake, not the defaults."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(tmp_path / "buildd.conf")


def test_command_line_wins_over_environment_wins_over_file(tmp_path: Path) -> None:
    """What wins: the command line, then the environment, then the file, then the default."""
    path = tmp_path / "buildd.conf"
    path.write_text("[builder]\nlabel = file\nport = 1\nhost = 127.0.0.1\n[limits]\ntimeout = 1h\n")
    environment = {"DEBFARM_BUILDD_LABEL": "environment", "DEBFARM_BUILDD_PORT": "2", "DEBFARM_BUILDD_CONFIG": "x"}
    config = read_config(path, environment, {"label": "option"})
    assert (config.label, config.port, config.timeout_s, config.silence_s) == ("option", 2, 3600, 9000)


def test_mistake_on_the_command_line_names_the_option() -> None:
    """A mistake on the command line names the option as it was written."""
    with pytest.raises(ConfigError, match=r"^--dir: 'x' is not an absolute path$"):
        read_config(None, None, {"directory": "x"})


def test_percent_signs_are_plain_characters(tmp_path: Path) -> None:
    """Values are taken as they are written, percent signs included."""
    path = tmp_path / "buildd.conf"
    path.write_text("[builder]\nlabel = 100%(host)s\n")
    assert read_config(path).label == "100%(host)s"
