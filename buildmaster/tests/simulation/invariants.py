"""What must be true of the farm's database after every commit, whoever made it.

What a commit has changed is told by triggers in the database itself, which write the numbers of builds into a table: so
checking a commit takes as long as what it changed, however many builds there are. Now and then all is checked.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from buildmaster.lifecycle import ACTIVE, ENDED, QUEUED, TRANSITIONS, BuildState

# One step of the table, or two in one commit (retried, and there is no chroot).
_STEPS = {(old, new) for (old, _), new in TRANSITIONS.items()}
_POSSIBLE = _STEPS | {(old, new) for old, middle in _STEPS for other, new in _STEPS if middle == other}

_LOG = "CREATE TABLE simulation_log (id INTEGER PRIMARY KEY, build_id INTEGER)"
_TRIGGERS = {
    "build AFTER INSERT": "SELECT NEW.id",
    "build AFTER UPDATE": "SELECT NEW.id",
    "build_queue AFTER INSERT": "SELECT NEW.build_id",
    "build_queue AFTER UPDATE": "SELECT NEW.build_id",
    "build_queue AFTER DELETE": "SELECT OLD.build_id",
    "builder AFTER UPDATE": "SELECT build_id FROM build_queue WHERE builder_id = NEW.id",
}
_BUILDS = """
    SELECT build.id, build.state, build.finished_at IS NOT NULL, build_queue.id IS NOT NULL, build_queue.builder_id,
        builder.cleanliness, build_queue.looked_at IS NOT NULL, source.superseded_at >= build_queue.queued_at
    FROM build JOIN source ON source.id = build.source_id
    LEFT JOIN build_queue ON build_queue.build_id = build.id
    LEFT JOIN builder ON builder.id = build_queue.builder_id
"""
_CHANGED = "SELECT max(id), build_id FROM simulation_log WHERE id > ? GROUP BY build_id ORDER BY build_id"
_ALL_EVERY = 1000  # Commits.


class Broken(AssertionError):
    """An invariant does not hold."""


class _Row(NamedTuple):
    """A build, with its queue row and that one's builder."""

    build_id: int
    word: str
    finished: bool
    queued: bool
    builder_id: int | None
    cleanliness: str | None
    looked_at: bool | None
    superseded: bool | None  # Since it was queued.


def watch(connection: Connection) -> None:
    """Make the triggers."""
    connection.exec_driver_sql(_LOG)
    for event, builds in _TRIGGERS.items():
        table, _, when = event.partition(" ")
        name = event.replace(" ", "_")
        insert = f"INSERT INTO simulation_log (build_id) {builds}"
        connection.exec_driver_sql(f"CREATE TRIGGER simulation_{name} {when} ON {table} BEGIN {insert}; END")


class Invariants:
    """Checks them, and remembers each build's state so that the steps between can be checked as well."""

    def __init__(self) -> None:
        self.states: dict[int, BuildState] = {}
        self.commits = 0
        self.lost: dict[int, set[int]] = {}  # By builder, the builds that went from it back into the queue.
        self.given: set[int] = set()  # Builds that a person gave to a builder: they go there in any case.
        self._had: dict[int, int] = {}  # By build, the builder that has it, or had it last.
        self._has: dict[int, int] = {}  # By builder, its build.
        self._at: dict[int, int] = {}  # The same the other way round.
        self._read = 0  # So much of the log is read.

    def check(self, connection: Connection) -> dict[int, BuildState]:
        """Check all that was changed since the last time; which builds have another state.

        :raises Broken: one does not hold.
        """
        self.commits += 1
        told = connection.exec_driver_sql(_CHANGED, (self._read,)).all()
        self._read = max((row[0] for row in told), default=self._read)
        concerned = {row[1] for row in told}
        if self.commits % _ALL_EVERY == 0:
            changed = self.check_all(connection)
            if missed := changed.keys() - concerned:
                raise Broken(f"the triggers have missed {missed}")
            return changed
        found: list[_Row] = []
        ids = sorted(concerned)
        for at in range(0, len(ids), 500):
            some = ids[at : at + 500]
            marks = ",".join("?" * len(some))
            found += self._rows(connection, f"WHERE build.id IN ({marks})", tuple(some))
        return self._check(found)

    def check_all(self, connection: Connection) -> dict[int, BuildState]:
        """Check all of it, whatever was changed."""
        return self._check(self._rows(connection, "", ()))

    @staticmethod
    def _rows(connection: Connection, where: str, values: tuple[int, ...]) -> list[_Row]:
        return [_Row(*row) for row in connection.exec_driver_sql(f"{_BUILDS} {where} ORDER BY build.id", values)]

    def _check(self, rows: Iterable[_Row]) -> dict[int, BuildState]:
        changed: dict[int, BuildState] = {}
        rows = list(rows)
        for row in rows:  # First who has nothing more, or a builder that goes from one to the next would have two.
            if (before := self._at.pop(row.build_id, None)) is not None:
                del self._has[before]
        for row in rows:
            state = BuildState(row.word)
            self._check_row(row, state)
            before_state = self.states.get(row.build_id)
            if before_state is not state:
                self._check_step(row.build_id, before_state, state)
                self.states[row.build_id] = changed[row.build_id] = state
            if row.builder_id is not None:
                self._had[row.build_id] = row.builder_id
        return changed

    def _check_row(self, row: _Row, state: BuildState) -> None:
        build_id, builder_id = row.build_id, row.builder_id
        if row.queued == (state in ENDED):
            raise Broken(f"build {build_id} is {state}, and {'still' if row.queued else 'not'} in the queue")
        if bool(row.finished) != (state in ENDED):
            raise Broken(f"build {build_id} is {state}, and {'has' if row.finished else 'has not'} ended")
        if (builder_id is not None) != (state in ACTIVE):
            raise Broken(f"build {build_id} is {state}, and its builder is {builder_id}")
        if state in QUEUED and row.superseded:
            raise Broken(f"build {build_id} is {state}, and its source was superseded since it was queued")
        if builder_id is None:
            return
        if not row.looked_at and build_id not in self.given:
            raise Broken(f"builder {builder_id} has build {build_id}, whose dependencies nobody has looked at")
        if builder_id in self._has:
            raise Broken(f"builder {builder_id} has builds {self._has[builder_id]} and {build_id}")
        if row.cleanliness != "dirty":
            raise Broken(f"builder {builder_id} has build {build_id}, and is {row.cleanliness}")
        self._has[builder_id], self._at[build_id] = build_id, builder_id

    def _check_step(self, build_id: int, before: BuildState | None, state: BuildState) -> None:
        if before is not None and (before, state) not in _POSSIBLE:
            raise Broken(f"build {build_id} was {before} and is {state}")
        if before in ACTIVE and state in QUEUED:
            self.lost.setdefault(self._had[build_id], set()).add(build_id)
