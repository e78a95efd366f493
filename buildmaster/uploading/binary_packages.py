"""Binary packages in an upload: what they say, and whether they belong there."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

from buildd.control import Changes
from buildd.protocol import FileName
from buildmaster import debs
from buildmaster.binaries import Deb
from buildmaster.debs import BadDeb, Said
from buildmaster.store import Sha256, Store, StoredFile
from buildmaster.uploading.arrivals import Arrived
from buildmaster.uploading.rules import Came

_PIECE = 1 << 20


@dataclass(frozen=True)
class Packages:
    """The binary packages of an upload."""

    names: tuple[FileName, ...] = ()
    source_version: str = ""  # Of what they were built of, which a binary rebuild has another version than.
    architectures: frozenset[str] = frozenset()  # With `all`.


def look(changes: Changes, files: Mapping[str, Arrived], there: Collection[str]) -> tuple[list[str], Packages]:
    """What is wrong with the .deb files that came as they should, and what they are. Blocks.

    :param there: the architectures of the series.
    """
    names = [
        each.name
        for each in changes.files
        if each.name.endswith(debs.SUFFIXES)
        and each.name in files
        and files[each.name].came == Came(each.size, each.sha256)
    ]
    if not names:
        return [], Packages()
    faults = [f"{each} is not accepted here: packages are .deb and .udeb files" for each in _others(changes)]
    try:
        with ExitStack() as stack:
            streams: dict[FileName, IO[bytes]] = {
                name: stack.enter_context(files[name].path.open("rb")) for name in names
            }
            found = debs.examine(streams)
    except BadDeb as error:
        return [*faults, f"{error.name} {error.why}: build it again"], Packages()
    for name, said in zip(names, found, strict=True):
        faults += _misplaced(name, said, changes, there)
    versions = sorted({said.source_version for said in found})
    if len(versions) > 1:
        faults.append(f"the packages of {changes.source} are of several versions of it ({', '.join(versions)})")
    architectures = frozenset(said.architecture for said in found)
    return faults, Packages(tuple(names), versions[0], architectures)


def _others(changes: Changes) -> list[str]:
    return [each.name for each in changes.files if each.name.endswith(".ddeb")]


def _misplaced(name: str, said: Said, changes: Changes, there: Collection[str]) -> list[str]:
    faults = []
    if said.source != changes.source:
        faults.append(f"{name} is built of {said.source}, not of {changes.source}: upload it with its own source")
    if said.architecture not in changes.architectures:
        words = " ".join(changes.architectures)
        faults.append(f"{name} is for {said.architecture}, which is not in Architecture ({words}): build it again")
    if said.architecture != "all" and said.architecture not in there:
        faults.append(f"{name} is for {said.architecture}, but the series has: {' '.join(sorted(there)) or 'none'}")
    return faults


def store(target: Store, packages: Packages, changes: Changes, files: Mapping[str, Arrived]) -> Sequence[Deb]:
    """Put packages into the store, each compared once more with what was promised. Blocks.

    :raises BadDeb: one is not as promised.
    :raises OSError: a file cannot be read, or the store is full.
    """
    promised = {each.name: each for each in changes.files}
    stored = {name: _store(target, name, files[name], Sha256(promised[name].sha256)) for name in packages.names}
    return debs.read(target, stored)


def _store(target: Store, name: FileName, arrived: Arrived, sha256: Sha256) -> StoredFile:
    writer = target.writer()
    try:
        with arrived.path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                writer.write(piece)
        if writer.sha256 != sha256:
            raise BadDeb(name, "was changed while it was looked at: send it again")
        return writer.commit()
    finally:
        writer.discard()
