"""Builds may be done in other ways than a daemon does them by itself."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("build", sa.Column("wishes", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("build", "wishes")
