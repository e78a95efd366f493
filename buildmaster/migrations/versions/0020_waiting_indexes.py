"""Indexes of what waits have nothing else in them, so that PostgreSQL finds its order there."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_KIND = ["architecture", "virtualised", "tags"]
_TURN = ["band", "archive_id", "minus_score", "id"]
_TURNS, _ENTERED = "ix_build_queue_turns", "ix_build_queue_entered"


def upgrade() -> None:
    waiting = sa.text("builder_id IS NULL")
    for name, columns in ((_TURNS, [*_KIND, *_TURN]), (_ENTERED, [*_KIND, "entered_at"])):
        op.drop_index(name, "build_queue")
        op.create_index(name, "build_queue", columns, sqlite_where=waiting, postgresql_where=waiting)


def downgrade() -> None:
    before = ["architecture", "virtualised", "builder_id", "tags"]
    for name, columns in ((_TURNS, [*before, *_TURN]), (_ENTERED, [*before, "entered_at"])):
        op.drop_index(name, "build_queue")
        op.create_index(name, "build_queue", columns)
