"""buildd.conf, the environment and the command line, read once at start into one frozen BuilddConfig.

What wins: the command line, then the environment (``DEBFARM_BUILDD_PORT`` sets ``port``), then the file, then the
default. Every mistake in all of them is reported at once.
"""

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from buildd.protocol import DEFAULT_PORT, PackageBuilderName, ProtocolError, parse_architecture
from buildd.reach import Reach, Refused
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

__all__ = ["ENVIRONMENT_PREFIX", "BuilddConfig", "ConfigError", "read_config"]

ENVIRONMENT_PREFIX: Final = "DEBFARM_BUILDD_"
# Options of the program itself rather than keys of the file, for service.py.
ENVIRONMENT_OPTIONS: Final = frozenset({f"{ENVIRONMENT_PREFIX}CONFIG"})

_LABEL_MAX = 100
_JOBS_MAX = 1024


class IsolationName(StrEnum):
    """The ways to shut builds in; docs/isolation.md says what each needs and does."""

    UNSHARE = "unshare"  # User namespaces.
    CHROOT = "chroot"  # Namespaces that root makes.
    PODMAN = "podman"  # Containers.

    @property
    def package_builders(self) -> tuple[PackageBuilderName, ...]:
        """Which package builders work there. sbuild runs beside a root, and nothing runs beside a container."""
        return (PackageBuilderName.DIRECT,) if self is IsolationName.PODMAN else tuple(PackageBuilderName)


def parse_label(text: str) -> str:
    """One line that names this builder in logs; the host's name when empty."""
    if not text:
        return socket.gethostname()
    if len(text) > _LABEL_MAX or not text.isprintable():
        raise ValueError(f"is not one printable line of at most {_LABEL_MAX} characters")
    return text


def parse_interface(text: str) -> str:
    """An address of this machine to listen on; empty means all of them."""
    return text and parse_host(text)


def parse_directory(text: str) -> Path:
    """An absolute path which can be named in the options of a mount."""
    path = parse_path(text)
    if not path.is_absolute():
        raise ValueError("is not an absolute path")
    if bad := re.search(r"[,:\\]", str(path)):
        raise ValueError(f"has a {bad[0]!r} in it, which the options of an overlay mount cannot; choose another path")
    return path


