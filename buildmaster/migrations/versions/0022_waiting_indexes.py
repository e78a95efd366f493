"""The indexes of what waits are no choice between two for SQLite.

They are those of 0020 but for their condition. Both stay: a farm may be of any revision, and have either.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_KIND = ["architecture", "virtualised", "tags"]
_TURN = ["band", "archive_id", "minus_score", "id"]
_TURNS, _ENTERED = "ix_build_queue_turns", "ix_build_queue_entered"


_COLUMNS = ((_TURNS, [*_KIND, *_TURN]), (_ENTERED, [*_KIND, "entered_at"]))


def upgrade() -> None:
    _make(sa.text("coalesce(builder_id, 0) = 0"))


def downgrade() -> None:
    _make(sa.text("builder_id IS NULL"))


def _make(waiting: sa.TextClause) -> None:
    for name, columns in _COLUMNS:
        op.drop_index(name, "build_queue")
        op.create_index(name, "build_queue", columns, sqlite_where=waiting, postgresql_where=waiting)
