"""How many builds a builder has lost since it last ended one properly."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builder", sa.Column("losses", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("builder", "losses")
