"""The rows of files in the store: which are there, and who refers to them.

The file is put into the store first, then its row is written. What nobody refers to is deleted the other way round:
its row first, by :func:`give_up`, then the file, outside of any transaction since a server may take minutes, then
:func:`gave_up`. Whoever calls :func:`keep` for the same file meanwhile comes first, or is refused and does it again; a
file is never deleted from under a row.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from buildd.protocol import Sha1
from buildmaster import rows
from buildmaster.store import Sha256, StoredFile
from buildmaster.tables import (
    attestation,
    binary,
    build,
    build_file,
    deleted_file,
    metadata,
    pocket_chroot,
    series,
    series_architecture,
    source,
    source_file,
    stored_file,
)

K = TypeVar("K")

_BEGUN_WITHIN_S = 60.0  # The deletion of a file begins so soon after that of its row, or not at all.
_ENDED_WITHIN_S = 600.0  # And it has ended by then: an S3 server gets four attempts, of 70 seconds and a pause at most.
_DOUBT_S = 60.0  # Who stored a file less than this after its deletion ended may have seen it just before.
_REMEMBERED_S = 7 * 86400.0  # Nobody stores a file, and says so longer after than this.


class DeletedMeanwhile(OSError):
    """A file was deleted from the store, since nobody referred to it, between being stored there and being recorded:
    once more, a minute later, it will do."""

    def __init__(self, sha256: Sha256) -> None:
        super().__init__(
            f"file {sha256} was just deleted from the store, as nobody referred to it: do the same again in a minute"
        )
        self.sha256 = sha256


@dataclass(frozen=True)
class Recorded:
    """A file as its row has it."""

    id: int
    file: StoredFile
    created_at: float
    referenced: bool


def keep(connection: Connection, stored: StoredFile, now: float) -> int:
    """The id of a stored file's row, which is written if there is none.

    :raises DeletedMeanwhile: the file is not there any more.
    """
    return keep_all(connection, {"": stored}, now)[""]


def keep_all(connection: Connection, stored: Mapping[K, StoredFile], now: float) -> dict[K, int]:
    """The ids of the rows of stored files, by the names that these are given by; rows that there are not are written.

    :raises DeletedMeanwhile: one of the files is not there any more.
    """
    wanted = {each.sha256: each for each in stored.values()}
    ids: dict[Sha256, int] = {}
    for part in rows.parts(sorted(wanted)):  # In an order, so that nobody waits for somebody who waits for him.
        ids |= _kept(connection, [wanted[sha256] for sha256 in part], now)
    return {name: ids[each.sha256] for name, each in stored.items()}


def _kept(connection: Connection, wanted: Sequence[StoredFile], now: float) -> dict[Sha256, int]:
    ids = _locked(connection, [each.sha256 for each in wanted])
    new = [each for each in wanted if each.sha256 not in ids]
    if not new:
        return ids
    ids |= rows.add_all(connection, stored_file, [_values(each, now) for each in new], stored_file.c.sha256)
    if others := [each.sha256 for each in new if each.sha256 not in ids]:  # Another master was quicker.
        ids |= _locked(connection, others)
    # After the insert, which waits for give_up() of the same file; and no deletion begins before this transaction ends.
    gone = _deleted_at(connection, [each.sha256 for each in new])
    for each in new:
        if each.sha256 not in ids or each.stored_at <= gone.get(each.sha256, -math.inf) + _DOUBT_S:
            raise DeletedMeanwhile(each.sha256)
    return ids


def find(connection: Connection, file_id: int) -> StoredFile:
    """The stored file of a row."""
    return of_row(connection.execute(_FIND, {"this": file_id}).one())


def by_sha256(connection: Connection, sha256: str) -> StoredFile | None:
    """The stored file of this digest, if there is a row for it."""
    row = connection.execute(_BY_SHA256, {"sha256": sha256}).first()
    return None if row is None else of_row(row)


_BY_SHA256 = select(stored_file).where(stored_file.c.sha256 == bindparam("sha256"))
_FIND = select(stored_file).where(stored_file.c.id == bindparam("this"))
_LOCKED = (
    select(stored_file.c.sha256, stored_file.c.id)
    .where(stored_file.c.sha256.in_(bindparam("these", expanding=True)))
    .order_by(stored_file.c.sha256)
    .with_for_update(read=True, key_share=True)
)
_DELETED_AT = select(deleted_file.c.sha256, deleted_file.c.deleted_at).where(
    deleted_file.c.sha256.in_(bindparam("these", expanding=True))
)


def recorded(connection: Connection, prefix: str) -> Iterator[Recorded]:
    """The rows of the files whose SHA-256 begins so."""
    query = select(stored_file, _is_referenced().label("referenced"))
    if prefix:
        query = query.where(stored_file.c.sha256 >= prefix, stored_file.c.sha256 < prefix + "g")
    for row in connection.execute(query):
        yield Recorded(row.id, of_row(row), row.created_at, bool(row.referenced))


def count(connection: Connection) -> int:
    """How many files are recorded."""
    return connection.execute(select(func.count()).select_from(stored_file)).scalar_one()


def is_recorded(connection: Connection, sha256: Sha256) -> bool:
    """Whether a file has a row."""
    return connection.execute(select(stored_file.c.id).where(stored_file.c.sha256 == sha256)).scalar() is not None


def users(connection: Connection, file_id: int) -> list[str]:
    """What refers to a file, in words."""
    sources = source_file.join(source, source.c.id == source_file.c.source_id)
    a_source = select(source.c.name, source.c.version, source_file.c.name.label("file")).select_from(sources)
    a_source = a_source.where(source_file.c.stored_file_id == file_id)
    a_result = select(build_file.c.build_id, build_file.c.name).where(build_file.c.stored_file_id == file_id)
    a_package = select(binary.c.name, binary.c.version, binary.c.architecture)
    a_package = a_package.where((binary.c.stored_file_id == file_id) | (binary.c.contents_file_id == file_id))
    a_log = select(build.c.id).where(build.c.log_file_id == file_id)
    a_statement = select(attestation.c.build_id).where(attestation.c.stored_file_id == file_id)
    in_series = series_architecture.join(series, series.c.id == series_architecture.c.series_id)
    pockets = select(pocket_chroot.c.series_architecture_id).where(pocket_chroot.c.chroot_file_id == file_id)
    a_chroot = select(series.c.name, series_architecture.c.architecture).select_from(in_series)
    a_chroot = a_chroot.where((series_architecture.c.chroot_file_id == file_id) | series_architecture.c.id.in_(pockets))
    return [
        *(f"source {row.name} {row.version}: {row.file}" for row in connection.execute(a_source)),
        *(f"build {row.build_id}: {row.name}" for row in connection.execute(a_result)),
        *(f"package {row.name} {row.version} {row.architecture}" for row in connection.execute(a_package)),
        *(f"the log of build {row.id}" for row in connection.execute(a_log)),
        *(f"the provenance of build {row.build_id}" for row in connection.execute(a_statement)),
        *(f"a chroot of {row.name} {row.architecture}" for row in connection.execute(a_chroot)),
    ]


def give_up(connection: Connection, sha256: Sha256, now: float, older_than: float) -> float | None:
    """Remove the row of a file, if there is one, and leave word that the file is being deleted: until gave_up(), or
    for some minutes should that never come, nobody can record it. Once this is committed, may_delete() is to be asked.

    :param older_than: rows that are not from before this moment are left alone.
    :returns: when the deletion will have ended at the latest; None when the file must stay: somebody refers to it, its
        row is too young, or another deletes it.
    """
    row = connection.execute(
        select(stored_file.c.id, stored_file.c.created_at).where(stored_file.c.sha256 == sha256).with_for_update()
    ).one_or_none()
    if row is None:
        # Who writes a row for it at this very moment has to wait for us, or we for him.
        row_id = rows.add(connection, stored_file, _values(StoredFile(sha256, Sha1("0" * 40), 0), now))
    else:
        row_id = row.id if row.created_at < older_than else None
    if row_id is None or not _delete_row(connection, row_id):
        return None
    if _deleted_at(connection, [sha256]).get(sha256, 0.0) > now:
        return None
    until = now + _ENDED_WITHIN_S
    said = update(deleted_file).where(deleted_file.c.sha256 == sha256).values(deleted_at=until)
    if not connection.execute(said).rowcount:
        connection.execute(deleted_file.insert().values(sha256=sha256, deleted_at=until))
    return until


def may_delete(until: float, now: float) -> bool:
    """Whether the deletion of a file that was given up may begin; not by who was held up for long since then.

    :param until: what give_up() said.
    """
    return 0 <= now - (until - _ENDED_WITHIN_S) <= _BEGUN_WITHIN_S


def gave_up(connection: Connection, sha256: Sha256, until: float, now: float) -> None:
    """Leave word that the file was deleted just now; and forget what was said long ago.

    :param until: what give_up() said.
    """
    ours = (deleted_file.c.sha256 == sha256) & (deleted_file.c.deleted_at == until)
    connection.execute(update(deleted_file).where(ours).values(deleted_at=now))
    connection.execute(delete(deleted_file).where(deleted_file.c.deleted_at < now - _REMEMBERED_S))


def _deleted_at(connection: Connection, these: Sequence[Sha256]) -> dict[Sha256, float]:
    """When files were deleted, or, while that goes on, when they will have been; as far as anybody knows of that."""
    return {Sha256(row.sha256): row.deleted_at for row in connection.execute(_DELETED_AT, {"these": these})}


def _locked(connection: Connection, these: Sequence[Sha256]) -> dict[Sha256, int]:
    """The ids of files' rows, which nobody deletes before this transaction ends."""
    return {Sha256(row.sha256): row.id for row in connection.execute(_LOCKED, {"these": these})}


def _values(stored: StoredFile, now: float) -> dict[str, object]:
    """What a row says of a file."""
    return {"sha256": stored.sha256, "sha1": stored.sha1, "size": stored.size, "created_at": now}


def _delete_row(connection: Connection, row_id: int) -> bool:
    """Delete a row that nobody refers to. False: somebody does."""
    wanted = (stored_file.c.id == row_id) & ~_is_referenced()
    try:
        with connection.begin_nested():
            return connection.execute(delete(stored_file).where(wanted)).rowcount == 1
    except IntegrityError:  # Since this moment.
        return False


def _is_referenced() -> ColumnElement[bool]:
    """Whether any row of any table refers to a stored_file."""
    columns = [key.parent for table in metadata.sorted_tables for key in table.foreign_keys
               if key.column is stored_file.c.id]  # fmt: skip
    return or_(*(exists().where(column == stored_file.c.id).correlate(stored_file) for column in columns))


def of_row(row: Any) -> StoredFile:
    """The stored file of a row with its columns, as it was when that was written: see keep()."""
    return StoredFile(Sha256(row.sha256), Sha1(row.sha1), row.size, stored_at=row.created_at)