def parse_memory(text: str) -> int:
    """A size; nine tenths of this machine's memory, and all of its swap, when empty."""
    if text:
        return parse_limit(text)
    found = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return (int(found["MemTotal:"]) * 9 // 10 + int(found["SwapTotal:"])) << 10


def parse_processes(text: str) -> int:
    """A number; a thousand for each processor and at least four thousand, when empty."""
    return parse_count(text) if text else max(4000, 1000 * len(os.sched_getaffinity(0)))


def parse_cgroup(text: str) -> str:
    """The path of a control group, as /proc/self/cgroup has it; empty means the daemon's own."""
    if text and (not text.startswith("/") or ".." in text.split("/") or not text.isprintable()):
        raise ValueError("is not the path of a control group, such as /debfarm")
    return text and (text.rstrip("/") or "/")


def parse_layers(text: str) -> Path | None:
    """A directory, see parse_directory; None when empty."""
    return parse_directory(text) if text else None


def parse_jobs(text: str) -> int:
    """A number of processes; as many as this process may use processors when empty."""
    return parse_count(text, _JOBS_MAX) if text else len(os.sched_getaffinity(0))


def parse_package_builder(text: str) -> PackageBuilderName:
    """The name of a package builder."""
    try:
        return PackageBuilderName(text)
    except ValueError:
        raise ValueError(f"is none of {', '.join(PackageBuilderName)}") from None


def parse_isolation(text: str) -> IsolationName:
    """The name of a way to shut builds in."""
    try:
        return IsolationName(text)
    except ValueError:
        raise ValueError(f"is none of {', '.join(IsolationName)}") from None


def parse_proxy(text: str) -> str:
    """The URL of a proxy that is spoken to by http, or nothing."""
    if text and not text.startswith("http://"):
        raise ValueError("is not the URL of a proxy, such as http://localhost:3142")
    return parse_url(text)


def parse_hosts(text: str) -> tuple[str, ...]:
    """HOST or HOST:PORT, any number of them, with white space between."""
    hosts = tuple(text.split())
    try:
        Reach.of_hosts(hosts)
    except Refused as exc:
        raise ValueError(f"has {exc.what!r} in it, which is neither HOST nor HOST:PORT") from None
    return hosts


def parse_own_architecture(text: str) -> str:
    """A Debian architecture; dpkg's own when empty."""
    try:
        return parse_architecture(text or _dpkg_architecture())
    except ProtocolError:
        raise ValueError("is not a Debian architecture") from None


@cache
def _dpkg_architecture() -> str:
    command = ["dpkg", "--print-architecture"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError) as exc:
        raise ValueError(f"is empty, and dpkg cannot tell the architecture: {exc}") from exc


@dataclass(frozen=True, kw_only=True)
class BuilddConfig:
    """The daemon's configuration. What each key means is written in buildd.conf."""

    label: str = key("builder", "label", "", parse_label)
    host: str = key("builder", "host", "127.0.0.1", parse_interface, empty="")
    port: int = key("builder", "port", str(DEFAULT_PORT), parse_port)
    architecture: str = key("builder", "architecture", "", parse_own_architecture)
    directory: Path = key("builder", "directory", "/var/lib/debfarm-buildd", parse_directory, option="--dir")  # noqa: RUF009
    layers: Path | None = key("builder", "layers", "", parse_layers)  # noqa: RUF009
    allow_root: bool = key("builder", "allow_root", "no", parse_flag)
    isolation: IsolationName = key("builder", "isolation", "unshare", parse_isolation)  # noqa: RUF009

    timeout_s: float = key("limits", "timeout", "3h", parse_duration)
    silence_s: float = key("limits", "silence", "150m", parse_duration)
    abort_timeout_s: float = key("limits", "abort", "120s", parse_duration)
    memory_bytes: int = key("limits", "memory", "", parse_memory)
    processes: int = key("limits", "processes", "", parse_processes)
    disk_bytes: int = key("limits", "disk", "100G", parse_limit)
    open_files: int = key("limits", "open_files", "65536", parse_count)
    cgroup: str = key("limits", "cgroup", "", parse_cgroup)
    log_limit_bytes: int = key("limits", "log_size", "256M", parse_limit)
    request_body_bytes: int = key("limits", "request_body", "16M", parse_limit)
    connect_timeout_s: float = key("limits", "download_connect", "30s", parse_duration)
    stall_timeout_s: float = key("limits", "download_stall", "60s", parse_duration)
    download_timeout_s: float = key("limits", "download", "1h", parse_duration)
    collect_timeout_s: float = key("limits", "collect", "10m", parse_duration)
    cache_limit_bytes: int = key("limits", "cache_size", "20G", parse_size)
    layers_limit_bytes: int = key("limits", "layers_size", "20G", parse_limit)
    free_floor_bytes: int = key("limits", "free_space", "1G", parse_size)

    package_builder: PackageBuilderName = key("binarypackage", "builder", "sbuild", parse_package_builder)  # noqa: RUF009
    jobs: int = key("binarypackage", "jobs", "", parse_jobs)
    apt_proxy: str = key("binarypackage", "apt_proxy", "", parse_proxy)
    network_hosts: tuple[str, ...] = key("binarypackage", "network_hosts", "", parse_hosts)


def read_config(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> BuilddConfig:
    """Read the configuration.

    :param path: buildd.conf; None for none.
    :param environment: variables of the process; those without our prefix are ignored.
    :param options: from the command line: name of a key to its value as written.
    :raises ConfigError: something in it is wrong; it lists everything that is.
    """
    keys = {name: text for name, text in (environment or {}).items() if name not in ENVIRONMENT_OPTIONS}
    config = read(BuilddConfig, path, environment=keys, prefix=ENVIRONMENT_PREFIX, options=options)
    if config.package_builder not in config.isolation.package_builders:
        pair = f"[builder] isolation = {config.isolation} and [binarypackage] builder = {config.package_builder}"
        able = ", ".join(config.isolation.package_builders)
        raise ConfigError([f"{path or 'configuration'}: {pair} do not go together: there, builder can be {able}"])
    return config
