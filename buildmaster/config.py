"""The master's configuration: buildmaster.conf into a frozen MasterConfig.

buildmaster.conf itself has every key with its default and what it means; a test holds the two together.
"""

import dataclasses
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from buildd.settings import (
    ConfigError,
    key,
    parse_count,
    parse_duration,
    parse_flag,
    parse_host,
    parse_limit,
    parse_path,
    parse_port,
    parse_size,
    parse_url,
    read,
)
from buildmaster import engines
from buildmaster.farm import Places
from buildmaster.notifications import AddressRefused, parse_addresses
from buildmaster.secrets import is_secret_name
from buildmaster.store.s3 import Bucket, parse_s3_url
from buildmaster.uploading.terms import Terms

__all__ = ["ConfigError", "MasterConfig", "load"]

SYSTEM_CONFIG = Path("/etc/debfarm/buildmaster.conf")
SYSTEM_DIRECTORY = Path("/var/lib/debfarm-buildmaster")
NEAR_DIRECTORY = Path("farm")
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


_SMTP_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,254}", re.ASCII)


def parse_command(text: str) -> tuple[str, ...]:
    """The words of a command, quoted as in a shell.

    :raises ValueError: a quotation has no end.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"has {str(error).lower()}") from error


def parse_smtp_host(text: str) -> str:
    """The name or address of a mail server; "" for none."""
    if text and not _SMTP_HOST.fullmatch(text):
        raise ValueError("is no name of a host")
    return text


def parse_user(text: str) -> str:
    """A name to log in by; "" for none."""
    if not text.isprintable():
        raise ValueError("is no name")
    return text


def parse_sender(text: str) -> str:
    """One mail address; "" for none."""
    try:
        return parse_addresses([text] if text else [])
    except AddressRefused as error:
        raise ValueError("is no address, such as farm@example.org") from error


def parse_optional_port(text: str) -> int | None:
    """A TCP port; None for no service at all."""
    return parse_port(text) if text else None


def parse_ports(text: str) -> range:
    """Ports from one to another, as 50000-50100; an empty range for any.

    :raises ValueError: they are none.
    """
    if not text:
        return range(0)
    first, dash, last = text.partition("-")
    try:
        found = range(parse_port(first), parse_port(last) + 1)
    except ValueError:
        found = range(0)
    if not dash or not found or not found[0]:
        raise ValueError("are no ports such as 50000-50100")
    return found


def parse_address(text: str) -> str:
    """An IPv4 address; "" for none."""
    try:
        return str(IPv4Address(text)) if text else ""
    except ValueError as error:
        raise ValueError("is no IPv4 address, such as 192.0.2.1") from error


def parse_reset_command(text: str) -> tuple[str, ...]:
    """A command of which one word has {host} in it, for the name of a builder's host.

    :raises ValueError: it is none, or has no {host}.
    """
    words = parse_command(text)
    if words and not any("{host}" in word for word in words[1:]):
        raise ValueError("has no {host} after its first word: the name of the builder's host stands there")
    return words


def parse_checksums(text: str) -> str:
    """boto3's own words for when a checksum is sent with what is stored."""
    if text in ("when_required", "when_supported"):
        return text
    raise ValueError("is neither when_required nor when_supported")


def parse_interval(text: str) -> float:
    """Seconds; 0 for `never`."""
    return 0.0 if text == "never" else parse_duration(text)


