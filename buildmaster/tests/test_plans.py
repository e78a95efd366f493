"""How SQLite finds what a build's life asks for: nothing reads all of a table that grows with the farm's work."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, Table, event, text

from buildmaster import holding, publications, uploads
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.tables import binary, publication, source, source_file, stored_file
from buildmaster.tests.databases import on_postgresql
from buildmaster.tests.factories import make_build
from buildmaster.tests.farm_case import FarmCase
from buildmaster.tests.test_press import Mine

GROW = "publication|binary|build|build_queue|build_file|source|source_file|stored_file|notification|deleted_file"
# In SQLite's words: a table; tables that are joined before there is anything to join them with; what was built for an
# architecture. The first build of each archive (shares.py) is what is to be found first; what goes through an index of
# what waits stops early.
READS_ALL = re.compile(
    rf"SCAN ({GROW})\b(?! USING (COVERING )?INDEX ix_build_queue_(turns|entered))"
    r"|MATERIALIZE (?!heads$)|SEARCH .* INDEX ix_build_series_architecture_id_state"
)
SMALL = {"build", "build_queue", "build_file", "deleted_file"}  # Those of which _grow() makes none: read at once.

Asked = dict[str, Sequence[object]]  # Statements, and with which parameters.


@pytest.mark.skipif(on_postgresql(), reason="PostgreSQL chooses by statistics, and small tables by other rules")
class TestPlans(FarmCase):
    async def test_a_build(self) -> None:
        """From the queue to its results, and one after it."""
        ids = [make_build(self.farm, name) for name in ("one", "two")]
        scanner = self.scanner()
        with asking() as asked:
            for build_id in ids:
                await self.scan_until(build_id, BuildState.BUILT, scanner=scanner)
        assert len(asked) > 25
        for statement, _, plan in plans(self.farm, asked):
            assert not any(map(READS_ALL.match, plan)), (statement, plan)


def plans(farm: Farm, asked: Asked) -> Iterator[tuple[str, Sequence[object], list[str]]]:
    """What was asked, with which parameters, and how SQLite finds it."""
    with farm.reading() as connection:
        cursor = connection.connection.cursor()
        for statement, parameters in list(asked.items()):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            yield statement, parameters, [row[3] for row in cursor.fetchall()]


@contextmanager
def asking() -> Iterator[Asked]:
    """What is asked of databases meanwhile."""
    asked: Asked = {}

    def note(_: object, __: object, statement: str, parameters: Sequence[object], *___: object) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            asked[statement] = parameters

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.skipif(on_postgresql(), reason="PostgreSQL chooses by statistics, and small tables by other rules")
@pytest.mark.parametrize("analysed", [False, True])
def test_a_publication(farm: Farm, tmp_path: Path, analysed: bool) -> None:
    """Nothing reads all that is published, whether SQLite has statistics or not: packages are found by their names."""
    mine = Mine(farm, tmp_path / "archives")
    mine.built(mine.accept(), "libhello1", "hello")
    mine.built(mine.accept(name="user"), fields="Depends: libhello1")
    mine.publish()
    if analysed:
        farm.write(_grow)
    with asking() as asked:
        mine.built(mine.accept("1.1"))  # libhello1 stays for user.
        mine.publish()
    assert any("LIKE" in statement for statement in asked)  # That one is not there for others, all have to be asked.
    with asking() as asked:
        mine.built(mine.accept("1.2"))
        mine.built(mine.accept("1.2", "user"), fields="Depends: libhello1")
        mine.publish()
        farm.write(publications.leave, [1, 2], "deleted", mine.now)
        with farm.reading() as connection:
            publications.suites_with_work(connection, mine.now)
            publications.changes(connection, mine.suite)
            holding.is_over(connection, mine.now)
            uploads.had(connection, mine.archive_id, "hello", ["hello_1.1.dsc", "hello_1.1_amd64.deb"])
    assert "libhello1 1.0" in mine.index()
    assert len(asked) > 30
    for statement, parameters, plan in plans(farm, asked):
        if not analysed or not SMALL & set(statement.split()):
            assert not any(map(READS_ALL.match, plan)), (statement, plan)
        # The index has all sources there ever were by this "value".
        sources = any("ix_publication_binary_id" in line for line in plan)
        assert not (sources and "publication.binary_id IS NULL" in statement), (statement, plan)
        by_state = any("ix_publication_state" in line for line in plan)
        assert not (by_state and statement.startswith("UPDATE")), (statement, plan)
        assert not (by_state and {"PUBLISHED", "GONE"} & set(parameters)), (statement, plan)


def _grow(connection: Connection) -> None:
    """Let there be a history, as after years: a thousand sources, and of each five older versions that are removed."""
    rows = range(10_000, 16_000)

    def fill(table: Table, values: Callable[[int], dict[str, object]]) -> None:
        one = dict(connection.execute(table.select()).first()._mapping)  # type: ignore[union-attr]
        connection.execute(table.insert(), [{**one, "id": each, **values(each)} for each in rows])

    fill(stored_file, lambda n: {"sha256": f"{n:064}"})
    fill(source, lambda n: {"name": f"package{n // 6}", "version": f"1.{n % 6}"})
    fill(source_file, lambda n: {"source_id": n, "name": f"package{n}.dsc", "stored_file_id": n})
    fill(binary, lambda n: {"source_id": n, "name": f"package{n // 6}", "stored_file_id": n})
    state = {each: "REMOVED" if each % 6 else "PUBLISHED" for each in rows}
    fill(publication, lambda n: {"source_id": n, "binary_id": n, "state": state[n], "kept_for_id": None})
    fill(publication, lambda n: {"id": 2 * n, "source_id": n, "binary_id": None, "state": state[n]})
    connection.execute(text("ANALYZE"))
