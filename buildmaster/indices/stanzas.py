"""What Packages and Sources say of a package."""

from collections.abc import Sequence
from dataclasses import dataclass

from buildmaster.indices.records import Record


@dataclass(frozen=True)
class File:
    """A file as an index names it."""

    path: str  # pool/main/h/hello/hello_2.10-3_amd64.deb
    size: int  # Bytes.
    sha256: str
    sha1: str = ""  # "": not told.
    md5: str = ""


class StanzaError(ValueError):
    """Control data is not what an index can say; the message says why."""


def packages_record(control: str, file: File) -> Record:
    """What Packages says of a .deb.

    :param control: its control file's one paragraph. A long description stays in it: there is no Translation-en.
    :raises StanzaError: it lacks a field, or is not one paragraph.
    """
    raise NotImplementedError


def sources_record(dsc: bytes, file: File, section: str = "misc", priority: str = "optional") -> Record:
    """What Sources says of a source package: the fields of its .dsc, and the .dsc itself among its files.

    :param dsc: the file's content, signed or not.
    :param file: the .dsc; the others are in the same directory. `md5` and `sha1` are needed if the .dsc has such lists.
    :raises StanzaError: it lacks a field, or is no .dsc.
    """
    raise NotImplementedError


def contents_records(paths: Sequence[bytes], section: str, package: str) -> list[Record]:
    """What Contents says of a .deb's files.

    :param paths: of its files, not directories, with no leading "./" or "/".
    :param section: as in its control file; "": misc.
    """
    raise NotImplementedError
