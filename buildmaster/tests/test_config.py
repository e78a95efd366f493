"""buildmaster.conf, and which farm a command is about."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from buildd.settings import keys, read
from buildmaster import config
from buildmaster.config import ConfigError, MasterConfig, load
from buildmaster.store.s3 import Bucket

EXAMPLES: dict[str, Any] = {
    "sftp_port": None,
    "ftp_passive_ports": range(0),
    "ftp_address": "",
    "notify_command": (),
    "smtp_host": "",
    "smtp_user": "",
    "sender": "",
    "archives_base_url": "",
}
SHIPPED = Path(__file__).parents[2] / "buildmaster.conf"


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where no farm was installed."""
    monkeypatch.setattr(config, "SYSTEM_CONFIG", tmp_path / "etc.conf")
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", tmp_path / "var")
    monkeypatch.chdir(tmp_path)


def test_shipped_file_has_every_key_with_its_default(tmp_path: Path) -> None:
    """Uncommenting every key of the shipped file changes nothing, but for the examples of what has no default."""
    text = re.sub(r"^#(?=[a-z_]+ =)", "", SHIPPED.read_text(), flags=re.MULTILINE)
    path = tmp_path / "buildmaster.conf"
    path.write_text(text)
    every = read(MasterConfig, path)
    examples: dict[str, Any] = {"base_url": "", "reset_command": (), "database_url": "", "database_secret": ""}
    examples |= EXAMPLES
    examples |= {"store_url": "", "store_endpoint": ""}
    examples["archive_proxy"] = ""
    assert dataclasses.replace(every, **examples) == MasterConfig()
    for key in keys(MasterConfig):
        assert f"\n{key.name} = " in text
    assert read(MasterConfig, SHIPPED) == MasterConfig()


def test_bad_port(tmp_path: Path) -> None:
    """A mistake names file, section, key and value."""
    path = tmp_path / "buildmaster.conf"
    path.write_text("[files]\nport = abc\n")
    with pytest.raises(ConfigError, match=r"^buildmaster\.conf: \[files\] port: 'abc' is not a port$"):
        load(path)


def test_no_ftp(tmp_path: Path) -> None:
    """It is on until its port is taken away; SFTP is off until it has one."""
    path = tmp_path / "buildmaster.conf"
    path.write_text("")
    assert (load(path).ftp_port, load(path).sftp_port) == (8231, None)
    path.write_text("[uploads]\nftp_port =\n")
    assert load(path).ftp_port is None


