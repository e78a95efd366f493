"""What must be true of the farm's database after every commit, whoever made it."""

from sqlalchemy import Connection

from buildmaster.lifecycle import ACTIVE, ENDED, QUEUED, TRANSITIONS, BuildState

# One step of the table, or two in one commit (retried, and there is no chroot).
_STEPS = {(old, new) for (old, _), new in TRANSITIONS.items()}
_POSSIBLE = _STEPS | {(old, new) for old, middle in _STEPS for other, new in _STEPS if middle == other}

_BUILDS = """
    SELECT build.id, build.state, build.finished_at IS NOT NULL, build_queue.id IS NOT NULL, build_queue.builder_id,
        builder.cleanliness
    FROM build LEFT JOIN build_queue ON build_queue.build_id = build.id
    LEFT JOIN builder ON builder.id = build_queue.builder_id
    ORDER BY build.id
"""


class Broken(AssertionError):
    """An invariant does not hold."""


class Invariants:
    """Checks them, and remembers each build's state so that the steps between can be checked as well."""

    def __init__(self) -> None:
        self.states: dict[int, BuildState] = {}
        self.commits = 0
        self.lost: dict[int, set[int]] = {}  # By builder, the builds that went from it back into the queue.
        self._had: dict[int, int] = {}  # By build, the builder that has it, or had it last.

    def check(self, connection: Connection) -> dict[int, BuildState]:
        """Check all of them; which builds have another state than before.

        :raises Broken: one does not hold.
        """
        self.commits += 1
        changed: dict[int, BuildState] = {}
        having: dict[int, int] = {}
        for build_id, word, finished, queued, builder_id, cleanliness in connection.exec_driver_sql(_BUILDS):
            state = BuildState(word)
            if queued == (state in ENDED):
                raise Broken(f"build {build_id} is {state}, and {'still' if queued else 'not'} in the queue")
            if bool(finished) != (state in ENDED):
                raise Broken(f"build {build_id} is {state}, and {'has' if finished else 'has not'} ended")
            if (builder_id is not None) != (state in ACTIVE):
                raise Broken(f"build {build_id} is {state}, and its builder is {builder_id}")
            if builder_id is not None:
                if builder_id in having:
                    raise Broken(f"builder {builder_id} has builds {having[builder_id]} and {build_id}")
                if cleanliness != "dirty":
                    raise Broken(f"builder {builder_id} has build {build_id}, and is {cleanliness}")
                having[builder_id], self._had[build_id] = build_id, builder_id
            before = self.states.get(build_id)
            if before is not state:
                if before is not None and (before, state) not in _POSSIBLE:
                    raise Broken(f"build {build_id} was {before} and is {state}")
                if before in ACTIVE and state in QUEUED:
                    self.lost.setdefault(self._had[build_id], set()).add(build_id)
                self.states[build_id] = changed[build_id] = state
        return changed
