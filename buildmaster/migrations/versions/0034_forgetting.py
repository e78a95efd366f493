"""When packages of an archive are forgotten; sources that are."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("repository", sa.Column("forget_s", sa.Double, nullable=False, server_default="2592000"))
    op.add_column("source", sa.Column("forgotten_at", sa.Double))


def downgrade() -> None:
    op.drop_column("source", "forgotten_at")
    op.drop_column("repository", "forget_s")
