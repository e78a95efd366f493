"""Pockets may have chroots of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pocket_chroot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("series_architecture_id", sa.Integer(), nullable=False),
        sa.Column("pocket", sa.String(16), nullable=False),
        sa.Column("chroot_file_id", sa.Integer(), nullable=False),
        sa.Column("chroot_name", sa.String(255), nullable=False),
        sa.Column("chroot_set_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_architecture_id"],
            ["series_architecture.id"],
            name=op.f("fk_pocket_chroot_series_architecture_id"),
        ),
        sa.ForeignKeyConstraint(["chroot_file_id"], ["stored_file.id"], name=op.f("fk_pocket_chroot_chroot_file_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pocket_chroot")),
        sa.UniqueConstraint(
            "series_architecture_id", "pocket", name=op.f("uq_pocket_chroot_series_architecture_id_pocket")
        ),
    )


def downgrade() -> None:
    op.drop_table("pocket_chroot")
