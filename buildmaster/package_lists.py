"""What the archives of a build have, fetched and verified by apt itself, in a root of its own. A program as well.

For each set of sources, keys and chroot there is a folder in which apt finds what it would find in the chroot, and
nothing of this machine's. `python -m buildmaster.package_lists FOLDER` brings it up to date: `apt-get update`, and what
apt would choose from then, as :mod:`buildmaster.available` has it, in the file `available`.
"""

import base64
import binascii
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import requests

from buildmaster.apt_sources import without_login
from buildmaster.available import FIELDS, prepared, with_installed
from buildmaster.chroot_system import STATUS, System
from buildmaster.programs import Children, ProgramFailed

AVAILABLE: Final = "available"
_LISTS: Final = "var/lib/apt/lists"
_FOLDERS: Final = (
    *("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "etc/apt/sources.list.d"),
    *("etc/apt/auth.conf.d", f"{_LISTS}/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"),
)
_METHODS_OFF: Final = ("file", "copy", "cdrom", "ssh", "rsh", "ftp", "mirror", "mirror+file", "mirror+copy")
_MODULE: Final = "buildmaster.package_lists"
_UPDATE_S: Final = 120.0
_ANSWER_S: Final = 5.0  # An archive that is asked whether it has changed.
_UNUSED_S: Final = 7 * 86400.0
_RELEASE_MAX: Final = 32 << 20
_WEAK_S: Final = 60.0  # Archives publish twice in a second, and dates have seconds (RFC 9110, 8.8.2.2).
_KEYRING = re.compile(r"/(?:usr/share/keyrings|etc/apt)/[^\s,\]]+")
_URI = re.compile(r"^'(\S+/InRelease)' (\S+) ", re.MULTILINE)
# Keeps the fields that are looked at, with the lines that go on with them.
_AWK: Final = f"/^[ \\t]/ {{ if (k) print; next }} {{ k = /^({'|'.join(FIELDS)}):/ }} k || /^$/"


class NoLists(Exception):
    """The package lists of some archives cannot be had; the message says what apt says, without passwords."""


@dataclass(frozen=True)
class ListSource:
    """Where package lists come from."""

    chroot: str  # Its digest.
    system: System  # What is in it.
    lines: tuple[str, ...]  # For sources.list; none: the chroot's own.
    keys: tuple[str, ...]  # OpenPGP keys that are trusted beside the chroot's; each as base64.
    architecture: str

    @property
    def key(self) -> str:
        """Names it: the same for the same files."""
        parts = json.dumps((self.chroot, self.lines, self.keys, self.architecture))
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Release:
    """A release file that apt has."""

    url: str
    digest: str  # Of what counts in it: see what_counts().


@dataclass(frozen=True)
class Lists:
    """Package lists that are here."""

    folder: Path
    architecture: str
    state: str  # A digest of all that is available: the same as long as nothing has changed for builds.
    releases: tuple[Release, ...]  # None: an archive has no such file, and only apt can say whether it has changed.


def use(folder: Path, now: float) -> bool:
    """Say that the lists in a folder are used, and whether they are there."""
    try:
        os.utime(folder, (now, now))
    except FileNotFoundError:
        return False
    return True


def sweep(folders: Path, now: float) -> list[str]:
    """Remove the folders below this one that nobody has used for a week: those of chroots that were replaced, and of
    archives that are elsewhere now. Blocks.

    A master that wants one at this very moment has it made anew. Returns their names.
    """
    gone = []
    for folder in folders.iterdir() if folders.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # Another master sweeps as well.
            if now - folder.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder.name)
    return gone


