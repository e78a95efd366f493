"""Builders have resource tags, archives and builds need some."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("builder", "tags"),
    ("builder", "restricted_tags"),
    ("archive", "tags"),
    ("build", "tags"),
    ("build_queue", "tags"),
)
_BEFORE = ["architecture", "virtualised", "builder_id", "score"]
_AFTER = ["architecture", "virtualised", "builder_id", "tags", "score"]


def upgrade() -> None:
    for table, column in _COLUMNS:
        op.add_column(table, sa.Column(column, sa.String(255), server_default="", nullable=False))
    op.drop_index(op.f("ix_build_queue_architecture_virtualised_builder_id_score"), "build_queue")
    op.create_index(op.f("ix_build_queue_architecture_virtualised_builder_id_tags_score"), "build_queue", _AFTER)
    op.create_index(op.f("ix_build_queue_lost_by_id"), "build_queue", ["lost_by_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_build_queue_lost_by_id"), "build_queue")
    op.drop_index(op.f("ix_build_queue_architecture_virtualised_builder_id_tags_score"), "build_queue")
    op.create_index(op.f("ix_build_queue_architecture_virtualised_builder_id_score"), "build_queue", _BEFORE)
    for table, column in reversed(_COLUMNS):
        op.drop_column(table, column)
