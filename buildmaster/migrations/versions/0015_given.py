"""A person may give a builder its next build."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builder", sa.Column("given_build_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("builder", "given_build_id")
