"""What is wrong with an upload: rules over what was read of it, and of the archive that it is for. Pure.

Every rule gives sentences that say what to do; none stops another. Signatures are judged elsewhere.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from debian.debian_support import Version

from buildd.control import Changes, Dsc, ListedFile
from buildmaster.scoring import COMPONENT, Pocket
from buildmaster.uploading import weak_digests

BINARIES = (".deb", ".udeb", ".ddeb")
_TAR = r"\.tar\.(?:gz|bz2|xz|lzma)"
# What each format of source packages consists of (dpkg-source(1)): patterns behind NAME_, and how often each may come.
_FORMATS: dict[str, dict[str, tuple[int, int]]] = {
    "1.0": {r"[^/]*\.tar\.gz": (1, 1), r"[^/]*\.diff\.gz": (0, 1), r"[^/]*\.orig\.tar\.gz\.asc": (0, 1)},
    "3.0 (native)": {rf"[^/]*{_TAR}": (1, 1)},
    "3.0 (quilt)": {
        rf"[^/]*\.orig{_TAR}": (1, 1),
        rf"[^/]*\.orig-[A-Za-z0-9-]+{_TAR}": (0, 1000),
        rf"[^/]*\.debian{_TAR}": (1, 1),
        rf"[^/]*\.orig(?:-[A-Za-z0-9-]+)?{_TAR}\.asc": (0, 1000),
    },
}
_BARE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]|\r(?!\n)")  # Some take these for ends of lines.
_FIELD = re.compile(r"(?![#-])([!-9;-~]+):")
_FIELDS_MAX = 200
_FAULTS_MAX = 50
# What nothing else asks for, but everybody who reads them takes for granted (Debian Policy 5.4, 5.5).
_MANDATORY = ("Format", "Date", "Maintainer", "Changes")
_MANDATORY_DSC = ("Format", "Maintainer")


@dataclass(frozen=True)
class Came:
    """A file that came, or that the archive has."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Target:
    """The archive that an upload is for, as far as that matters."""

    name: str  # debian/mine
    series: frozenset[str]
    binaries: bool  # Uploads of binary packages are accepted.
    newest: Mapping[tuple[str, Pocket], str] = field(default_factory=dict)  # Of the source: its versions there.
    # Of the source: versions that the archive has or had, and the digests of their .dsc files.
    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    files: Mapping[str, Came] = field(default_factory=dict)  # What it has of the names that the upload names.


@dataclass(frozen=True)
class Upload:
    """An upload as it was read."""

    name: str  # Of the .changes.
    changes: Changes
    came: Mapping[str, Came]  # Of the files that it names, those that came.
    dscs: Mapping[str, Dsc] = field(default_factory=dict)  # Those that could be read.


