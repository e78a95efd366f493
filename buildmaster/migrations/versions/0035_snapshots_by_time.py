"""Snapshots that are taken by time."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("repository", sa.Column("snapshot_every_s", sa.Double, nullable=False, server_default="0"))
    op.add_column("repository", sa.Column("snapshots_kept", sa.Integer, nullable=False, server_default="0"))
    op.add_column("snapshot", sa.Column("was_due", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("snapshot", "was_due")
    op.drop_column("repository", "snapshots_kept")
    op.drop_column("repository", "snapshot_every_s")