def test_contradictions(tmp_path: Path) -> None:
    """Keys that are well formed but do not fit each other are mistakes too."""
    path = tmp_path / "buildmaster.conf"
    path.write_text("[files]\nhost = 0.0.0.0\n[polling]\nfastest = 20s\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [mistake.split(":")[1] for mistake in caught.value.mistakes] == [" [files] base_url", " [polling] fastest"]


def test_directory_order(tmp_path: Path) -> None:
    """The option comes before the environment, that before the file, that before the places where a farm may be."""
    path = tmp_path / "buildmaster.conf"
    path.write_text(f"[master]\ndirectory = {tmp_path}/file\n")
    environment = {"BUILDMASTER_DIR": str(tmp_path / "environment"), "BUILDMASTER_CONFIG": str(path)}
    assert load(path, tmp_path / "option", environment).directory == tmp_path / "option"
    assert load(path, None, environment).directory == tmp_path / "environment"
    assert load(None, None, {"BUILDMASTER_CONFIG": str(path)}).directory == tmp_path / "file"
    assert load(None, None, {}).directory == tmp_path / "farm"
    (tmp_path / "var").mkdir()
    assert load(None, None, {}).directory == tmp_path / "var"
    (tmp_path / "farm").mkdir()
    assert load(None, None, {}).directory == tmp_path / "farm"


def test_store(tmp_path: Path) -> None:
    """A store is a folder unless there is the URL of a bucket; a mistake in that quotes nothing of it."""
    assert load(None, tmp_path, {}).places.bucket is None
    path = tmp_path / "buildmaster.conf"
    path.write_text("[store]\nurl = s3://farm-files/a\nendpoint = http://s3.example:8333/\npresigned = no\n")
    bucket = Bucket("farm-files", "a/", "http://s3.example:8333", "us-east-1", "when_required", presigned=False)
    assert load(path, tmp_path, {}).places.bucket == bucket
    path.write_text("[store]\nurl = s3://key:guessed@farm\nchecksums = always\n")
    with pytest.raises(ConfigError, match="'always' is neither") as told:
        load(path, tmp_path, {})
    path.write_text("[store]\nurl = s3://key:guessed@farm\n")
    with pytest.raises(ConfigError, match=r"\[store\] url: it is not a store such as") as told:
        load(path, tmp_path, {})
    assert "guessed" not in str(told.value)
    path.write_text("[store]\nendpoint = http://s3.example:8333/\n")
    with pytest.raises(ConfigError, match=r"\[store\] endpoint: there is no url"):
        load(path, tmp_path, {})


def test_secrets_directory(tmp_path: Path) -> None:
    """Secrets are in the farm's directory unless the file says where."""
    assert load(None, tmp_path, {}).secrets_directory == tmp_path / "secrets"
    path = tmp_path / "buildmaster.conf"
    path.write_text("[master]\nsecrets = /etc/debfarm/secrets\n")
    assert load(path, tmp_path, {}).secrets_directory == Path("/etc/debfarm/secrets")


def test_url_for_builders() -> None:
    """Builders reach the file server at base_url, or at the address and the port that it really got."""
    assert MasterConfig(port=0).url_for_builders(4711) == "http://127.0.0.1:4711"
    assert MasterConfig(host="::1").url_for_builders(8220) == "http://[::1]:8220"
    assert MasterConfig(base_url="https://farm.example").url_for_builders(8220) == "https://farm.example"


def test_url_for_archives() -> None:
    """apt finds archives at base_url, or at the address and the port, the one that was got where it is known."""
    assert MasterConfig().url_for_archives() == "http://127.0.0.1:8230"
    assert MasterConfig(archives_port=0, archives_host="::1").url_for_archives(4711) == "http://[::1]:4711"
    assert MasterConfig(archives_base_url="https://a.example").url_for_archives(4711) == "https://a.example"


def test_where_archives_are(tmp_path: Path) -> None:
    """They are in the farm's directory unless the file says where; who listens everywhere says what apt is told."""
    assert load(None, tmp_path, {}).archives_directory == tmp_path / "archives"
    path = tmp_path / "buildmaster.conf"
    path.write_text("[archives]\ndirectory = /srv/archives\nbase_url = http://user:word@packages.example\n")
    with pytest.raises(ConfigError, match=r"\[archives\] base_url: no user or password"):
        load(path)
    path.write_text("[archives]\ndirectory = /srv/archives\nhost = 0.0.0.0\n")
    with pytest.raises(ConfigError, match=r"\[archives\] base_url: must be given"):
        load(path)
    path.write_text("[archives]\ndirectory = /srv/archives\n")
    assert load(path).archives_directory == Path("/srv/archives")


def test_notifications(tmp_path: Path) -> None:
    """A mail server needs to be told whom mails are from; what is no host, address or command is named."""
    path = tmp_path / "buildmaster.conf"
    path.write_text("[notifications]\nsmtp_host = mail.example.org\n")
    with pytest.raises(ConfigError, match=r"\[notifications\] sender: must be given with smtp_host"):
        load(path)
    path.write_text("[notifications]\nsmtp_host = -x\nsender = us\ncommand = 'a\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [mistake.split(":")[1] for mistake in caught.value.mistakes] == [
        f" [notifications] {name}" for name in ("command", "smtp_host", "sender")
    ]
    path.write_text("[notifications]\nsmtp_host = mail\nsender = us@example.org\ncommand = tell 'us all'\n")
    assert load(path).notify_command == ("tell", "us all")


@pytest.mark.parametrize("host", ["mail.example.org", "192.0.2.7", "localhost.example.org", "1270.0.0.1"])
def test_a_password_in_clear(tmp_path: Path, host: str) -> None:
    """A password for the mail server is sent over TLS, or does not leave this machine."""
    path = tmp_path / "buildmaster.conf"
    settings = f"[notifications]\nsender = us@example.org\nsmtp_host = {host}\nsmtp_user = farm\n"
    path.write_text(settings)
    with pytest.raises(ConfigError, match=r"smtp_user: the password would be sent to .* set smtp_tls = yes"):
        load(path)
    path.write_text(settings + "smtp_tls = yes\n")
    assert load(path).smtp_tls
    path.write_text(settings.replace("smtp_user = farm\n", ""))
    assert load(path).smtp_host == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1"])
def test_a_password_for_this_machine(tmp_path: Path, host: str) -> None:
    """What stays on this machine needs no TLS."""
    path = tmp_path / "buildmaster.conf"
    path.write_text(f"[notifications]\nsender = us@example.org\nsmtp_host = {host}\nsmtp_user = farm\n")
    assert load(path).smtp_user == "farm"


def test_reset_command(tmp_path: Path) -> None:
    """The words of a command, quoted as in a shell; it must say where the host's name stands, and be whole."""
    path = tmp_path / "buildmaster.conf"
    path.write_text("[builders]\nreset_command = ssh root@{host} 'reset vm'\n")
    assert load(path).reset_command == ("ssh", "root@{host}", "reset vm")
    path.write_text("[builders]\nreset_command = reset-vm now\n")
    with pytest.raises(ConfigError, match=r"\[builders\] reset_command: 'reset-vm now' has no \{host\}"):
        load(path)
    path.write_text("[builders]\nreset_command = reset 'vm {host}\n")
    with pytest.raises(ConfigError, match=r"reset_command: .* has no closing quotation"):
        load(path)
