"""Several masters, who hold builders."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "master",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("lease_s", sa.Double(), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("heard_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_master")),
        sqlite_autoincrement=True,
    )
    op.add_column("builder", sa.Column("master_id", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_builder_master_id"), "builder", ["master_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_builder_master_id"), table_name="builder")
    op.drop_column("builder", "master_id")
    op.drop_table("master")
