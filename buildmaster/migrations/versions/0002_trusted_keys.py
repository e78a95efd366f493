"""Archives have keys that apt trusts for them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("archive", sa.Column("trusted_keys", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("archive", "trusted_keys")
