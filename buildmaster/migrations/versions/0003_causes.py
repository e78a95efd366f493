"""Builds that failed have a cause and the first error's lines; builders that broke with a build are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("build", sa.Column("cause", sa.String(length=32), server_default="", nullable=False))
    op.add_column("build", sa.Column("error", sa.Text(), server_default="", nullable=False))
    op.add_column("build_queue", sa.Column("breakdowns", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("build_queue", "breakdowns")
    op.drop_column("build", "error")
    op.drop_column("build", "cause")
