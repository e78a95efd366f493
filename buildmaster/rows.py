"""Writing a row that another transaction may be writing as well."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError


def add(connection: Connection, table: Table, values: Mapping[str, object]) -> int | None:
    """The id of a new row; None: there is one of that key, which another transaction may have written just now.

    The transaction goes on in either case. To find out, it waits for the end of the other one.
    """
    try:
        with connection.begin_nested():
            return int(connection.execute(_adding(table), values).scalar_one())
    except IntegrityError:
        return None


@cache
def _adding(table: Table) -> Any:
    return table.insert().returning(table.c.id)
