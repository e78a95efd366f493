"""A farm's database as lines of JSON, which either kind of database is filled from again: gzipped, in this order:

{"debfarm": 1, "revision": "0011"}              the form, and the newest migration that the database had seen
{"table": "builder", "columns": ["id", ...]}    then each of its rows, as a list; and so on, table by table
{"end": N}                                      after N rows: nothing was cut off

A table comes after those that it refers to.
"""

import gzip
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import Connection, MetaData, Table, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from buildd.protocol import Sha1
from buildmaster.store import StoredFile, parse_sha256
from buildmaster.tables import metadata, stored_file

_FORM = 1
_ROWS_AT_ONCE = 500
_LINE_BYTES = 64 << 20  # More is no row of ours.
_SCALARS = (str, int, float, type(None))  # And bool, which is an int.


class BadDump(Exception):
    """It is not what a farm's database was written as, or only a part of that."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the database in it cannot be read: {why}")


@dataclass
class Part:
    """Rows of one table, in their order; a table may have several."""

    table: str
    columns: tuple[str, ...]
    rows: list[list[Any]] = field(default_factory=list)


def write(connection: Connection, stream: BinaryIO) -> None:
    """Write all that is in the database, as this transaction sees it."""
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed:
        packed.write(_line({"debfarm": _FORM, "revision": revision}))
        count = 0
        for table in metadata.sorted_tables:
            packed.write(_line({"table": table.name, "columns": [column.name for column in table.columns]}))
            order = list(table.primary_key.columns)
            rows = connection.execute(table.select().order_by(*order), execution_options={"yield_per": _ROWS_AT_ONCE})
            for row in rows:
                packed.write(_line(list(row)))
                count += 1
        packed.write(_line({"end": count}))


def revision(stream: BinaryIO) -> str:
    """The migration that the database had seen.

    :raises BadDump: it is none.
    """
    for first in _lines(stream):
        return str(first["revision"])
    raise BadDump("it is empty")


def parts(stream: BinaryIO) -> Iterator[Part]:
    """All that was written, a few hundred rows at once.

    :raises BadDump: it is none, or not whole; some of it may have been given already.
    """
    lines = _lines(stream)
    next(lines, None)
    count, part = 0, Part("", ())
    for line in lines:
        match line:
            case {"table": str(table), "columns": [*columns]} if all(isinstance(each, str) for each in columns):
                yield part
                part = Part(table, tuple(columns))
            case {"end": int(end)}:
                yield part
                if end != count or next(lines, None) is not None:
                    raise BadDump("its end does not fit")
                return
            case [*row] if len(row) == len(part.columns) and all(isinstance(value, _SCALARS) for value in row):
                part.rows.append(row)
                count += 1
                if len(part.rows) == _ROWS_AT_ONCE:
                    yield part
                    part = Part(part.table, part.columns)
            case _:
                raise BadDump(f"a line of {part.table or 'no table'} is none")
    raise BadDump("its end is missing")


def stored_files(part: Part) -> Iterator[StoredFile]:
    """The files of the store that rows are about.

    :raises BadDump: one is bad.
    """
    if part.table == stored_file.name:
        for row in part.rows:
            values = dict(zip(part.columns, row, strict=True))
            try:
                yield StoredFile(parse_sha256(values["sha256"]), Sha1(values["sha1"]), int(values["size"]))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise BadDump("a file has no good digest or size") from error


def load(connection: Connection, written: Iterable[Part]) -> None:
    """Fill the tables, which are empty and as old as what was written.

    :raises BadDump: it does not fit the tables.
    """
    known = MetaData()
    known.reflect(connection)
    for part in written:
        if not part.rows:
            continue
        table = known.tables.get(part.table)
        if table is None or not set(part.columns) <= set(table.columns.keys()):
            raise BadDump(f"there is no table {part.table!r} with such columns")
        try:
            connection.execute(table.insert(), [_values(connection, part.columns, row) for row in part.rows])
        except (DataError, IntegrityError, ProgrammingError, OverflowError, UnicodeError) as error:
            why = " ".join(str(getattr(error, "orig", error)).split())
            raise BadDump(f"rows of {part.table} do not fit: {why}") from error
    _settle_sequences(connection, known.tables.values())
    # Masters of the farm that was copied do not run here. Their ids are used up, their builders inherited: masters.py.
    if "master" in known.tables:
        connection.execute(known.tables["master"].delete())


def _values(connection: Connection, columns: tuple[str, ...], row: list[Any]) -> dict[str, Any]:
    if connection.dialect.name == "postgresql":  # Has no text with a NUL in it.
        row = [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row]
    return dict(zip(columns, row, strict=True))


def _settle_sequences(connection: Connection, tables: Iterable[Table]) -> None:
    """Let PostgreSQL number new rows after those that are there. SQLite does by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        if "id" in table.columns:
            newest = connection.execute(text(f'SELECT max(id) FROM "{table.name}"')).scalar()
            if newest is not None:
                sequence = text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :newest)")
                connection.execute(sequence, {"name": table.name, "newest": newest})


def _check_head(value: object) -> None:
    match value:
        case {"debfarm": 1, "revision": str()}:
            return
    raise BadDump("its form is not one that this version knows")


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _lines(stream: BinaryIO) -> Iterator[Any]:
    """Every line, parsed; the first is one of ours."""
    stream.seek(0)
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as packed:
            for number in itertools.count():
                line = packed.readline(_LINE_BYTES)
                if not line:
                    return
                value = json.loads(line)
                if number == 0:
                    _check_head(value)
                yield value
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:  # Of gzip; and of JSON.
        raise BadDump(str(error)) from error