@dataclass(frozen=True)
class MasterConfig:
    """What the master and its commands go by; read once, at start."""

    directory: Path = key("master", "directory", str(NEAR_DIRECTORY), parse_path)  # noqa: RUF009
    secrets: Path = key("master", "secrets", "secrets", parse_path)  # noqa: RUF009 - relative: to `directory`.

    lease_s: float = key("masters", "lease", "5s", parse_duration)

    host: str = key("files", "host", "127.0.0.1", parse_host)
    port: int = key("files", "port", "8220", parse_port)  # 0: any free one.
    base_url: str = key("files", "base_url", "", parse_url)  # "": made of host and port.

    archives_host: str = key("archives", "host", "127.0.0.1", parse_host)
    archives_port: int = key("archives", "port", "8230", parse_port)  # 0: any free one.
    archives_base_url: str = key("archives", "base_url", "", parse_url)  # "": made of host and port.
    archives: Path = key("archives", "directory", "archives", parse_path)  # noqa: RUF009 - relative: to `directory`.

    uploads_host: str = key("uploads", "host", "127.0.0.1", parse_host)  # Of the two that follow.
    ftp_port: int | None = key("uploads", "ftp_port", "8231", parse_optional_port, empty="")  # None: no FTP.
    ftp_passive_ports: range = key("uploads", "ftp_passive_ports", "", parse_ports)  # None in it: any free ones.
    ftp_address: str = key("uploads", "ftp_address", "", parse_address)  # "": the one that a client came to.
    sftp_port: int | None = key("uploads", "sftp_port", "", parse_optional_port)
    upload_file_bytes: int = key("uploads", "file_limit", "4G", parse_limit)
    upload_bytes: int = key("uploads", "upload_limit", "10G", parse_limit)
    upload_spool_bytes: int = key("uploads", "spool_limit", "40G", parse_limit)
    upload_unpacked_bytes: int = key("uploads", "unpacked_limit", "20G", parse_limit)
    upload_keep_s: float = key("uploads", "keep", "24h", parse_duration)
    signature_s: float = key("uploads", "signature_age", "7d", parse_duration)

    # Neither is quoted by a mistake: somebody may have put the password there. "": SQLite, in the directory.
    database_url: str = key("database", "url", "", str)
    database_secret: str = key("database", "password_secret", "", str)

    store_url: str = key("store", "url", "", str)  # "": a folder in the directory. Not quoted, as above.
    store_endpoint: str = key("store", "endpoint", "", parse_url)  # "": Amazon's own.
    store_region: str = key("store", "region", "us-east-1", parse_host)
    store_checksums: str = key("store", "checksums", "when_required", parse_checksums)
    store_collect_s: float = key("store", "collect", "never", parse_interval)  # 0: never.
    store_presigned: bool = key("store", "presigned", "yes", parse_flag)  # Builders fetch from it themselves.

    poll_fastest_s: float = key("polling", "fastest", "1s", parse_duration)
    poll_slowest_s: float = key("polling", "slowest", "15s", parse_duration)
    database_poll_s: float = key("polling", "database", "25ms", parse_duration)

    looks: bool = key("dependencies", "look", "yes", parse_flag)
    archive_poll_s: float = key("dependencies", "poll", "2s", parse_duration)
    archive_proxy: str = key("dependencies", "proxy", "", parse_url)  # "": what the environment says.

    rpc_timeout_s: float = key("builders", "rpc_timeout", "40s", parse_duration)
    fetch_timeout_s: float = key("builders", "fetch_timeout", "800s", parse_duration)  # One ensurepresent.
    gone_after_s: float = key("builders", "gone_after", "50s", parse_duration)
    silent_after_s: float = key("builders", "silent_after", "150s", parse_duration)
    send_ahead_bytes: int = key("builders", "send_ahead", "1G", parse_size)  # 0: nothing.
    build_timeout_s: float = key("builders", "build_timeout", "24h", parse_duration)
    cancel_timeout_s: float = key("builders", "cancel_timeout", "180s", parse_duration)
    reset_command: tuple[str, ...] = key("builders", "reset_command", "", parse_reset_command)
    reset_asynchronous: bool = key("builders", "reset_asynchronous", "no", parse_flag)
    reset_timeout_s: float = key("builders", "reset_timeout", "5m", parse_duration)  # Of the command.
    cleaning_timeout_s: float = key("builders", "cleaning_timeout", "30m", parse_duration)  # Of what it begins.
    download_attempts: int = key("builders", "download_attempts", "3", parse_count)
    download_silence_s: float = key("builders", "download_silence", "60s", parse_duration)  # Without a byte.
    file_limit_bytes: int = key("builders", "file_limit", "10G", parse_limit)  # A result; all of a build.
    log_limit_bytes: int = key("builders", "log_limit", "2G", parse_limit)

    notify_command: tuple[str, ...] = key("notifications", "command", "", parse_command)
    smtp_host: str = key("notifications", "smtp_host", "", parse_smtp_host)  # "": no mail.
    smtp_port: int = key("notifications", "smtp_port", "25", parse_port)
    smtp_tls: bool = key("notifications", "smtp_tls", "no", parse_flag)
    smtp_user: str = key("notifications", "smtp_user", "", parse_user)
    sender: str = key("notifications", "sender", "", parse_sender)
    notify_timeout_s: float = key("notifications", "timeout", "60s", parse_duration)  # One mail, or one command.

    @property
    def secrets_directory(self) -> Path:
        """Where the files with secrets are."""
        return self.directory / self.secrets

    @property
    def archives_directory(self) -> Path:
        """Where the archives are that the farm publishes."""
        return self.directory / self.archives

    @property
    def terms(self) -> Terms:
        """What is accepted of uploads."""
        return Terms(
            self.upload_file_bytes,
            self.upload_bytes,
            self.upload_spool_bytes,
            self.upload_unpacked_bytes,
            self.upload_keep_s,
            self.signature_s,
            tells=bool(self.smtp_host or self.notify_command),
        )

    @property
    def places(self) -> Places:
        """Where the farm is."""
        return Places(self.directory, self.database_url, self.database_secret, self.secrets, self.bucket)

    @property
    def bucket(self) -> Bucket | None:
        """Where the farm's files are on an S3 server, if they are on one.

        :raises ValueError: `store_url` is none; load() has seen to it that it is.
        """
        if not self.store_url:
            return None
        name, prefix = parse_s3_url(self.store_url)
        return Bucket(name, prefix, self.store_endpoint, self.store_region, self.store_checksums, self.store_presigned)

    def url_for_builders(self, port: int) -> str:
        """Where builders reach the file server, without a slash at the end.

        :param port: the one that the server got, which matters when `port` is 0.
        """
        return self.base_url or _url(self.host, port)

    def url_for_archives(self, port: int | None = None) -> str:
        """Where the archives are that the farm publishes, as apt lines have it, without a slash at the end.

        :param port: the one that their server got; None: what was configured.
        """
        return self.archives_base_url or _url(self.archives_host, self.archives_port if port is None else port)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load(
    path: Path | None = None, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> MasterConfig:
    """Read the configuration, and settle which farm it is about.

    The file: the one given, else $BUILDMASTER_CONFIG, else /etc/debfarm/buildmaster.conf where it exists, else none.
    The farm's directory: the one given, else $BUILDMASTER_DIR, else the file's, else ./farm or, where that is not and
    /var/lib/debfarm-buildmaster is, that.

    :raises ConfigError: naming every mistake in the file.
    """
    environment = os.environ if environment is None else environment
    if path is None and environment.get("BUILDMASTER_CONFIG"):
        path = Path(environment["BUILDMASTER_CONFIG"])
    if path is None and SYSTEM_CONFIG.exists():
        path = SYSTEM_CONFIG
    config = read(MasterConfig, path)
    mistakes = _contradictions(config)
    if mistakes and path is not None:
        raise ConfigError([f"{path.name}: {mistake}" for mistake in mistakes])
    if directory is None and environment.get("BUILDMASTER_DIR"):
        directory = Path(environment["BUILDMASTER_DIR"])
    return dataclasses.replace(config, directory=(directory or _directory(config)).absolute())


def _directory(config: MasterConfig) -> Path:
    if config.directory == NEAR_DIRECTORY and not NEAR_DIRECTORY.exists() and SYSTEM_DIRECTORY.exists():
        return SYSTEM_DIRECTORY
    return config.directory


def _is_this_machine(host: str) -> bool:
    """Whether what is sent to a host by this name or address never leaves this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _contradictions(config: MasterConfig) -> list[str]:
    """What is wrong between keys that are each well formed."""
    mistakes = []
    if config.database_url:
        try:
            engines.parse_url(config.database_url)
        except engines.BadUrl as error:
            mistakes.append(f"[database] url: it {error}")
    if config.database_secret and not is_secret_name(config.database_secret):
        mistakes.append("[database] password_secret: it is not the name of a file in the secrets directory")
    if config.store_url:
        try:
            parse_s3_url(config.store_url)
        except ValueError as error:
            mistakes.append(f"[store] url: it {error}")
    elif config.store_endpoint:
        mistakes.append("[store] endpoint: there is no url, so that files would be in a folder")
    if config.host in ANY_ADDRESS and not config.base_url:
        mistakes.append(f"[files] base_url: must be given, since builders cannot fetch from {config.host!r}")
    if config.archives_host in ANY_ADDRESS and not config.archives_base_url:
        mistakes.append(f"[archives] base_url: must be given, since apt cannot fetch from {config.archives_host!r}")
    if "@" in config.archives_base_url:
        mistakes.append("[archives] base_url: no user or password belongs there; `archive access` gives them out")
    if config.poll_fastest_s > config.poll_slowest_s:
        mistakes.append(f"[polling] fastest: {config.poll_fastest_s:g} s is longer than slowest")
    if config.smtp_host and not config.sender:
        mistakes.append("[notifications] sender: must be given with smtp_host, the address that mails are from")
    if config.smtp_user and config.smtp_host and not config.smtp_tls and not _is_this_machine(config.smtp_host):
        mistakes.append(
            f"[notifications] smtp_user: the password would be sent to {config.smtp_host} for all to read; "
            "set smtp_tls = yes, or leave smtp_user out where the server asks for none"
        )
    return mistakes
