"""Virtualised builders have a host, and a time since which they are being reset."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builder", sa.Column("vm_host", sa.String(255), server_default="", nullable=False))
    op.add_column("builder", sa.Column("cleaning_since", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("builder", "cleaning_since")
    op.drop_column("builder", "vm_host")
