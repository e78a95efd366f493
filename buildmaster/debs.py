"""What .deb files say of themselves. They are hostile until they are parsed; deb_reader.py is how they are read."""

import json
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from debian.deb822 import Deb822

from buildd.protocol import FileName, ProtocolError, parse_architecture
from buildmaster.binaries import Deb
from buildmaster.deb_reader import LINE_MAX_BYTES, Held
from buildmaster.store import Store, StoredFile

SUFFIXES = (".deb", ".udeb")  # Of what is published; the second is for Debian's installer.
_LIMIT_S = 1800.0
_PIECE = 1 << 20
# Debian Policy 5.6.1, 5.6.7, 5.6.12.
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}", re.ASCII)
_VERSION = re.compile(r"(?:[0-9]+:)?[0-9][0-9A-Za-z.+~-]*", re.ASCII)
_SOURCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]{1,127})(?: \((?P<version>[^ ()]+)\))?", re.ASCII)
_SECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+./-]{0,100}", re.ASCII)
_FIELD = re.compile(r"([!-,.-9;-~][!-9;-~]*):[^\n]*", re.ASCII)
_BREAKS = frozenset({"Cc", "Zl", "Zp"})  # Control characters, and what some take for the end of a line.
_MANDATORY = ("Package", "Version", "Architecture", "Maintainer", "Description")
# What only an index says of a package.
_NOT_ITS_OWN = frozenset({"filename", "size", "md5sum", "sha1", "sha256", "sha512", "status", "conffiles"})


