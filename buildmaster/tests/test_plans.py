"""How SQLite finds what a build's life asks for: nothing reads all of a table that grows with the farm's work."""

import re
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, event

from buildmaster.lifecycle import BuildState
from buildmaster.tests.databases import on_postgresql
from buildmaster.tests.factories import make_build
from buildmaster.tests.farm_case import FarmCase

GROW = "build|build_queue|build_file|source|source_file|stored_file|notification|deleted_file"
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
        with self.farm.reading() as connection:
            cursor = connection.connection.cursor()
            for statement, parameters in list(asked.items()):
                cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plan = [row[3] for row in cursor.fetchall()]
                assert not any(map(READS_ALL.match, plan)), (statement, plan)
