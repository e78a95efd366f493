"""The database's own time, as SQL: one clock for all who use it, whatever their machines' clocks say."""

from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class database_now(FunctionElement[float]):
    """Unix time in seconds, by the database's clock."""

    inherit_cache = True
    type = Double()


@compiles(database_now, "sqlite")
def _on_sqlite(_element: Any, _compiler: Any, **_more: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _on_postgresql(_element: Any, _compiler: Any, **_more: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
