"""How SQLite finds what a build's life asks for: nothing reads all of a table that grows with the farm's work."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from buildmaster import holding, publications, uploads
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.tests.databases import on_postgresql
from buildmaster.tests.factories import make_build
from buildmaster.tests.farm_case import FarmCase
from buildmaster.tests.test_press import Mine

GROW = "publication|binary|build|build_queue|build_file|source|source_file|stored_file|notification|deleted_file"
# In SQLite's words: a table, or tables that are joined before there is anything to join them with. The first build of
# each archive (shares.py) is what is to be found first; what goes through an index of what waits stops early.
READS_ALL = re.compile(
    rf"SCAN ({GROW})\b(?! USING (COVERING )?INDEX ix_build_queue_(turns|entered))|MATERIALIZE (?!heads$)"
)


@pytest.mark.skipif(on_postgresql(), reason="PostgreSQL chooses by statistics, and small tables by other rules")
class TestPlans(FarmCase):
    async def test_a_build(self) -> None:
        """From the queue to its results, and one after it."""
        asked: dict[str, Sequence[object]] = {}

        def note(_: object, __: object, statement: str, parameters: Sequence[object], *___: object) -> None:
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
                asked[statement] = parameters

        ids = [make_build(self.farm, name) for name in ("one", "two")]
        event.listen(Engine, "before_cursor_execute", note)
        self.addCleanup(event.remove, Engine, "before_cursor_execute", note)
        scanner = self.scanner()
        for build_id in ids:
            await self.scan_until(build_id, BuildState.BUILT, scanner=scanner)
        assert len(asked) > 30
        for statement, _, plan in plans(self.farm, asked):
            assert not any(map(READS_ALL.match, plan)), (statement, plan)


Asked = dict[str, Sequence[object]]


def plans(farm: Farm, asked: Asked) -> Iterator[tuple[str, Sequence[object], list[str]]]:
    """What was asked, with which parameters, and how SQLite finds it."""
    with farm.reading() as connection:
        cursor = connection.connection.cursor()
        for statement, parameters in list(asked.items()):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            yield statement, parameters, [row[3] for row in cursor.fetchall()]


@pytest.mark.skipif(on_postgresql(), reason="PostgreSQL chooses by statistics, and small tables by other rules")
def test_a_publication(farm: Farm, tmp_path: Path) -> None:
    """Nothing reads all that is published: of that, packages are found by their names."""
    mine = Mine(farm, tmp_path / "archives")
    mine.built(mine.accept())
    mine.publish()
    asked: Asked = {}

    def note(_: object, __: object, statement: str, parameters: Sequence[object], *___: object) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            asked[statement] = parameters

    event.listen(Engine, "before_cursor_execute", note)
    try:
        mine.built(mine.accept("1.1"))
        mine.publish()
        farm.write(publications.leave, [1, 2], "deleted", mine.now)
        with farm.reading() as connection:
            publications.suites_with_work(connection, mine.now)
            holding.is_over(connection, mine.now)
            uploads.had(connection, mine.archive_id, "hello", ["hello_1.1.dsc", "hello_1.1_amd64.deb"])
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) > 30
    for statement, parameters, plan in plans(farm, asked):
        assert not any(map(READS_ALL.match, plan)), (statement, plan)
        # The index has all sources there ever were by this "value".
        sources = any("ix_publication_binary_id" in line for line in plan)
        assert not (sources and "publication.binary_id IS NULL" in statement), (statement, plan)
        by_state = any("ix_publication_state" in line for line in plan)
        assert not (by_state and statement.startswith("UPDATE")), (statement, plan)
        assert not (by_state and {"PUBLISHED", "GONE"} & set(parameters)), (statement, plan)