class BadDeb(ValueError):
    """A file is no .deb, or none that could be published; the message names it, and says why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


@dataclass(frozen=True)
class Said:
    """What a .deb says."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    section: str
    debug: bool
    control: str
    suffix: str = ".deb"  # Of its file's name, which alone tells what kind of package it is.

    @property
    def file_name(self) -> str:
        """What its file must be called."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.architecture}{self.suffix}"


def read(store: Store, files: Mapping[FileName, StoredFile], folder: Path | None = None) -> list[Deb]:
    """What .deb files in the store say, in their order; lists of their files are in the store then. Blocks.

    :param folder: for copies of those that are not on this disk; None: where such files are by default.
    :raises BadDeb: one of them cannot be read, or is not called by what it says.
    :raises OSError: the store cannot be used.
    """
    with ExitStack() as stack:
        streams = {name: stack.enter_context(_opened(store, stored, folder)) for name, stored in files.items()}
        return [
            Deb(
                name=said.name,
                version=said.version,
                architecture=said.architecture,
                source=said.source,
                source_version=said.source_version,
                section=said.section,
                debug=said.debug,
                control=said.control,
                file_name=name,
                file=files[name],
                contents=store.add(_pieces(paths, size)) if size else None,
            )
            for name, said, paths, size in _each(streams, folder)
        ]


def examine(streams: Mapping[FileName, IO[bytes]]) -> list[Said]:
    """What .deb files say, in their order. Blocks.

    :param streams: files of this machine, by name.
    :raises BadDeb: one of them cannot be read, or is not called by what it says.
    """
    return [said for _, said, _, _ in _each(streams, None)]


def _each(
    streams: Mapping[FileName, IO[bytes]], folder: Path | None
) -> Iterator[tuple[FileName, Said, IO[bytes], int]]:
    """For each file what it says, a stream, and how much of that is the list of its files: to be read before the next.

    What the reader says goes to files: there is no bound on what all of it may be for who made the packages, but one on
    a line.
    """
    if not streams:
        return
    descriptors = [stream.fileno() for stream in streams.values()]
    with tempfile.TemporaryFile(dir=folder) as printed, tempfile.TemporaryFile(dir=folder) as paths:
        passed = [paths.fileno(), *descriptors]
        command = [sys.executable, "-m", "buildmaster.deb_reader", *map(str, passed)]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command, stdout=printed, stderr=subprocess.DEVNULL, pass_fds=passed, timeout=_LIMIT_S, check=False
            )
        printed.seek(0)
        paths.seek(0)
        for name in streams:
            line = printed.readline(LINE_MAX_BYTES)
            if not line.endswith(b"\n"):
                raise BadDeb(name, "to read it takes more time or memory than any package needs")
            held: Held = json.loads(line)
            yield name, _said(name, held), paths, held["paths_bytes"]


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size and (piece := stream.read(min(size, _PIECE))):
        size -= len(piece)
        yield piece


def check(found: Iterable[Deb], source: str, version: str, architecture: str) -> None:
    """Check that packages are what a build of this source on this architecture makes.

    :raises BadDeb: one is not.
    """
    for deb in found:
        if (deb.source, deb.source_version) != (source, version):
            raise BadDeb(deb.file_name, f"is of source {deb.source} {deb.source_version}, not of {source} {version}")
        if deb.architecture not in (architecture, "all"):
            raise BadDeb(deb.file_name, f"is for {deb.architecture}, and was built on {architecture}")


def of_build(
    store: Store, results: Mapping[FileName, StoredFile], source: str, version: str, architecture: str
) -> list[Deb]:
    """What the packages among the results of a build say, checked to be what it makes. Blocks.

    :raises BadDeb: as read() and check() do.
    :raises OSError: the store cannot be used.
    """
    found = read(store, {name: file for name, file in results.items() if name.endswith(SUFFIXES)})
    check(found, source, version, architecture)
    return found


def _opened(store: Store, stored: StoredFile, folder: Path | None) -> IO[bytes]:
    """A stored file as one of this machine."""
    stream = store.open(stored.sha256)
    try:
        stream.fileno()
    except OSError:
        copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it.
        with stream:
            while chunk := stream.read(1 << 20):
                copy.write(chunk)
        copy.flush()
        return copy
    return stream


def _said(name: FileName, held: Held) -> Said:
    if fault := held.get("fault"):
        raise BadDeb(name, fault)
    control = held["control"].rstrip("\n") + "\n"
    try:
        said = replace(_parse(control), suffix=".udeb" if name.endswith(".udeb") else ".deb")
    except ValueError as error:
        raise BadDeb(name, f"its control file: {error}") from error
    if said.file_name != name:
        raise BadDeb(name, f"must be called {said.file_name}, by what its control file says")
    return said


def _parse(control: str) -> Said:
    """:raises ValueError: the control file is not what it must be; the message says why."""
    _must_be_a_paragraph(control)
    fields = Deb822(control.split("\n"))
    if missing := [name for name in _MANDATORY if not fields.get(name, "").strip()]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if extra := sorted({str(name) for name in fields if str(name).lower() in _NOT_ITS_OWN}):
        raise ValueError(f"it must not have {', '.join(extra)}")
    name, version = _match(fields, "Package", _NAME)["it"], _match(fields, "Version", _VERSION)["it"]
    source = _match(fields, "Source", _SOURCE, default=name)
    source_version = source["version"] or version
    if not _VERSION.fullmatch(source_version):
        raise ValueError(f"Source: {source_version[:100]!r} is no version")
    try:
        architecture = parse_architecture(fields["Architecture"].strip())
    except ProtocolError as error:
        raise ValueError(str(error)) from error
    debug = fields.get("Auto-Built-Package", "").strip() == "debug-symbols" or name.endswith("-dbgsym")
    section = _match(fields, "Section", _SECTION, default="misc")["it"]
    return Said(
        name=name,
        version=version,
        architecture=architecture,
        source=source["name"],
        source_version=source_version,
        section=section,
        debug=debug,
        control=control,
    )


def _must_be_a_paragraph(control: str) -> None:
    """Refuse what readers could read in different ways."""
    seen: set[str] = set()
    for line in control.removesuffix("\n").split("\n"):
        if not line.strip():
            raise ValueError("it has an empty line")
        if any(letter != "\t" and unicodedata.category(letter) in _BREAKS for letter in line):
            raise ValueError(f"it has control characters: {line[:100]!r}")
        if line[0] in " \t":
            if not seen:
                raise ValueError("it begins in the middle of a field")
            continue
        field = _FIELD.fullmatch(line) or _no_field(line)
        if field[1].lower() in seen:
            raise ValueError(f"it has {field[1]} twice")
        seen.add(field[1].lower())


def _no_field(line: str) -> re.Match[str]:
    raise ValueError(f"this is no field: {line[:100]!r}")


def _match(fields: Mapping[str, str], name: str, pattern: re.Pattern[str], default: str = "") -> dict[str, str]:
    """The parts of a field, and all of it as `it`."""
    value = fields.get(name, "").strip() or default
    found = pattern.fullmatch(value)
    if found is None:
        raise ValueError(f"{name}: {value[:100]!r} is not what it may be")
    return {**found.groupdict(), "it": value}
