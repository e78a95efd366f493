"""Architectures that a version which is held does not wait for."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("publication", sa.Column("waived", sa.String(255), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("publication", "waived")
