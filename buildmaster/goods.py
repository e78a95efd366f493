"""What publications consist of, as queries: files, and what indices say of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from buildd.protocol import Sha1
from buildmaster import rows
from buildmaster.publications import BESIDE, Publication
from buildmaster.store import Sha256, StoredFile
from buildmaster.tables import binary, source, source_file, stored_file


@dataclass(frozen=True)
class Goods:
    """What a publication consists of."""

    publication: Publication
    files: Mapping[str, StoredFile]  # By their paths in the archive: pool/main/h/hello/hello_1.0.dsc.
    path: str  # Of the one that the index is about: the .dsc or .deb.
    control: str = ""  # Of a binary package; and the following:
    section: str = ""
    contents: StoredFile | None = None  # As binaries.Deb has it.

    @property
    def file(self) -> StoredFile:
        """The one that the index is about."""
        return self.files[self.path]


def pool_folder(component: str, source_name: str) -> str:
    """Where an archive has the files of a source and of its packages, of whatever kind."""
    for beside in BESIDE:
        component = component.removesuffix(beside)
    prefix = source_name[:4] if source_name.startswith("lib") else source_name[0]
    return f"pool/{component}/{prefix}/{source_name}"


def of(connection: Connection, publications: Iterable[Publication]) -> list[Goods]:
    """What each of these consists of, in their order."""
    publications = list(publications)
    sources = _sources(connection, {each.source_id for each in publications if each.binary_id is None})
    binaries = _binaries(connection, {each.binary_id for each in publications if each.binary_id is not None})
    return [
        _source_goods(each, *sources[each.source_id])
        if each.binary_id is None
        else _binary_goods(each, binaries[each.binary_id])
        for each in publications
    ]


def _source_goods(publication: Publication, dsc: str, files: Mapping[str, StoredFile]) -> Goods:
    folder = pool_folder(publication.component, publication.source)
    return Goods(publication, {f"{folder}/{name}": file for name, file in files.items()}, f"{folder}/{dsc}")


def _binary_goods(publication: Publication, row: Any) -> Goods:
    path = f"{pool_folder(publication.component, publication.source)}/{row.file_name}"
    contents = None if row.contents_sha256 is None else _stored(row.contents_sha256, row.contents_size)
    return Goods(publication, {path: _stored(row.sha256, row.size, row.sha1)}, path, row.control, row.section, contents)


def _sources(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, dict[str, StoredFile]]]:
    """By source: the name of its .dsc, and its files by name."""
    found: dict[int, dict[str, StoredFile]] = defaultdict(dict)
    dscs: dict[int, str] = {}
    for part in rows.parts(sorted(ids)):
        for row in connection.execute(_SOURCE_FILES, {"ids": part}):
            found[row.source_id][row.name] = _stored(row.sha256, row.size, row.sha1)
            dscs[row.source_id] = row.dsc
    return {source_id: (dscs[source_id], files) for source_id, files in found.items()}


def _binaries(connection: Connection, ids: Iterable[int]) -> dict[int, Any]:
    return {row.id: row for part in rows.parts(sorted(ids)) for row in connection.execute(_BINARIES, {"ids": part})}


def _stored(sha256: str, size: int, sha1: str = "") -> StoredFile:
    return StoredFile(Sha256(sha256), Sha1(sha1), size)


# Made once: to make a statement takes longer than to execute it.
_SOURCE_FILES = (
    select(
        source_file.c.source_id, source_file.c.name, source.c.dsc, stored_file.c.sha256, stored_file.c.sha1,
        stored_file.c.size,
    )
    .join_from(source_file, source, source.c.id == source_file.c.source_id)
    .join(stored_file, stored_file.c.id == source_file.c.stored_file_id)
    .where(source_file.c.source_id.in_(bindparam("ids", expanding=True)))
    .order_by(source_file.c.id)
)  # fmt: skip
_CONTENTS = stored_file.alias("contents")
_BINARIES = (
    select(
        binary.c.id, binary.c.file_name, binary.c.control, binary.c.section,
        stored_file.c.sha256, stored_file.c.sha1, stored_file.c.size,
        _CONTENTS.c.sha256.label("contents_sha256"), _CONTENTS.c.size.label("contents_size"),
    )
    .join_from(binary, stored_file, stored_file.c.id == binary.c.stored_file_id)
    .outerjoin(_CONTENTS, _CONTENTS.c.id == binary.c.contents_file_id)
    .where(binary.c.id.in_(bindparam("ids", expanding=True)))
)  # fmt: skip
