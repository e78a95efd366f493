"""Builds have what they were expected to take; what was told of when they begin and end is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TIMES = ("told_at", "begins_from", "begins_to", "ends_from", "ends_to")


def upgrade() -> None:
    op.add_column("build", sa.Column("expected_s", sa.Double(), nullable=True))
    op.create_table(
        "answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in _TIMES),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name=op.f("fk_answer_build_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answer")),
        sa.UniqueConstraint("build_id", name=op.f("uq_answer_build_id")),
    )


def downgrade() -> None:
    op.drop_table("answer")
    op.drop_column("build", "expected_s")
