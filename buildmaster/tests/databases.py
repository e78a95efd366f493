"""Which database the tests run on: $DEBFARM_TEST_DATABASE is `sqlite`, the default, or `postgresql`.

On PostgreSQL each farm has a database of its own, made from one whose tables are there already.
"""

import atexit
import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

from buildmaster import engines
from buildmaster.database import Database
from buildmaster.tests.memory import in_memory
from buildmaster.tests.ports import free_port

if TYPE_CHECKING:
    from tools.postgresql import Server

_TEMPLATE = "empty_farm"
_numbers = itertools.count(1)
_made: list[str] = []


def on_postgresql() -> bool:
    """Whether farms have their database on PostgreSQL."""
    return os.environ.get("DEBFARM_TEST_DATABASE", "sqlite") == "postgresql"


def one_master() -> pytest.MarkDecorator:
    """For a test of a farm that can have one master only."""
    return pytest.mark.skipif(on_postgresql(), reason="on PostgreSQL a farm may have several masters")


def on_a_file() -> pytest.MarkDecorator:
    """For a test of a database that is a file."""
    return pytest.mark.skipif(on_postgresql(), reason="on PostgreSQL the database is no file")


@cache
def server() -> "Server":
    """The tests' own server, which is started now and ends with them."""
    from tools.postgresql import running  # noqa: PLC0415 - not there when Debian's package is built.

    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running(free_port(), in_memory()))


def new_database(*, empty: bool = False) -> str:
    """The URL of a new database on the server.

    :param empty: without any tables, as somebody makes it for a new farm.
    """
    name = f"farm_{next(_numbers)}"
    administer(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else _template()}")
    _made.append(name)
    return server().url(name)


@cache
def _template() -> str:
    """The name of a database to copy: making its tables takes 20 times as long."""
    administer(f"CREATE DATABASE {_TEMPLATE}")
    database = Database(engines.parse_url(server().url(_TEMPLATE)))
    database.migrate()
    database.stop()
    return _TEMPLATE


def administer(*statements: str) -> None:
    """Have the server's administrator do something outside of transactions."""
    engine = sqlalchemy.create_engine(engines.parse_url(server().url("postgres")), poolclass=sqlalchemy.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@contextmanager
def dropped() -> Iterator[None]:
    """What was made meanwhile is dropped, whoever still uses it: each takes 8 MB."""
    yield
    if _made:
        administer(*[f"DROP DATABASE {name} WITH (FORCE)" for name in _made])
        _made.clear()