def what_counts(release: bytes) -> str:
    """A digest of what a release file says of binary packages, and of how apt is to take it.

    Not of when it was signed, nor of sources and other indices: an archive that we publish ourselves has a new one as
    soon as a source is accepted, and the build of that would wait for lists that are the same.
    """
    signed = release.partition(b"\n-----BEGIN PGP SIGNATURE-----")[0]
    lines = [line for line in signed.splitlines() if not line.startswith((b"Date:", b"Valid-Until:"))]
    counts = [line for line in lines if line[:1] != b" " or line.rpartition(b"/")[2].startswith(b"Packages")]
    says = any(line[:1] == b" " for line in counts)
    return hashlib.sha256(b"\n".join(counts) if says else release).hexdigest()


class Changed(StrEnum):
    """Whether archives are others than when their lists were fetched."""

    NO = "no"  # All release files are the same.
    YES = "yes"  # One is another.
    UNKNOWN = "unknown"  # One cannot be asked, or did not answer: apt has to find out.


class Curiosity:
    """Asks archives whether they have changed, by conditional requests. For one thread at a time."""

    def __init__(self, proxy: str = "") -> None:
        """:param proxy: the URL of the http proxy to ask by; "": what the environment says."""
        self._session = requests.Session()
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        self._conditions: dict[Release, Mapping[str, str]] = {}  # By which they are asked whether they are others.

    def changed(self, lists: Lists) -> Changed:
        """Blocks, for some seconds at most. Nothing is raised: of who cannot be asked it is unknown."""
        if not lists.releases:
            return Changed.UNKNOWN
        answers = [self._changed(release) for release in lists.releases]
        return next((word for word in (Changed.YES, Changed.UNKNOWN) if word in answers), Changed.NO)

    def _changed(self, release: Release) -> Changed:
        condition = self._conditions.get(release, {})
        headers = {"Cache-Control": "max-age=0", **condition}
        content, end = bytearray(), time.monotonic() + _ANSWER_S
        try:
            with self._session.get(
                release.url, headers=headers, timeout=_ANSWER_S / 2, stream=True, proxies=self._proxies
            ) as answer:
                if answer.status_code == 304 and condition:
                    return Changed.NO
                if answer.status_code != 200:
                    return Changed.UNKNOWN
                for piece in answer.iter_content(1 << 16):
                    content += piece
                    if len(content) > _RELEASE_MAX or time.monotonic() > end:
                        return Changed.UNKNOWN
                if what_counts(bytes(content)) != release.digest:
                    return Changed.YES
                self._conditions[release] = _condition(answer.headers)
                return Changed.NO
        except (requests.RequestException, OSError):
            return Changed.UNKNOWN


def _condition(answered: Mapping[str, str]) -> Mapping[str, str]:
    """The header that asks for a file only if it is another; none, where the archive could not tell."""
    tag = answered.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return {"If-None-Match": tag}
    with contextlib.suppress(KeyError, ValueError, TypeError):
        modified, now = (parsedate_to_datetime(answered[name]) for name in ("Last-Modified", "Date"))
        if (now - modified).total_seconds() >= _WEAK_S:
            return {"If-Modified-Since": answered["Last-Modified"]}
    return {}


def fetch(folder: Path, source: ListSource, children: Children, proxy: str = "", *, forget: bool = False) -> Lists:
    """Have the lists in a folder, which is made. Blocks: some seconds when nothing has changed in all of Debian.

    :param forget: fetch everything, whatever apt thinks of its age: it asks by date, which has seconds.
    :raises NoLists: they cannot be had; what was there before is still there.
    """
    _write_root(folder, source, proxy)
    for file in (folder / _LISTS).rglob("*") if forget else ():
        if file.is_file():
            file.unlink()
    try:
        told = json.loads(children.run(_MODULE, str(folder), source.architecture, limit_s=_UPDATE_S))
    except ProgramFailed as exc:
        raise NoLists(without_login(str(exc))) from exc
    releases = tuple(Release(**each) for each in told["releases"])
    return Lists(folder, source.architecture, told["state"], releases)


