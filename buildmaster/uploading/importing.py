"""Packages that somebody has, and no upload of them: for each source a .changes is made, and judged like others."""

import hashlib
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from buildd.control import ControlError, parse_dsc
from buildmaster.uploading.arrivals import Arrived, Folder, Received
from buildmaster.uploading.rules import BINARIES, no_epoch

_SHOWN = ("source:Package", "source:Version", "Package", "Version", "Architecture", "Section", "Maintainer")
_PIECE = 1 << 20


class CannotImport(Exception):
    """Files are no packages; the message says which, and why."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True)
class _File:
    """A file that is a part of what is imported."""

    path: Path
    name: str  # What it is to be called.
    architecture: str  # "source", of a .dsc and what that names.
    section: str
    maintainer: str


@dataclass(frozen=True)
class Import:
    """A source package, binary packages of one, or both."""

    source: str
    version: str  # Of the source.
    pieces: tuple[_File, ...]

    def received(self, suite: str, now: float) -> Received:
        """As if it had been uploaded.

        :raises OSError: a file cannot be read.
        """
        architectures = sorted({each.architecture for each in self.pieces}, key=lambda each: (each != "source", each))
        stem = f"{self.source}_{no_epoch(self.version)}"
        content = "\n".join([
            "Format: 1.8",
            f"Date: {formatdate(now)}",
            f"Source: {self.source}",
            f"Architecture: {' '.join(architectures)}",
            f"Version: {self.version}",
            f"Distribution: {suite}",
            "Urgency: low",
            f"Maintainer: {self.pieces[0].maintainer}",
            f"Changes:\n {self.source} ({self.version}) {suite}; urgency=low\n .\n   * Imported.",
            *self._lists(),
            "",
        ])  # fmt: skip
        arrivals = _Arrivals({each.name: each.path for each in self.pieces})
        return Received(f"{stem}_{'+'.join(architectures)}.changes", content.encode(), arrivals)

    def _lists(self) -> list[str]:
        lines: dict[str, list[str]] = {"Checksums-Sha1": [], "Checksums-Sha256": [], "Files": []}
        for each in self.pieces:
            size, md5, sha1, sha256 = _digests(each.path)
            lines["Checksums-Sha1"].append(f" {sha1} {size} {each.name}")
            lines["Checksums-Sha256"].append(f" {sha256} {size} {each.name}")
            lines["Files"].append(f" {md5} {size} {each.section} optional {each.name}")
        return ["\n".join([f"{name}:", *each]) for name, each in lines.items()]


@dataclass(frozen=True)
class _Arrivals:
    """Files that are called otherwise than they are to be."""

    paths: Mapping[str, Path]

    def find(self, name: str, sha256: str) -> Arrived | None:
        path = self.paths.get(name)
        return None if path is None else Folder(path.parent).find(path.name, sha256)


def read(paths: Iterable[Path]) -> list[Import]:
    """What .dsc files, with what they name beside them, and .deb files are, by source. Blocks.

    A .deb may have any name, as those have that apt has downloaded: it is called by what it says.

    :raises CannotImport: some are no packages, all of which are told.
    :raises OSError: one cannot be read.
    """
    found: dict[tuple[str, str], list[_File]] = defaultdict(list)
    faults = []
    for path in dict.fromkeys(paths):
        try:
            source, version, pieces = _source(path) if path.suffix == ".dsc" else _binary(path)
        except (ControlError, CannotImport) as error:
            faults += [f"{path}: {fault}" for fault in error.faults]
        else:
            found[source, version] += pieces
    if faults:
        raise CannotImport(faults)
    ordered = {key: sorted(pieces, key=lambda each: each.architecture != "source") for key, pieces in found.items()}
    return [Import(source, version, tuple(ordered[source, version])) for source, version in sorted(ordered)]


def _source(path: Path) -> tuple[str, str, list[_File]]:
    """A .dsc, and of what it names that which is beside it: the archive may have the rest."""
    dsc = parse_dsc(path)
    listed = [line.split() for line in dsc.field("Package-List").splitlines()]
    section = next((words[2] for words in listed if len(words) > 2), "misc")
    maintainer = " ".join(dsc.field("Maintainer").split())
    beside = [path, *(path.parent / each.name for each in dsc.files)]
    pieces = [_File(each, each.name, "source", section, maintainer) for each in beside if each.is_file()]
    return dsc.source, dsc.version, pieces


def _binary(path: Path) -> tuple[str, str, list[_File]]:
    suffix = path.suffix
    if suffix not in BINARIES:
        raise CannotImport(["give .dsc files and .deb files"])
    shown = "".join(f"${{{name}}}\n" for name in _SHOWN)
    command = ["dpkg-deb", "--show", f"--showformat={shown}", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise CannotImport([" ".join(done.stderr.replace("dpkg-deb: error: ", "").split()) or "it is no .deb"])
    said = done.stdout.split("\n")[:-1]
    if len(said) != len(_SHOWN):
        raise CannotImport(["a field of its control file has several lines that may have one"])
    source, source_version, name, version, architecture, section, maintainer = said
    own = f"{name}_{no_epoch(version)}_{architecture}{suffix}"
    return source, source_version, [_File(path, own, architecture, section or "misc", maintainer)]


def _digests(path: Path) -> tuple[int, str, str, str]:
    """A file's size, MD5, SHA-1 and SHA-256."""
    digests, size = [hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256")], 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            size += len(piece)
            for each in digests:
                each.update(piece)
    md5, sha1, sha256 = (each.hexdigest() for each in digests)
    return size, md5, sha1, sha256
