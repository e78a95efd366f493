"""Reads an upload as hostile input, and says all that is wrong with it. Nothing is recorded or kept."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from sqlalchemy import Connection

from buildd.control import Changes, ControlError, Dsc, parse_changes, parse_dsc
from buildd.relations import parse_relations
from buildmaster import packages, uploaders, uploads
from buildmaster.farm import Farm
from buildmaster.scoring import Pocket
from buildmaster.store import NotStored, Sha256
from buildmaster.uploaders import Uploader
from buildmaster.uploading import binary_packages, rules, signatures, tarballs, weak_digests
from buildmaster.uploading.arrivals import Arrived, NotReadable, Received, read_control
from buildmaster.uploading.binary_packages import Packages
from buildmaster.uploading.rules import Came, Target, Upload
from buildmaster.uploading.signatures import SignatureRefused
from buildmaster.uploading.tarballs import BadTarball
from buildmaster.uploading.terms import Terms
from buildmaster.uploads import Had, Place

FILES_MAX = 1000  # The largest upload of Debian's has 700.
_RELATIONS = [f"Build-{kind}{of}" for kind in ("Depends", "Conflicts") for of in ("", "-Arch", "-Indep")]
STRANGERS_BYTES = 1 << 16  # A .changes that is larger is not looked at further, when nobody known has signed it.


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
    sha256: str  # Of what is signed and the signature; where that is not good, of the .changes.
    faults: tuple[str, ...]  # (): nothing.
    uploader: Uploader | None = None  # Who has signed it for certain.
    changes: Changes | None = None  # As far as it could be read.
    suite: tuple[str, Pocket] | None = None
    sources: Sources | None = None
    files: Mapping[str, Arrived] = field(default_factory=dict)  # Those that came, of those that it names.
    packages: Packages = field(default_factory=Packages)
    source_id: int | None = None  # Of what the archive has, to which the packages come; None: it comes with them.
    again: bool = False  # This archive has accepted this very one.


def judge(farm: Farm, received: Received, place: Place, terms: Terms, now: float) -> Judgement:
    """Say what is wrong with an upload. Blocks.

    For who is not known, no more is done than takes milliseconds.

    :raises OSError: a file that came cannot be read.
    """
    name, content = received.name, received.content
    with farm.reading() as connection:
        known = uploaders.every(connection, place.archive_id)
    signed = _Signed(place, known, terms, now)
    payload = signed.read(name, content, terms.signature_s)
    judgement = Judgement(name, signed.identity or hashlib.sha256(content).hexdigest(), (), signed.by)
    faults = list(signed.faults)
    trusted = not faults
    if faults and len(content) > STRANGERS_BYTES:
        return replace(judgement, faults=rules.told(faults))
    with farm.reading() as connection:
        before = uploads.accepted_by(connection, judgement.sha256)
    if before:
        return replace(judgement, faults=(_again(name, before, place),), again=before == place.words)
    changes, unreadable = _read_changes(name, payload)
    if changes is None:
        return replace(judgement, faults=rules.told([*faults, *unreadable]))
    looked_for = {str(each.name): received.arrivals.find(each.name, each.sha256) for each in changes.files}
    files = {each: found for each, found in looked_for.items() if found is not None}
    dsc_faults, sources = _dscs(changes, files, signed)
    faults += dsc_faults
    wanted = {each.name for each in changes.files}
    wanted |= {each.name for one in sources for each in one.dsc.files}
    with farm.reading() as connection:
        had = uploads.had(connection, place.archive_id, changes.source, wanted)
        buildable = _buildable(connection, place, changes, sources)
    came = {each: found.came for each, found in files.items()}
    upload = Upload(name, changes, came, {each.name: each.dsc for each in sources})
    faults += [*rules.faults(upload, _target(place, had)), *buildable, *_size(changes, name, terms)]
    suite = rules.suite(changes.distribution, place.series)
    found, source_id = Packages(), None
    if trusted:  # What takes long is done only for who has signed.
        whole = _as_promised(changes, files)
        faults += [*_tarballs(sources, whole, terms), *_digests(farm, changes, name, sources, whole)]
        faults += _relations(sources)
    if trusted and suite is not None:
        binary_faults, found, source_id = _packages(farm, place, changes, files, suite, alone=not sources)
        faults += binary_faults
    return replace(
        judgement,
        faults=rules.told(faults),
        changes=changes,
        suite=suite,
        sources=sources[0] if sources else None,
        files=files,
        packages=found,
        source_id=source_id,
    )


def _again(name: str, before: str, place: Place) -> str:
    if before == place.words:
        return f"{name} was accepted before, as it is: there is nothing to do"
    return (
        f"{name} was accepted by {before} before: sign it once more for {place.words}, or have it copied "
        "(`buildmaster archive copy`)"
    )


def _read_changes(name: str, payload: bytes) -> tuple[Changes | None, list[str]]:
    """What a .changes says; or what is wrong with it as such."""
    if unreadable := rules.unreadable(name, payload):
        return None, unreadable
    try:
        changes = parse_changes(PurePath(name), payload)
    except ControlError as error:
        return None, list(error.faults)
    if len(changes.files) >= FILES_MAX:
        return None, [f"{name} names {FILES_MAX} files or more, as no upload does: build it again"]
    return changes, []


def _packages(
    farm: Farm, place: Place, changes: Changes, files: Mapping[str, Arrived], suite: tuple[str, Pocket], *, alone: bool
) -> tuple[list[str], Packages, int | None]:
    """The binary packages of an upload, and the id of what they belong to, if that is there: what is wrong with them.

    :param alone: they come without their source.
    """
    if not place.binaries:
        return [], Packages(), None
    with farm.reading() as connection:
        there = uploads.architectures(connection, place, suite[0])
    faults, found = binary_packages.look(changes, files, there)
    if not found.names:
        return faults, found, None
    if not alone:
        if found.source_version != changes.version:
            of = f"{changes.source} {found.source_version}"
            faults.append(f"the packages are of {of}, and {changes.version} comes with them: build them of that")
        return faults, found, None
    with farm.reading() as connection:
        source_id, more = _source(connection, place, changes, found, suite)
    return [*faults, *more], found, source_id


class _Signed:
    """Reads signed files, and notes what is wrong with signatures."""

    def __init__(self, place: Place, known: Sequence[Uploader], terms: Terms, now: float) -> None:
        self._place = place
        self._known = known
        self._terms = terms
        self._now = now
        self.faults: list[str] = []
        self.by: Uploader | None = None  # Who signed the last one for certain.
        self.identity = ""  # Of that one; see signatures.Signed.

    def read(self, name: str, content: bytes, age_s: float = math.inf) -> bytes:
        """What is signed of a file; or what would be, where that is a fault or does not matter.

        :param age_s: that the signature may have.
        """
        self.by, self.identity, self.faults = None, "", []
        if not self._terms.signed:
            return signatures.unsigned(content)
        certificates = [each.certificate for each in self._known]
        try:
            signed = signatures.check(name, content, certificates, self._now, self._place.words, age_s=age_s)
        except SignatureRefused as refused:
            self.faults = [str(refused)]
            return refused.payload
        self.identity = signed.identity
        self.by = next(each for each in self._known if each.fingerprint == signed.fingerprint)
        return signed.payload


def _dscs(changes: Changes, files: Mapping[str, Arrived], signed: _Signed) -> tuple[list[str], list[Sources]]:
    """The faults of .dsc files as such, and those that can be read. One that is not what it should be is not read."""
    faults: list[str] = []
    found = []
    for listed in [each for each in changes.files if each.name.endswith(".dsc")][:1]:  # The rules allow no more.
        arrived = files.get(listed.name)
        if arrived is None or arrived.came != Came(listed.size, listed.sha256):
            continue
        try:
            content = read_control(arrived.path)
        except NotReadable as error:
            faults.append(f"{listed.name} {error}")
            continue
        payload = signed.read(listed.name, content)
        faults += signed.faults
        if signed.faults and len(content) > STRANGERS_BYTES:
            continue
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
    connection: Connection, place: Place, changes: Changes, found: Packages, suite: tuple[str, Pocket]
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


def _as_promised(changes: Changes, files: Mapping[str, Arrived]) -> dict[str, Arrived]:
    """The files that are what the .changes says: of the others there is no more to say."""
    promised = {str(each.name): Came(each.size, each.sha256) for each in changes.files}
    return {name: each for name, each in files.items() if each.came == promised[name]}


def _relations(sources: Sequence[Sources]) -> list[str]:
    """What no builder could read."""
    faults = []
    for each in sources:
        for name in _RELATIONS:
            try:
                parse_relations(each.dsc.field(name), "amd64")  # Any architecture will do.
            except ControlError as error:
                faults.append(f"{name} of {each.name} is {error}: mend debian/control, and build it again")
    return faults


def _digests(
    farm: Farm, changes: Changes, name: str, sources: Sequence[Sources], files: Mapping[str, Arrived]
) -> list[str]:
    """Which of the weaker digests are wrong: of what came, and of what the .dsc names that the archive has."""
    faults: list[str] = []
    said = weak_digests.said_by([(name, changes.fields), *((each.name, each.dsc.fields) for each in sources)])
    for each, arrived in files.items():
        with arrived.path.open("rb") as stream:
            faults += weak_digests.wrong(each, stream, said.get(each, []))
    came = {each.name for each in changes.files}
    for listed in (listed for each in sources for listed in each.dsc.files if listed.name not in came):
        with suppress(NotStored), farm.store.open(Sha256(listed.sha256)) as stored:
            faults += weak_digests.wrong(listed.name, stored, said.get(listed.name, []))
    return faults


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