def unreadable(file: str, payload: bytes) -> list[str]:
    """What is wrong with a control file as text, before anything is made of it.

    What passes has one meaning, whoever reads it: one paragraph, each field once.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        return [f"{file} is not in UTF-8 (byte {error.start}): write it in UTF-8 and sign it again"]
    if bare := _BARE.search(text):
        line = text.count("\n", 0, bare.start()) + 1
        return [f"{file} has a control character ({bare[0]!r}) in line {line}: take it out and sign it again"]
    lines = [line.rstrip() for line in text.strip("\r\n").split("\n")]
    faults = []
    if "" in lines:
        faults.append(f"{file} has more than one paragraph: it must have one, with all fields")
    others = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith((" ", "\t"))]
    names = Counter(found[1].lower() for _, line in others if (found := _FIELD.match(line)))
    if len(names) > _FIELDS_MAX:
        return [*faults, f"{file} has more than {_FIELDS_MAX} fields: leave those out that are none of Debian's"]
    strange = next(((number, line) for number, line in others if not _FIELD.match(line)), None)
    if strange is not None:
        faults.append(f"{file} has something in line {strange[0]} that is no field: {strange[1][:60]!r}")
    twice = sorted(name for name, times in names.items() if times > 1)
    faults += [f"{file} has the field {name.capitalize()} twice: leave one" for name in twice]
    return faults


def faults(upload: Upload, target: Target) -> list[str]:
    """All that is wrong with an upload, in the order in which one would look."""
    rules = (_mandatory, _names, _lists, _files, _kinds, _sources, _sections, _suite, _versions, _known)
    return list(dict.fromkeys(fault for rule in rules for fault in rule(upload, target)))


def suite(distribution: str, series: frozenset[str]) -> tuple[str, Pocket] | None:
    """The series and pocket that a Distribution field means; None: there is none such."""
    if distribution in series:
        return distribution, Pocket.RELEASE
    name, _, word = distribution.rpartition("-")
    pocket = next((each for each in Pocket if each is not Pocket.RELEASE and each.lower() == word), None)
    return (name, pocket) if name in series and pocket is not None else None


def component(section: str) -> str:
    """The component that a section is in: contrib/net is in contrib."""
    before, slash, _ = section.partition("/")
    return before if slash else "main"


def sections(changes: Changes) -> dict[str, str]:
    """File name to section, by the Files field."""
    rows = (line.split() for line in changes.fields.get("files", "").splitlines())
    return {words[4]: words[2] for words in rows if len(words) == 5}


def _mandatory(upload: Upload, target: Target) -> Iterator[str]:
    for name in _MANDATORY:
        if not upload.changes.fields.get(name.lower()):
            yield f"{upload.name} has no {name}: build the source package again"
    for dsc_name, dsc in upload.dscs.items():
        for name in _MANDATORY_DSC:
            if not dsc.field(name):
                yield f"{dsc_name} has no {name}: build the source package again"


def _names(upload: Upload, target: Target) -> Iterator[str]:
    changes = upload.changes
    stem = f"{changes.source}_{no_epoch(changes.version)}"
    if not re.fullmatch(rf"{re.escape(stem)}_[A-Za-z0-9.+~-]+\.changes", upload.name):
        yield f"{upload.name} is not what it must be called: {stem}_ARCHITECTURE.changes, by what is in it"
    for listed in changes.files:
        expected = {".dsc": rf"{re.escape(stem)}\.dsc", ".buildinfo": rf"{re.escape(stem)}_[A-Za-z0-9.+~-]+\.buildinfo"}
        suffix = next((each for each in expected if listed.name.endswith(each)), None)
        if suffix and not re.fullmatch(expected[suffix], listed.name):
            yield f"{listed.name} is not of {changes.source} {changes.version}: take it out of {upload.name}"


def _lists(upload: Upload, target: Target) -> Iterator[str]:
    """Files, Checksums-Sha1 and Checksums-Sha256 have the same names and sizes."""
    fields = upload.changes.fields
    of_files = [words[-1] for line in fields.get("files", "").splitlines() if (words := line.split())]
    for name in sorted(name for name, times in Counter(of_files).items() if times > 1):
        yield f"{upload.name} names {name} twice in Files: build the source package again"
    listed = {str(each.name): each.size for each in upload.changes.files}
    if set(of_files) != set(listed):
        different = ", ".join(sorted(set(of_files) ^ set(listed)))
        yield f"in {upload.name}, Files and Checksums-Sha256 do not name the same files ({different}): build it again"
    for line in fields.get("files", "").splitlines():
        words = line.split()
        if words and (len(words) != 5 or not words[1].isdecimal()):
            yield f"in {upload.name}, a line of Files is not 'digest size section priority name': {line.strip()[:80]}"
        elif words and listed.get(words[4], int(words[1][:18])) != int(words[1][:18]):
            yield f"in {upload.name}, Files and Checksums-Sha256 have different sizes for {words[4]}: build it again"
    for listed_file in upload.changes.files:
        if listed_file.name == upload.name:
            yield f"{upload.name} names itself: build the source package again"
    yield from _differ(upload.name, fields, "Checksums-Sha1", upload.changes.files)
    for name, dsc in upload.dscs.items():
        for field_name in weak_digests.FIELDS:
            yield from _differ(name, dsc.fields, field_name, dsc.files)


def _differ(by: str, fields: Mapping[str, str], field_name: str, files: Sequence[ListedFile]) -> Iterator[str]:
    """Only Checksums-Sha1 may be missing (dpkg-source asks for the other)."""
    said = {(each.name, each.size) for each in weak_digests.listed(fields, field_name)}
    if (said or field_name == "Files") and said != {(each.name, str(each.size)) for each in files}:
        yield f"in {by}, {field_name} does not name the same files and sizes as Checksums-Sha256: build it again"


def _files(upload: Upload, target: Target) -> Iterator[str]:
    for listed in upload.changes.files:
        came = upload.came.get(listed.name)
        if came is None:
            yield f"{listed.name} did not come, but {upload.name} names it: send it as well"
        else:
            yield from _differs(listed, came, upload.name)


def _differs(listed: ListedFile, came: Came, by: str) -> Iterator[str]:
    if came.size != listed.size:
        yield f"{listed.name} has {came.size} bytes, but {by} says {listed.size}: send it again, whole"
    elif came.sha256 != listed.sha256:
        yield f"{listed.name} does not have the SHA-256 that {by} says: send it again, or build it again"


def _kinds(upload: Upload, target: Target) -> Iterator[str]:
    """What is uploaded: a source, binary packages, both; and nothing else."""
    changes = upload.changes
    names = [listed.name for listed in changes.files]
    binaries = [name for name in names if name.endswith(BINARIES)]
    dscs = [name for name in names if name.endswith(".dsc")]
    if binaries and not target.binaries:
        yield (
            f"{target.name} takes sources only, and {binaries[0]} is a binary package: upload what "
            "`dpkg-buildpackage --build=source` makes"
        )
    if len(dscs) > 1:
        yield f"{upload.name} names {len(dscs)} source packages: upload one at a time"
    if not dscs and not binaries:
        yield f"{upload.name} names no source package (.dsc): upload what `dpkg-buildpackage --build=source` makes"
    if ("source" in changes.architectures) != bool(dscs):
        said = " ".join(changes.architectures)
        yield f"{upload.name} has Architecture: {said}, which is not what it names: build it again"
    of_source = {each.name for dsc in upload.dscs.values() for each in dsc.files}
    for name in names:
        if (
            not name.endswith((*BINARIES, ".dsc", ".buildinfo"))
            and name not in of_source
            and bool(dscs) == bool(upload.dscs)
        ):
            yield f"{name} belongs to no package of {upload.name}: take it out"


def _sources(upload: Upload, target: Target) -> Iterator[str]:
    """The .dsc, and its files: sent along, or in the archive already."""
    changes = upload.changes
    listed_in_changes = {each.name: each for each in changes.files}
    for name, dsc in upload.dscs.items():
        if (dsc.source, dsc.version) != (changes.source, changes.version):
            yield (
                f"{name} is of {dsc.source} {dsc.version}, but {upload.name} of {changes.source} {changes.version}: "
                "build it again"
            )
        yield from _format(name, dsc)
        for listed in dsc.files:
            said = listed_in_changes.get(listed.name)
            if said is not None:
                if (said.size, said.sha256) != (listed.size, listed.sha256):
                    yield f"{name} and {upload.name} do not say the same of {listed.name}: build it again"
            elif listed.name not in target.files:
                yield f"{listed.name} is not in {target.name} yet, and did not come: build with `dpkg-buildpackage -sa`"
            elif target.files[listed.name].sha256 != listed.sha256:
                yield (
                    f"{listed.name} is in {target.name} with other content than {name} says: use that one, or give it "
                    "another version"
                )


def _format(name: str, dsc: Dsc) -> Iterator[str]:
    if dsc.format not in _FORMATS:
        yield f"{name} has the format {dsc.format[:40]!r}, which is none of: {', '.join(_FORMATS)}"
        return
    patterns = _FORMATS[dsc.format]
    counts = dict.fromkeys(patterns, 0)
    for listed in dsc.files:
        fitting = [each for each in patterns if re.fullmatch(rf"{re.escape(dsc.source)}_{each}", listed.name)]
        if not fitting:
            yield f"{listed.name} is nothing that a source package of format {dsc.format} has: build it again"
        for each in fitting[:1]:
            counts[each] += 1
    if any(not least <= counts[each] <= most for each, (least, most) in patterns.items()):
        yield f"{name} does not name the files that a source package of format {dsc.format} has: build it again"


def _suite(upload: Upload, target: Target) -> Iterator[str]:
    wanted = upload.changes.distribution
    if suite(wanted, target.series) is None:
        there = ", ".join(sorted(target.series)) or "none"
        yield (
            f"{target.name} has no suite {wanted[:80]!r}: put one of its series into debian/changelog ({there}; "
            "or with a pocket, as in SERIES-updates)"
        )


def _versions(upload: Upload, target: Target) -> Iterator[str]:
    """Newer than what is there; and not there already. Of sources; packages that come alone have their own."""
    changes = upload.changes
    if not upload.dscs:
        return
    sent = {each.sha256 for each in changes.files if each.name.endswith(".dsc")}
    there = target.known.get(changes.version)
    if there is not None:
        same = sent <= there
        yield (
            f"{changes.source} {changes.version} is in {target.name} already, or was: there is nothing to do, or give "
            "it a new version"
            if same
            else f"another {changes.source} {changes.version} is in {target.name}: give yours a new version"
        )
        return
    where = suite(changes.distribution, target.series)
    newest = target.newest.get(where) if where else None
    if newest is not None and Version(changes.version) <= Version(newest):
        yield (
            f"{changes.source} {changes.version} is not newer than {newest}, which is in {changes.distribution} of "
            f"{target.name}: give it a higher version"
        )


def _known(upload: Upload, target: Target) -> Iterator[str]:
    """No name stands for two contents in an archive."""
    if upload.changes.version in target.known and upload.dscs:
        return  # Told already.
    for listed in upload.changes.files:
        there = target.files.get(listed.name)
        if there is not None and there.sha256 != listed.sha256:
            yield f"{listed.name} is in {target.name} with other content: use that one, or give it another version"


def no_epoch(version: str) -> str:
    """A version as file names have it."""
    return version.partition(":")[2] or version


def _sections(upload: Upload, target: Target) -> Iterator[str]:
    """Sections are in components that we know."""
    for name, section in sections(upload.changes).items():
        if component(section) not in COMPONENT:
            yield f"{name} has the section {section[:80]!r}, in no component: use one such as net or contrib/net"


def told(faults: Iterable[str]) -> tuple[str, ...]:
    """Faults as they are told and kept: each once, none too long, and not too many."""
    found = list(dict.fromkeys(words(fault) for fault in faults))
    more = len(found) - _FAULTS_MAX
    return tuple(found if more <= 0 else [*found[:_FAULTS_MAX], f"and {more} more things are wrong with it"])


def words(fault: str) -> str:
    """A fault as one line of a bounded length, whatever a stranger put into it."""
    line = "".join(each if each.isprintable() else "?" for each in " ".join(fault.split()))
    return line if len(line) <= 400 else f"{line[:397]}..."
