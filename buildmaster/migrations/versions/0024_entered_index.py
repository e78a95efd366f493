"""PostgreSQL does not take the index of what is new in the queue for that of what is next, which begins alike."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_NAME, _COLUMNS = "ix_build_queue_entered", ["architecture", "virtualised", "tags", "entered_at"]


def upgrade() -> None:
    _make(sa.text("coalesce(builder_id, 0) = 0 AND entered_at >= 0"))


def downgrade() -> None:
    _make(sa.text("coalesce(builder_id, 0) = 0"))


def _make(condition: sa.TextClause) -> None:
    op.drop_index(_NAME, "build_queue")
    op.create_index(_NAME, "build_queue", _COLUMNS, sqlite_where=condition, postgresql_where=condition)