def _write_root(folder: Path, source: ListSource, proxy: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    files = dict(source.system.files)
    if source.lines:
        files = {path: content for path, content in files.items() if not path.startswith("etc/apt/sources.list")}
        files["etc/apt/sources.list"] = "\n".join([*source.lines, ""]).encode()
    files |= _key_files(source.keys)
    sources = [path for path in files if path.startswith("etc/apt/sources.list")]
    files |= {path: _keyrings_below(folder, files[path], files) for path in sources}
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)
    (folder / "apt.conf").write_text("\n".join([*_settings(folder, source.architecture, proxy), ""]))


def _key_files(keys: Iterable[str]) -> dict[str, bytes]:
    files = {}
    for number, encoded in enumerate(keys):
        try:
            key = base64.b64decode("".join(encoded.split()), validate=True)
        except binascii.Error:
            continue  # The builder says what is wrong with it.
        kind = "asc" if key.lstrip().startswith(b"-----BEGIN PGP") else "gpg"
        files[f"etc/apt/trusted.gpg.d/debfarm-{number}.{kind}"] = key
    return files


def _keyrings_below(folder: Path, sources: bytes, files: Mapping[str, bytes]) -> bytes:
    """The text of sources in which the chroot's keyrings are where they are here."""

    def moved(match: re.Match[str]) -> str:
        return f"{folder}{match[0]}" if match[0].removeprefix("/") in files else match[0]

    return _KEYRING.sub(moved, sources.decode(errors="replace")).encode()


def _settings(folder: Path, architecture: str, proxy: str) -> list[str]:
    settings = {
        "Dir": str(folder),
        "Dir::State::status": str(folder / STATUS),
        "APT::Architecture": architecture,
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",  # _apt may not come here: a farm is its owner's.
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::AllowReleaseInfoChange": "true",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        **({"Acquire::http::Proxy": proxy, "Acquire::https::Proxy": proxy} if proxy else {}),
        **{f"Dir::Bin::Methods::{method}": "false" for method in _METHODS_OFF},
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    return [*lines, f'APT::Architectures {{ "{architecture}"; }};', "#clear DPkg::Post-Invoke;"]


def main() -> None:
    """Bring a folder up to date, and print in JSON what came out."""
    folder, architecture = Path(sys.argv[1]), sys.argv[2]
    _apt(folder, "apt-get", "-q", "update")
    listed = f"apt-cache dumpavail | LC_ALL=C awk {shlex.quote(_AWK)}"
    available = _apt(folder, "sh", "-c", f"set -e; {listed}")
    content = prepared(with_installed(available, (folder / STATUS).read_bytes()), architecture)
    written = folder / f"{AVAILABLE}.{os.getpid()}"
    written.write_bytes(content)
    written.replace(folder / AVAILABLE)
    releases = _releases(folder, _apt(folder, "apt-get", "-q", "update", "--print-uris").decode(errors="replace"))
    print(json.dumps({"state": hashlib.sha256(content).hexdigest(), "releases": releases}))


def _apt(folder: Path, *command: str) -> bytes:
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "APT_CONFIG": str(folder / "apt.conf")}
    ended = subprocess.run(
        command, env=environment | proxies, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, check=False
    )
    if ended.returncode:
        sys.exit(ended.stderr.decode(errors="replace") or f"{command[0]} ended with {ended.returncode}")
    return ended.stdout


def _releases(folder: Path, uris: str) -> list[dict[str, str]]:
    """The release files that are here, as Release has them; none, when one of the archives has none.

    :param uris: what apt would ask for first, in its own words.
    """
    found = []
    for url, name in _URI.findall(uris):
        for kind in ("InRelease", "Release"):
            file = folder / _LISTS / (name.removesuffix("InRelease") + kind)
            if file.exists():
                digest = what_counts(file.read_bytes())
                found.append({"url": url.removesuffix("InRelease") + kind, "digest": digest})
                break
        else:
            return []
    return found


if __name__ == "__main__":
    main()
