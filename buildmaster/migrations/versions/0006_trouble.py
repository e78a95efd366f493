"""Why, and since when, the scans of a builder fail."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builder", sa.Column("trouble", sa.Text(), server_default="", nullable=False))
    op.add_column("builder", sa.Column("trouble_since", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("builder", "trouble_since")
    op.drop_column("builder", "trouble")
