"""Source packages may need resource tags, whatever their version."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source_need",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("tags", sa.String(255), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_source_need_archive_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_need")),
        sa.UniqueConstraint("archive_id", "name", name=op.f("uq_source_need_archive_id_name")),
    )


def downgrade() -> None:
    op.drop_table("source_need")
