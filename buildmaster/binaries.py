"""Binary packages, as queries: what a .deb says of itself, recorded once for all archives that have it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from buildd.protocol import FileName
from buildmaster import files
from buildmaster.store import StoredFile
from buildmaster.tables import binary


@dataclass(frozen=True)
class Deb:
    """What a .deb in the store says; all of it checked, see debs.read()."""

    name: str
    version: str
    architecture: str  # Its own: "all" is one.
    source: str  # What it was built of, by its own word,
    source_version: str  # which a binary rebuild has another version than.
    section: str
    debug: bool  # It has debug symbols, and nothing else.
    control: str  # Its control file's one paragraph, as it is.
    file_name: FileName
    file: StoredFile
    contents: StoredFile | None  # In the store: the paths of its files, sorted, one a line, gzipped. None: it has none.

    @property
    def udeb(self) -> bool:
        """Whether it is for Debian's installer: nothing but its file's name says so (dpkg-gencontrol)."""
        return self.file_name.endswith(".udeb")


def record(connection: Connection, source_id: int, build_id: int | None, debs: Sequence[Deb], now: float) -> list[int]:
    """The ids of the rows of binary packages, in their order; what is there already, of this very file, stays.

    :param source_id: what they were built of.
    :param build_id: None: they were uploaded.
    """
    return [_record(connection, source_id, build_id, each, now) for each in debs]


def _record(connection: Connection, source_id: int, build_id: int | None, deb: Deb, now: float) -> int:
    file_id = files.keep(connection, deb.file, now)
    known = connection.execute(
        _KNOWN, {"source_id": source_id, "file_id": file_id, "file_name": deb.file_name}
    ).scalar()
    if known is not None:
        return int(known)
    values = {
        "source_id": source_id,
        "build_id": build_id,
        "name": deb.name,
        "version": deb.version,
        "architecture": deb.architecture,
        "section": deb.section,
        "debug": deb.debug,
        "file_name": deb.file_name,
        "stored_file_id": file_id,
        "control": deb.control,
        "contents_file_id": None if deb.contents is None else files.keep(connection, deb.contents, now),
    }
    return int(connection.execute(_ADD, values).scalar_one())


# Made once: to make a statement takes longer than to execute it.
_ADD = binary.insert().returning(binary.c.id)
_KNOWN = select(binary.c.id).where(
    binary.c.stored_file_id == bindparam("file_id"),
    binary.c.source_id == bindparam("source_id"),
    binary.c.file_name == bindparam("file_name"),
)
