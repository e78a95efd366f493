"""What binary packages a source builds."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source_binary",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_source_binary_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_binary")),
        sa.UniqueConstraint("source_id", "name", name=op.f("uq_source_binary_source_id_name")),
    )
    op.create_index(op.f("ix_source_binary_name"), "source_binary", ["name"])


def downgrade() -> None:
    op.drop_table("source_binary")
