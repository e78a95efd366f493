"""Reads an upload as hostile input, and says all that is wrong with it. Nothing is recorded or kept."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from sqlalchemy import Connection

from buildd.control import Changes, ControlError, Dsc, parse_changes, parse_dsc
from buildmaster import packages, uploaders, uploads
from buildmaster.farm import Farm
from buildmaster.scoring import Pocket
from buildmaster.uploaders import Uploader
from buildmaster.uploading import binary_packages, rules, signatures, tarballs
from buildmaster.uploading.arrivals import Arrived, NotReadable, Received, read_control
from buildmaster.uploading.binary_packages import Packages
from buildmaster.uploading.rules import Came, Target, Upload
from buildmaster.uploading.signatures import SignatureRefused
from buildmaster.uploading.tarballs import BadTarball
from buildmaster.uploading.terms import Terms
from buildmaster.uploads import Had, Place

FILES_MAX = 5000  # The largest upload of Debian's has 700.


@dataclass(frozen=True)
class Sources:
    """A .dsc that can be read."""

    name: str
    content: bytes  # As it came, with its signature.
    dsc: Dsc


@dataclass(frozen=True)
class Judgement:
    """What an upload is, and what is wrong with it."""

    name: str  # Of the .changes.
    sha256: str  # Likewise.
    faults: tuple[str, ...]  # (): nothing.
    uploader: Uploader | None = None  # Who has signed it for certain.
    changes: Changes | None = None  # As far as it could be read.
    suite: tuple[str, Pocket] | None = None
    sources: Sources | None = None
    files: Mapping[str, Arrived] = field(default_factory=dict)  # Those that came, of those that it names.
    packages: Packages = field(default_factory=Packages)
    source_id: int | None = None  # Of what the archive has, to which the packages come; None: it comes with them.


def judge(farm: Farm, received: Received, place: Place, terms: Terms, now: float) -> Judgement:
    """Say what is wrong with an upload. Blocks.

    :raises OSError: a file that came cannot be read.
    """
    name, content = received.name, received.content
    digest = hashlib.sha256(content).hexdigest()
    with farm.reading() as connection:
        known = uploaders.every(connection, place.archive_id)
        again = uploads.is_accepted(connection, place.archive_id, digest)
    if again:
        return Judgement(name, digest, (f"{name} was accepted before, as it is: there is nothing to do",))
    signed = _Signed(place, known, terms, now)
    payload = signed.read(name, content)
    uploader = signed.by
    faults = list(signed.faults)
    changes = None
    if not (unreadable := rules.unreadable(name, payload)):
        try:
            changes = parse_changes(PurePath(name), payload)
        except ControlError as error:
            unreadable = list(error.faults)
    if changes is not None and len(changes.files) >= FILES_MAX:
        changes, unreadable = None, [f"{name} names {FILES_MAX} files or more, as no upload does: build it again"]
    if changes is None:
        return Judgement(name, digest, (*faults, *unreadable), uploader)
    looked_for = {str(each.name): received.arrivals.find(each.name, each.sha256) for each in changes.files}
    files = {each: found for each, found in looked_for.items() if found is not None}
    dsc_faults, sources = _dscs(changes, files, signed)
    wanted = {each.name for each in changes.files}
    wanted |= {each.name for one in sources for each in one.dsc.files}
    suite = rules.suite(changes.distribution, place.series)
    with farm.reading() as connection:
        there = uploads.architectures(connection, place, suite[0]) if suite else frozenset()
    binary_faults, found = binary_packages.look(changes, files, there) if place.binaries else ([], Packages())
    dsc_faults += binary_faults
    with farm.reading() as connection:
        had = uploads.had(connection, place.archive_id, changes.source, wanted)
        buildable = _buildable(connection, place, changes, sources)
        source_id = None
        if found.names and not sources:
            source_id, fault = _source(connection, place, changes, found, suite)
            dsc_faults += fault
    upload = Upload(
        name, changes, {each: found.came for each, found in files.items()}, {s.name: s.dsc for s in sources}
    )
    faults += [*dsc_faults, *rules.faults(upload, _target(place, had)), *buildable, *_size(changes, name, terms)]
    if not faults:  # What takes long comes last.
        faults += _tarballs(sources, files, terms)
    return Judgement(
        name,
        digest,
        tuple(dict.fromkeys(map(rules.words, faults))),
        uploader,
        changes,
        suite,
        sources[0] if sources else None,
        files,
        found,
        source_id,
    )


class _Signed:
    """Reads signed files, and notes what is wrong with signatures."""

    def __init__(self, place: Place, known: Sequence[Uploader], terms: Terms, now: float) -> None:
        self._place = place
        self._known = known
        self._terms = terms
        self._now = now
        self.faults: list[str] = []
        self.by: Uploader | None = None  # Who signed the last one for certain.

    def read(self, name: str, content: bytes) -> bytes:
        """What is signed of a file; or what would be, where that is a fault or does not matter."""
        self.by, self.faults = None, []
        if not self._terms.signed:
            return signatures.unsigned(content)
        certificates = [each.certificate for each in self._known]
        try:
            signed = signatures.check(name, content, certificates, self._now, self._place.words)
        except SignatureRefused as refused:
            self.faults = [str(refused)]
            return refused.payload
        self.by = next(each for each in self._known if each.fingerprint == signed.fingerprint)
        return signed.payload


def _dscs(changes: Changes, files: Mapping[str, Arrived], signed: _Signed) -> tuple[list[str], list[Sources]]:
    """The faults of .dsc files as such, and those that can be read. One that is not what it should be is not read."""
    faults: list[str] = []
    found = []
    for listed in changes.files:
        arrived = files.get(listed.name)
        if not listed.name.endswith(".dsc") or arrived is None or arrived.came != Came(listed.size, listed.sha256):
            continue
        try:
            content = read_control(arrived.path)
        except NotReadable as error:
            faults.append(f"{listed.name} {error}")
            continue
        payload = signed.read(listed.name, content)
        faults += signed.faults
        if unreadable := rules.unreadable(listed.name, payload):
            faults += unreadable
            continue
        try:
            dsc = parse_dsc(PurePath(listed.name), payload)
            if len(dsc.files) >= FILES_MAX:
                raise ControlError(f"{listed.name} names {FILES_MAX} files or more, as no source package does")
            if dsc != parse_dsc(PurePath(listed.name), content):  # As everybody else reads it.
                faults.append(f"{listed.name} reads otherwise than what is signed of it: sign it again")
            found.append(Sources(listed.name, content, dsc))
        except ControlError as error:
            faults += error.faults
    return faults, found


def _target(place: Place, had: Had) -> Target:
    files = {name: Came(size, sha256) for name, (size, sha256) in had.files.items()}
    return Target(place.words, place.series, place.binaries, had.newest, had.known, files)


def _source(
    connection: Connection, place: Place, changes: Changes, found: Packages, suite: tuple[str, Pocket] | None
) -> tuple[int | None, list[str]]:
    """What packages belong to that come without their source: its id, or that there is none."""
    sources = uploads.find_source(connection, place.archive_id, changes.source, found.source_version)
    fitting = next((each.id for each in sources if each.suite == suite), None)
    if fitting is not None:
        return fitting, []
    where = f"{changes.distribution} of {place.words}"
    return None, [f"{changes.source} {found.source_version} is not in {where}: upload its source as well"]


def _buildable(connection: Connection, place: Place, changes: Changes, sources: Sequence[Sources]) -> list[str]:
    suite = rules.suite(changes.distribution, place.series)
    if suite is None:
        return []  # Told by the rules.
    try:
        for each in sources:
            packages.check_buildable(connection, place.distribution, suite[0], each.name, each.dsc)
    except packages.SourceRefused as error:
        return [str(error)]
    return []


def _size(changes: Changes, name: str, terms: Terms) -> list[str]:
    total = sum(each.size for each in changes.files)
    if total > terms.upload_bytes:
        return [
            f"{name} names files of {total} bytes in all, more than the {terms.upload_bytes} that are accepted here"
        ]
    return []


def _tarballs(sources: Sequence[Sources], files: Mapping[str, Arrived], terms: Terms) -> list[str]:
    """What is wrong inside of those that came; what the archive has was looked at when it came."""
    faults = []
    for name in (listed.name for each in sources for listed in each.dsc.files):
        if name not in files:
            continue
        try:
            if ".tar." in name and not name.endswith(".asc"):
                tarballs.look_over(files[name].path, name, terms.unpacked_bytes)
            elif name.endswith(".diff.gz"):
                tarballs.unpack(files[name].path, name, terms.unpacked_bytes)
        except BadTarball as error:
            faults.append(f"{name} {error}")
    return faults
