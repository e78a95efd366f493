"""What Packages and Sources say of a package, in the order in which apt-ftparchive says it."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from debian import deb822

from buildmaster.indices.records import IndexKind, Record, contents_key, contents_text, key_of, translation_key

# apt_pkg.REWRITE_PACKAGE_ORDER, but for what only dpkg's status has. A test compares.
PACKAGE_ORDER: Final = (
    *("Package", "Package-Type", "Architecture", "Subarchitecture", "Version", "Kernel-Version", "Built-Using"),
    *("Static-Built-Using", "Built-For-Profiles", "Auto-Built-Package", "Multi-Arch", "Priority", "Build-Essential"),
    *("Protected", "Important", "Essential", "Installer-Menu-Item", "Section", "Source", "Origin"),
    *("Phased-Update-Percentage", "Maintainer", "Original-Maintainer", "Bugs", "Installed-Size", "Provides"),
    *("Pre-Depends", "Depends", "Recommends", "Suggests", "Conflicts", "Breaks", "Replaces", "Enhances"),
    *("Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512", "Homepage", "Description", "Description-md5"),
    *("Tag", "Task"),
)
SOURCE_ORDER: Final = (
    *("Package", "Format", "Binary", "Architecture", "Version", "Priority", "Section", "Origin", "Maintainer"),
    *("Original-Maintainer", "Uploaders", "Dm-Upload-Allowed", "Standards-Version", "Build-Depends"),
    *("Build-Depends-Arch", "Build-Depends-Indep", "Build-Conflicts", "Build-Conflicts-Arch", "Build-Conflicts-Indep"),
    *("Testsuite", "Testsuite-Triggers", "Homepage", "Description", "Vcs-Browser", "Vcs-Browse", "Vcs-Arch", "Vcs-Bzr"),
    *("Vcs-Cvs", "Vcs-Darcs", "Vcs-Git", "Vcs-Hg", "Vcs-Mtn", "Vcs-Svn", "Directory", "Package-List", "Files"),
    *("Checksums-Md5", "Checksums-Sha1", "Checksums-Sha256", "Checksums-Sha512"),
)
# What a package cannot say of its own file, or of what somebody's dpkg knows of it.
_NOT_ITS_OWN: Final = frozenset((
    *("filename", "size", "md5sum", "sha1", "sha256", "sha512", "msdos-filename", "description-md5"),
    *("status", "config-version", "conffiles", "triggers-awaited", "triggers-pending"),
))  # fmt: skip
_NOT_THE_DSCS: Final = frozenset(("package", "directory", "status", "priority", "section"))
_LISTS: Final = {"Files": "md5", "Checksums-Sha1": "sha1", "Checksums-Sha256": "sha256"}

# Of a paragraph: a name (Debian Policy 5.1), and its value with the lines that go on with it, none of them blank.
_FIELD: Final = re.compile(r"([!\"$-,.-9;-~][!-9;-~]*):[ \t]*([^\n]*(?:\n[ \t]+[^ \t\n][^\n]*)*)(?:\n|\Z)")
_NOT_TEXT: Final = re.compile(r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*", re.ASCII)
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:-]*", re.ASCII)
_LANGUAGES_MAX: Final = 100  # Of a package. Each makes an index of its own.
_TRANSLATED: Final = re.compile(r"Description-([a-z]{2,3})(_[a-z]{2})?", re.ASCII | re.IGNORECASE)
_ARCHITECTURES: Final = re.compile(r"[a-z0-9][a-z0-9 -]*", re.ASCII)


class StanzaError(ValueError):
    """Control data is not what an index can say; the message says why."""


@dataclass(frozen=True)
class File:
    """A file as an index names it.

    :raises StanzaError: its path is no plain path.
    """

    path: str  # From the archive's directory on: pool/main/h/hello/hello_2.10-3_amd64.deb.
    size: int  # Bytes.
    sha256: str
    sha1: str = ""  # "": not told.
    md5: str = ""

    def __post_init__(self) -> None:
        segments = self.path.split("/")
        if not self.path.isprintable() or " " in self.path or {"", ".", ".."} & set(segments):
            raise StanzaError(f"not the path of a file in an archive: {self.path[:80]!r}")


def packages_record(control: str, file: File) -> Record:
    """What Packages says of a .deb.

    The long description stays in it, so there is no Translation-en for a client to fetch, unless a package gives one.
    What is told in other languages is in translations(); apt of Debian 13 finds that only by the MD5 that is told then.

    :param control: its control file's one paragraph.
    :raises StanzaError: it lacks a field, or is not one paragraph.
    """
    fields = _paragraph(control)
    translated = {name for name in fields if _TRANSLATED.fullmatch(name)}
    if len(translated) > _LANGUAGES_MAX:
        raise StanzaError(f"it is described in more than {_LANGUAGES_MAX} languages")
    stanza = {
        name: value for name, value in fields.items() if name.lower() not in _NOT_ITS_OWN and name not in translated
    }
    told = {"Filename": file.path, "Size": str(file.size), "MD5sum": file.md5, "SHA1": file.sha1, "SHA256": file.sha256}
    if translated:
        told["Description-md5"] = _description_md5(fields)
    stanza.update((name, value) for name, value in told.items() if value)
    return _record(IndexKind.PACKAGES, stanza, PACKAGE_ORDER)


def translations(control: str) -> dict[str, Record]:
    """What Translation says of a .deb, by language, where its control file has fields such as Description-de.

    apt finds it by the MD5 of the description that the others translate, which is no matter of security.

    :raises StanzaError: it is not one paragraph, or lacks a field.
    """
    fields = _paragraph(control)
    # dpkg-gencontrol makes Description-De and Description-Pt_br of what debian/control has.
    found = {
        match[1].lower() + (match[2] or "").upper(): value
        for name, value in fields.items()
        if (match := _TRANSLATED.fullmatch(name)) and value
    }
    if not found:
        return {}
    package, md5 = _field(fields, "Package"), _description_md5(fields)
    key = translation_key(package, md5)
    return {
        language: Record(
            key, f"Package: {package}\nDescription-md5: {md5}\n{_line(f'Description-{language}', text)}".encode()
        )
        for language, text in found.items()
    }


def _description_md5(fields: Mapping[str, str]) -> str:
    """By which apt finds the translations of a description."""
    return hashlib.md5(f"{_field(fields, 'Description')}\n".encode(), usedforsecurity=False).hexdigest()


def sources_record(dsc: bytes, file: File, section: str = "misc", priority: str = "optional") -> Record:
    """What Sources says of a source package: the fields of its .dsc, and the .dsc itself among its files.

    :param dsc: the file's content, signed or not.
    :param file: the .dsc; the others are in the same directory. A list of MD5 or SHA-1 sums that the .dsc has is told
        when the .dsc's own is given, or else left out.
    :raises StanzaError: it lacks a field, or is no .dsc.
    """
    fields = _paragraph(_payload(dsc))
    directory, _, name = file.path.rpartition("/")
    sums = {"md5": file.md5, "sha1": file.sha1, "sha256": file.sha256}
    stanza = {"Package": _field(fields, "Source"), "Section": section, "Priority": priority, "Directory": directory}
    for field, value in fields.items():
        if field in _LISTS:
            if digest := sums[_LISTS[field]]:
                stanza[field] = f"\n {digest} {file.size} {name}{_listed(value)}"
        elif field.lower() not in _NOT_THE_DSCS and field != "Source":
            stanza[field] = value
    _field(stanza, "Checksums-Sha256")
    return _record(IndexKind.SOURCES, stanza, SOURCE_ORDER)


def contents_records(paths: Iterable[bytes], section: str, package: str) -> list[Record]:
    """What Contents says of a binary package's files, in one record, or in none.

    :param paths: see :func:`buildmaster.indices.records.contents_text`; of all versions of it that are there.
    """
    key = contents_key(section, package)
    text = contents_text(paths, key)
    return [Record(key, text)] if text else []


def _paragraph(text: str) -> dict[str, str]:
    """The fields of one paragraph, by name as written; what goes on has its newlines and spaces.

    :raises StanzaError: it is not one.
    """
    text = text.strip("\n")
    fields: dict[str, str] = {}
    seen = set()
    at = 0
    while at < len(text):
        field = _FIELD.match(text, at)
        if field is None:
            raise StanzaError(f"not a field of control data: {text[at : at + 80]!r}")
        if field[1].lower() in seen:
            raise StanzaError(f"{field[1]} is there twice")
        seen.add(field[1].lower())
        fields[field[1]] = field[2].rstrip()
        at = field.end()
    if strange := _NOT_TEXT.search(text):
        raise StanzaError(f"not text: {text[max(0, strange.start() - 40) : strange.end()]!r}")
    return fields


def _payload(dsc: bytes) -> str:
    """A .dsc without its signature."""
    try:
        if dsc.lstrip().startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
            dsc = b"\n".join(deb822.Deb822.split_gpg_and_payload(iter(dsc.lstrip().splitlines()))[1])
        return dsc.decode()
    except (ValueError, EOFError) as exc:
        raise StanzaError(f"not a .dsc: {exc}") from exc


def _listed(value: str) -> str:
    """The lines of a list of files, each with the newline before it."""
    rows = [line.split() for line in value.split("\n") if line.strip()]
    if any(len(row) != 3 for row in rows):
        raise StanzaError(f"not a list of files: {value[:80]!r}")
    return "".join(f"\n {' '.join(row)}" for row in rows)


def _field(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise StanzaError(f"{name} is missing")
    return fields[name]


def _record(kind: IndexKind, stanza: Mapping[str, str], order: Sequence[str]) -> Record:
    for name, pattern in (("Package", _PACKAGE), ("Version", _VERSION), ("Architecture", _ARCHITECTURES)):
        if not pattern.fullmatch(_field(stanza, name)):
            raise StanzaError(f"{name} is not valid: {stanza[name][:80]!r}")
    by_name = {name.lower(): name for name in stanza}
    known = [by_name.pop(name.lower()) for name in order if name.lower() in by_name]
    lines = [_line(name, stanza[name]) for name in (*known, *by_name.values()) if stanza[name]]
    text = "\n".join(lines).encode()
    try:
        return Record(key_of(kind, text), text)
    except ValueError as exc:
        raise StanzaError(str(exc)) from exc


def _line(name: str, value: str) -> str:
    return f"{name}:{value}" if value.startswith("\n") else f"{name}: {value}"
