"""For how long a builder may have a build of an archive."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("archive", sa.Column("build_timeout_s", sa.Double, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("archive", "build_timeout_s")
