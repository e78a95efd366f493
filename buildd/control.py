"""Debian control data: .dsc, .changes and .buildinfo files, parsed once into frozen values, over python-debian.

All of them come from strangers. Names in them are plain path segments when they come out of here, sizes are
bounded, and every file has a SHA-256. Signatures are not looked at: whoever accepts an upload does that.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import ParamSpec, TypeVar

from debian import deb822

from buildd.protocol import FileName, ProtocolError, parse_file_name

P = ParamSpec("P")
T = TypeVar("T")

CONTROL_MAX_BYTES = 4 << 20  # The largest .dsc in Debian has 60 kB, the largest .changes 500 kB.
_HASH_CHUNK = 1 << 20

# Debian Policy 5.6.1 and 5.6.12.
_SOURCE = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)
_VERSION = re.compile(r"[0-9]{1,9}:[0-9A-Za-z][0-9A-Za-z.+~:-]*|[0-9A-Za-z][0-9A-Za-z.+~-]*", re.ASCII)
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)
# deb-buildinfo(5).
_INSTALLED = re.compile(rf"({_SOURCE.pattern})(?::([a-z0-9-]+))? \(= ({_VERSION.pattern})\)", re.ASCII)
_VARIABLE = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_MOST_INSTALLED = 20_000
_LONGEST_WORD = 255


class ControlError(ValueError):
    """A control file, or a file that it names, is not what it must be; the message says what and why."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults  # All that was found, each a sentence.


@dataclass(frozen=True)
class ListedFile:
    """A file as a .dsc or .changes names it."""

    name: FileName
    size: int  # Bytes.
    sha256: str
    sha1: str | None


@dataclass(frozen=True)
class Dsc:
    """A source package as its .dsc describes it."""

    source: str
    version: str
    format: str
    architectures: tuple[str, ...]  # As written: any, all, linux-any, amd64 ...
    binaries: tuple[str, ...]
    files: tuple[ListedFile, ...]  # Without the .dsc itself.
    fields: Mapping[str, str]  # The other fields, by lower-case name; multi-line ones joined as written.

    @property
    def upstream_version(self) -> str:
        """The version without its epoch, as file names have it."""
        return self.version.partition(":")[2] or self.version

    def field(self, name: str) -> str:
        """A field's text, "" when it is absent."""
        return self.fields.get(name.lower(), "")


@dataclass(frozen=True)
class Changes:
    """What a build produced, as its .changes describes it."""

    source: str
    version: str
    distribution: str
    architectures: tuple[str, ...]
    files: tuple[ListedFile, ...]  # Without the .changes itself.
    fields: Mapping[str, str] = field(default_factory=dict)  # As of a Dsc.


@dataclass(frozen=True, order=True)
class Installed:
    """A package that was there while another was built."""

    name: str
    version: str
    architecture: str = ""  # "": that of the build, or all.


