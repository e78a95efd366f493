"""Keys that statements are signed with can be revoked."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attestation_key", sa.Column("revoked_at", sa.Double))


def downgrade() -> None:
    op.drop_column("attestation_key", "revoked_at")
