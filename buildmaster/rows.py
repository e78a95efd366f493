"""Writing a row that another transaction may be writing as well; naming very many rows."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")

_NAMED_AT_ONCE = 2000  # By one query: PostgreSQL takes 65,535 parameters, SQLite 32,766.


def parts(things: Sequence[T], length: int = _NAMED_AT_ONCE) -> Iterator[Sequence[T]]:
    """In parts that a query can name."""
    return (things[begin : begin + length] for begin in range(0, len(things), length))


def add(connection: Connection, table: Table, values: Mapping[str, object]) -> int | None:
    """The id of a new row; None: there is one of that key, which another transaction may have written just now.

    The transaction goes on in either case. To find out, it waits for the end of the other one.
    """
    row_id = connection.execute(_adding(table, connection.dialect.name), values).scalar()
    return None if row_id is None else int(row_id)


def add_all(
    connection: Connection, table: Table, values: Sequence[Mapping[str, object]], key: Column[T]
) -> dict[T, int]:
    """The ids of new rows, by a column of theirs that is a key; none for those of which there is one: see add()."""
    adding = _adding(table, connection.dialect.name, key)
    return {row[1]: row[0] for row in connection.execute(adding, values)}


@cache
def _adding(table: Table, dialect: str, *more: Column[Any]) -> Any:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing().returning(table.c.id, *more)