@dataclass(frozen=True)
class Buildinfo:
    """In what a build happened, as its .buildinfo describes it."""

    source: str
    version: str  # Of the packages that it made; a binary rebuild's is not the source's.
    architectures: tuple[str, ...]
    build_architecture: str
    build_path: str  # "": it does not tell.
    files: tuple[ListedFile, ...]  # What it made.
    installed: tuple[Installed, ...]  # Build-dependencies with all that they depend on, sorted.
    environment: Mapping[str, str]

    @property
    def source_date_epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH, if that was set to a time."""
        digits = self.environment.get("SOURCE_DATE_EPOCH", "")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def parse_dsc(path: PurePath, content: bytes | None = None) -> Dsc:
    """Read a .dsc, signed or not.

    :param content: what is in it, if it is no file here, and `path` just what it is called.
    :raises ControlError: it is no .dsc, or names what it may not; in all the ways that were found.
    :raises OSError: it cannot be read.
    """
    fields = _paragraph(_read(Path(path)) if content is None else content, path)
    mistakes = _Mistakes()
    source = mistakes.of(_take, fields, "source", _SOURCE, path) or ""
    version = mistakes.of(_take, fields, "version", _VERSION, path) or ""
    files = mistakes.of(_listed_files, fields, path) or ()
    for file in files:
        if not file.name.startswith(f"{source}_"):
            mistakes.found.append(f"{path.name} names a file that is not of source {source}: {file.name}")
    mistakes.tell()
    return Dsc(
        source=source,
        version=version,
        format=fields.get("format", "1.0"),
        architectures=tuple(fields.get("architecture", "").split()),
        binaries=tuple(name.strip() for name in fields.get("binary", "").replace("\n", " ").split(",") if name.strip()),
        files=files,
        fields=fields,
    )


def parse_changes(path: PurePath, content: bytes | None = None) -> Changes:
    """Read a .changes, signed or not.

    :param content: what is in it, if it is no file here, and `path` just what it is called.
    :raises ControlError: it is no .changes, or names what it may not; in all the ways that were found.
    :raises OSError: it cannot be read.
    """
    fields = _paragraph(_read(Path(path)) if content is None else content, path)
    fields["source"] = fields.get("source", "").partition(" ")[0]  # "hello (2.10-3)" in a binary rebuild.
    mistakes = _Mistakes()
    changes = Changes(
        source=mistakes.of(_take, fields, "source", _SOURCE, path) or "",
        version=mistakes.of(_take, fields, "version", _VERSION, path) or "",
        distribution=fields.get("distribution", ""),
        architectures=tuple(fields.get("architecture", "").split()),
        files=mistakes.of(_listed_files, fields, path) or (),
        fields=fields,
    )
    mistakes.tell()
    return changes


class _Mistakes:
    """What is wrong with a control file, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def of(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What is read; None when that is a mistake."""
        try:
            return read(*args, **kwargs)
        except ControlError as error:
            self.found.extend(error.faults)
            return None

    def tell(self) -> None:
        """:raises ControlError: there were mistakes."""
        if self.found:
            raise ControlError(*self.found)


def parse_buildinfo(path: PurePath, content: bytes) -> Buildinfo:
    """Read a .buildinfo, signed or not.

    :param path: what it is called.
    :raises ControlError: it is none.
    """
    fields = _paragraph(content, path)
    fields["source"] = fields.get("source", "").partition(" ")[0]  # "hello (2.10-3)" in a binary rebuild.
    build_path = fields.get("build-path", "")
    if len(build_path) > 4096 or not build_path.isprintable():
        raise ControlError(f"{path.name}: Build-Path is not valid: {build_path[:80]!r}")
    return Buildinfo(
        source=_take(fields, "source", _SOURCE, path),
        version=_take(fields, "version", _VERSION, path),
        architectures=tuple(fields.get("architecture", "").split()),
        build_architecture=_take(fields, "build-architecture", _ARCHITECTURE, path),
        build_path=build_path,
        files=_listed_files(fields, path),
        installed=tuple(sorted(_installed(fields.get("installed-build-depends", ""), path))),
        environment=_environment(fields.get("environment", ""), path),
    )


def _installed(text: str, path: PurePath) -> set[Installed]:
    entries = list(filter(None, map(str.strip, text.split(","))))
    if len(entries) > _MOST_INSTALLED:
        raise ControlError(f"{path.name}: Installed-Build-Depends names more than {_MOST_INSTALLED} packages")
    found = set()
    for entry in entries:
        match = _INSTALLED.fullmatch(entry)
        if match is None or max(map(len, filter(None, match.groups()))) > _LONGEST_WORD:
            raise ControlError(f"{path.name}: not 'package (= version)' in Installed-Build-Depends: {entry[:80]!r}")
        found.add(Installed(match[1], match[3], match[2] or ""))
    return found


def _environment(text: str, path: PurePath) -> dict[str, str]:
    """NAME="VALUE", one a line, with backslashes before what would end it."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _VARIABLE.fullmatch(line)
        if match is None:
            raise ControlError(f'{path.name}: not NAME="VALUE" in Environment: {line[:80]!r}')
        found[match[1]] = re.sub(r"\\(.)", r"\1", match[2])
    return found


def check_file(path: Path, listed: ListedFile) -> None:
    """Compare a file's size and digests with what was promised of it. Blocks while it reads.

    :raises ControlError: they differ, or it is no regular file.
    :raises OSError: it cannot be read.
    """
    sha1, sha256, size = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
        while chunk := stream.read(_HASH_CHUNK):
            sha1.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
            if size > listed.size:
                break
    if size != listed.size:
        more = "more than " if size > listed.size else ""
        raise ControlError(f"{listed.name} has {more}{min(size, listed.size)} bytes, not the {listed.size} promised")
    if sha256.hexdigest() != listed.sha256 or listed.sha1 not in (None, sha1.hexdigest()):
        raise ControlError(f"{listed.name} does not have the digest promised: {listed.sha256}")


def check_source(dsc_name: str, dsc: Dsc, paths: Mapping[FileName, Path]) -> None:
    """Check that the files of a source package are all there, are what its .dsc promises, and no others.

    :param paths: name to path, the .dsc among them. Blocks while it reads them.
    :raises ControlError: a file is missing, superfluous, or not as promised.
    """
    promised = {file.name: file for file in dsc.files}
    missing = promised.keys() - paths.keys()
    extra = paths.keys() - promised.keys() - {dsc_name}
    if missing:
        raise ControlError(f"{dsc_name} names files that were not sent: {', '.join(sorted(missing))}")
    if extra:
        raise ControlError(f"{dsc_name} does not name these files: {', '.join(sorted(extra))}")
    for name, listed in promised.items():
        check_file(paths[name], listed)


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(CONTROL_MAX_BYTES + 1)


def _paragraph(raw: bytes, path: PurePath) -> dict[str, str]:
    """The first paragraph of a control file, by lower-case field name, a signature around it taken off."""
    if len(raw) > CONTROL_MAX_BYTES:
        raise ControlError(f"{path.name} is larger than {CONTROL_MAX_BYTES} bytes")
    try:
        payload = raw
        if raw.lstrip().startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
            payload = b"\n".join(deb822.Deb822.split_gpg_and_payload(iter(raw.lstrip().splitlines()))[1])
        fields = deb822.Deb822(payload.decode())
        return {str(name).lower(): str(value) for name, value in fields.items()}
    except (ValueError, EOFError) as exc:
        raise ControlError(f"{path.name} is not a Debian control file: {exc}") from exc


def _take(fields: Mapping[str, str], name: str, pattern: re.Pattern[str], path: PurePath) -> str:
    value = fields.get(name, "")
    if not value:
        raise ControlError(f"{path.name}: {name.capitalize()} is missing")
    if not pattern.fullmatch(value) or len(value) > 200:
        raise ControlError(f"{path.name}: {name.capitalize()} is not valid: {value[:80]!r}")
    return value


def _listed_files(fields: Mapping[str, str], path: PurePath) -> tuple[ListedFile, ...]:
    """The Checksums-Sha256 list, with the SHA-1 of each file where Checksums-Sha1 has it."""
    sha1_of = {name: digest for digest, _, name in _checksums(fields, "checksums-sha1", _SHA1, path)}
    found: dict[str, ListedFile] = {}
    for sha256, size, name in _checksums(fields, "checksums-sha256", _SHA256, path):
        if name in found:
            raise ControlError(f"{path.name} names {name} twice")
        found[name] = ListedFile(name, size, sha256, sha1_of.get(name))
    if not found:
        raise ControlError(f"{path.name} has no Checksums-Sha256")
    return tuple(found.values())


def _checksums(
    fields: Mapping[str, str], name: str, pattern: re.Pattern[str], path: PurePath
) -> list[tuple[str, int, FileName]]:
    """Lines "digest size name" of one checksum field (Debian Policy 5.6.24)."""
    rows = []
    for line in filter(None, map(str.strip, fields.get(name, "").splitlines())):
        words = line.split()
        if len(words) != 3 or not pattern.fullmatch(words[0]) or not (words[1].isascii() and words[1].isdigit()):
            raise ControlError(f"{path.name}: a line of {name} is not 'digest size name': {line[:80]!r}")
        if len(words[1]) > 15:
            raise ControlError(f"{path.name}: no file is as large as {words[1][:80]} bytes")
        try:
            rows.append((words[0], int(words[1]), parse_file_name(words[2])))
        except ProtocolError as exc:
            raise ControlError(f"{path.name}: {exc}") from exc
    return rows
