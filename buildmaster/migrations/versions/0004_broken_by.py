"""Which builders broke with a build, and not only how many."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("build_queue", sa.Column("broken_by", sa.Text(), server_default="", nullable=False))
    op.drop_column("build_queue", "breakdowns")


def downgrade() -> None:
    op.add_column("build_queue", sa.Column("breakdowns", sa.Integer(), server_default="0", nullable=False))
    op.drop_column("build_queue", "broken_by")
