"""What this machine's own apt says about where Debian is: mirror, key, proxies. Nothing of it is changed."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from debian.deb822 import Deb822

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FALLBACK = "http://deb.debian.org/debian"

# A mirror's path ends so by custom; a snapshot's has a date after it. Not debian-security, not debian-backports.
_DEBIAN_PATH = re.compile(r"(?:^|/)debian(?:/\d{8}T\d{6}Z)?/?$")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+\S")
# What of the machine's configuration a chroot needs to reach the same mirror in the same way.
_CARRIED_OVER = re.compile(
    r'Acquire::(?:https?::(?:Proxy\b.*|Pipeline-Depth)|Retries|Check-Valid-Until|Check-Date) "[^"]'
)


@dataclass(frozen=True)
class Mirror:
    """A mirror of Debian's archive, and what its signatures are checked with."""

    url: str
    keyring: Path = DEBIAN_KEYRING

    def line(self, kind: str, suite: str) -> str:
        """A line for a sources.list of this machine; in a chroot the key is elsewhere.

        :param kind: ``deb`` or ``deb-src``.
        """
        return f"{kind} [signed-by={self.keyring}] {self.url} {suite} main"


@dataclass(frozen=True)
class _Source:
    uri: str
    suites: frozenset[str]
    keyring: Path | None


def find_mirror(suite: str, etc: Path = Path("/etc/apt")) -> Mirror:
    """The Debian mirror that this machine uses: for that suite if it can be, else any, else deb.debian.org."""
    found = [source for source in _sources(etc) if _is_debian(source.uri)]
    found.sort(key=lambda source: suite not in source.suites)  # A stable sort: otherwise in apt's own order.
    if not found:
        return Mirror(FALLBACK)
    return Mirror(found[0].uri.rstrip("/"), found[0].keyring or DEBIAN_KEYRING)


def carried_over() -> list[str]:
    """Lines of apt.conf(5) with which a chroot reaches the mirror as this machine does: proxies, mostly."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in dump.splitlines() if _CARRIED_OVER.match(line)]
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy and '"' not in proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return lines


def _is_debian(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme in ("http", "https") and bool(_DEBIAN_PATH.search(parts.path))


def _sources(etc: Path) -> Iterator[_Source]:
    """Every binary source that sources.list(5) enables, in apt's order."""
    parts = sorted((etc / "sources.list.d").glob("*"))
    for file in [etc / "sources.list", *parts]:
        if not file.is_file():
            continue
        if file.suffix == ".list":
            yield from _one_line_sources(file.read_text(errors="replace"))
        elif file.suffix == ".sources":
            yield from _deb822_sources(file.read_text(errors="replace"))


def _one_line_sources(text: str) -> Iterator[_Source]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if not match:
            continue
        options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
        for uri in _resolved(match["uri"]):
            yield _Source(uri, frozenset({match["suite"]}), _keyring(options.get("signed-by", "")))


def _deb822_sources(text: str) -> Iterator[_Source]:
    for stanza in Deb822.iter_paragraphs(text.splitlines(), use_apt_pkg=False):
        fields = {str(name).lower(): str(value) for name, value in stanza.items()}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        suites = frozenset(fields.get("suites", "").split())
        for written in fields.get("uris", "").split():
            for uri in _resolved(written):
                yield _Source(uri, suites, _keyring(fields.get("signed-by", "")))


def _resolved(uri: str) -> list[str]:
    """The mirrors behind a ``mirror+file:`` list, which is what Debian's cloud images have; else the URI itself."""
    scheme, _, path = uri.partition(":")
    if scheme != "mirror+file":
        return [uri]
    file = Path("/" + path.lstrip("/"))
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _keyring(signed_by: str) -> Path | None:
    """The key file that a source names; a key written into the source itself, or a fingerprint, is not followed."""
    first = signed_by.split(",", maxsplit=1)[0].strip()
    return Path(first) if first.startswith("/") and Path(first).is_file() else None
