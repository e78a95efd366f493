"""The tables, brought up to date from each earlier version of them, with rows in all of them."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, Connection, MetaData, Table, select

import buildmaster.migrations
from buildmaster import engines
from buildmaster.database import Database
from buildmaster.tables import metadata
from buildmaster.tests import databases

MIGRATIONS = Path(buildmaster.migrations.__file__).parent
REVISIONS = sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
ROWS = 2  # In each table.
# What columns hold that are read by more than people.
WORDS = {
    "state": "needs-build",
    "purpose": "PRIMARY",
    "pocket": "RELEASE",
    "urgency": "medium",
    "component": "main",
    "cleanliness": "clean",
    "architecture": "amd64",
    "architectures": "any",
    "tags": "",
    "broken_by": "",
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database without any tables."""
    if databases.on_postgresql():
        url = engines.parse_url(databases.new_database(empty=True))
    else:
        url = URL.create("sqlite", database=str(tmp_path / "farm.sqlite"))
    database = Database(url)
    yield database
    database.stop()


def upgrade(database: Database, revision: str) -> None:
    """Bring the tables to a revision."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.transaction() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)


def tables_of(connection: Connection) -> list[Table]:
    """The tables that are there now, each after those that it refers to."""
    there = MetaData()
    there.reflect(connection)
    return [table for table in there.sorted_tables if table.name != "alembic_version"]


def fill(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Write rows into every table; all that they hold, by table."""
    numbers = itertools.count(1)
    for table in tables_of(connection):
        keys = {key.parent.name for key in table.foreign_keys}
        for number in range(1, ROWS + 1):
            values = {
                column.name: number if column.name in keys else _value(column, next(numbers))
                for column in table.columns
                if not (column.primary_key and isinstance(column.type, sqlalchemy.Integer) and column.name not in keys)
            }
            connection.execute(table.insert().values(**values))
    return content(connection)


def _value(column: sqlalchemy.Column[Any], number: int) -> object:
    match column.type:
        case sqlalchemy.Boolean():
            return False
        case sqlalchemy.Integer() | sqlalchemy.Float():
            return number
        case _:
            return WORDS.get(column.name, f"{number:x}")


def content(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All rows, by table, in the order of their keys."""
    return {
        table.name: [
            dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
        ]
        for table in tables_of(connection)
    }


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_from_an_earlier_revision(database: Database, revision: str) -> None:
    """Every row is there afterwards, with what it held but for columns that are no more; the tables are what the code
    takes them for."""
    upgrade(database, revision)
    with database.transaction() as connection:
        before = fill(connection)
    database.migrate()
    with database.reading() as connection:
        after = content(connection)
        compared = MigrationContext.configure(connection, opts={"compare_server_default": False})
        assert compare_metadata(compared, metadata) == []
    for table in before.keys() & after.keys():
        for old, new in zip(before[table], after[table], strict=True):
            same = old.keys() & new.keys()
            assert {name: new[name] for name in same} == {name: old[name] for name in same}, table
    assert before.keys() - after.keys() == set(), "tables that are no more"


def test_from_nothing(database: Database) -> None:
    """An empty database gets all tables, and a row can be written into each."""
    database.migrate()
    with database.transaction() as connection:
        compared = MigrationContext.configure(connection, opts={"compare_server_default": False})
        assert compare_metadata(compared, metadata) == []
        assert fill(connection).keys() == metadata.tables.keys()


def test_all_or_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails leaves the tables as they were."""
    upgrade(database, "0001")
    with database.transaction() as connection:
        before = fill(connection)
    monkeypatch.setattr("alembic.operations.Operations.drop_column", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        database.migrate()
    monkeypatch.undo()
    with database.reading() as connection:
        assert content(connection) == before
    database.migrate()
