"""Tests of buildd.config, and of buildd.conf."""

import configparser
from pathlib import Path

import pytest

from buildd.config import BuilddConfig, ConfigError, read_config
from buildd.settings import keys

SHIPPED = Path(__file__).parents[2] / "buildd.conf"


def _mistakes(text: str, tmp_path: Path, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    path = tmp_path / "buildd.conf"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_config(path, environment)
    return raised.value.mistakes


def test_shipped_file_has_every_key_with_its_default() -> None:
    """buildd.conf has every key with its default."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SHIPPED)
    shipped = {(section, name): text for section in parser.sections() for name, text in parser.items(section)}
    assert shipped == {(key.section, key.name): key.default for key in keys(BuilddConfig)}
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
    assert mistakes == (
        "buildd.conf: [builder] lable: no such key; do you mean [builder] label?",
        "buildd.conf: [builder] timeout: no such key; do you mean [limits] timeout?",
        "buildd.conf: [limit]: no such section; do you mean limits?",
        "environment: DEBFARM_BUILDD_PROT: no such variable; do you mean DEBFARM_BUILDD_PORT?",
        "buildd.conf: [builder] port: 'abc' is not a port",
        "buildd.conf: [limits] silence: '9' is not a duration; write one like 3h, 90m, 45s or 1h30m",
        "environment: DEBFARM_BUILDD_CACHE_SIZE: 'much' is not a size; write one like 10G, 500M or 64K",
    )


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


@pytest.mark.parametrize(
    "line",
    [
        "builder = pbuilder",
        "jobs = 0",
        "jobs = many",
        "apt_proxy = localhost",
        "apt_proxy = https://x",
        "apt_proxy = http://",
        "network_hosts = *",
        "network_hosts = a http://b",
        "network_hosts = a:0",
        "network_hosts = a, b",
        "network_hosts = a/b",
    ],
)
def test_bad_value_for_builds_is_a_mistake(line: str, tmp_path: Path) -> None:
    """Of what is used for builds, too; a host that a package may reach is one that nobody can take for another."""
    (mistake,) = _mistakes(f"[binarypackage]\n{line}\n", tmp_path)
    assert mistake.startswith(f"buildd.conf: [binarypackage] {line.split(maxsplit=1)[0]}: ")


@pytest.mark.parametrize("line", ["request_body = 0", "log_size = 0K"])
def test_limit_that_leaves_nothing_is_a_mistake(line: str, tmp_path: Path) -> None:
    """A daemon that may read no request, or keep no log, would be of no use."""
    (mistake,) = _mistakes(f"[limits]\n{line}\n", tmp_path)
    assert mistake.endswith(" must be more than nothing")


@pytest.mark.parametrize("directory", ["/srv/a,b", "/srv/a:b", "/srv/a\\b"])
def test_directory_that_no_overlay_mount_could_name_is_a_mistake(directory: str, tmp_path: Path) -> None:
    """The options of an overlay mount name the directory; a comma, colon or backslash means something there."""
    (mistake,) = _mistakes(f"[builder]\ndirectory = {directory}\n", tmp_path)
    assert mistake.startswith(f"buildd.conf: [builder] directory: {directory!r} has a {directory[6]!r} in it")


def test_listening_on_all_addresses(tmp_path: Path) -> None:
    """An empty host means all addresses of the machine; any other key that is empty has its default."""
    path = tmp_path / "buildd.conf"
    path.write_text("[builder]\nhost =\nport =\nlabel =\n")
    config = read_config(path)
    assert config.host == ""
    assert (config.port, config.label) == (BuilddConfig().port, BuilddConfig().label)
    assert read_config(path, {"DEBFARM_BUILDD_HOST": "::1"}).host == "::1"


def test_every_key_has_a_variable_of_its_own() -> None:
    """No two keys have the same name: one variable of the environment cannot set both."""
    names = [key.name for key in keys(BuilddConfig)]
    assert len(set(names)) == len(names)


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


def test_hosts_that_packages_may_reach(tmp_path: Path) -> None:
    """None, unless the file lists some; each is as it was written."""
    path = tmp_path / "buildd.conf"
    path.write_text("[binarypackage]\nnetwork_hosts = pypi.example\n    git.example:8443 [2001:db8::1]:80\n")
    assert read_config(path).network_hosts == ("pypi.example", "git.example:8443", "[2001:db8::1]:80")
    assert BuilddConfig().network_hosts == ()
