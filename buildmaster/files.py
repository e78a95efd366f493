"""The rows of files in the store. The file is put into the store first, then its row is written."""

from sqlalchemy import Connection, select

from buildd.protocol import Sha1
from buildmaster.store import Sha256, StoredFile
from buildmaster.tables import stored_file


def keep(connection: Connection, stored: StoredFile, now: float) -> int:
    """The id of a stored file's row, which is written if there is none."""
    known = select(stored_file.c.id).where(stored_file.c.sha256 == stored.sha256)
    row_id = connection.execute(known).scalar()
    if row_id is None:
        values = {"sha256": stored.sha256, "sha1": stored.sha1, "size": stored.size, "created_at": now}
        row_id = connection.execute(stored_file.insert().values(**values).returning(stored_file.c.id)).scalar_one()
    return int(row_id)


def find(connection: Connection, file_id: int) -> StoredFile:
    """The stored file of a row."""
    row = connection.execute(select(stored_file).where(stored_file.c.id == file_id)).one()
    return StoredFile(Sha256(row.sha256), Sha1(row.sha1), row.size)
