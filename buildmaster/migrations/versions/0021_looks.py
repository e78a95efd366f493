"""Build-dependencies are looked at before dispatch, by what is known of sources, chroots and archives."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_INDEX = "ix_build_queue_looked_at_archive_id_minus_score"


def upgrade() -> None:
    op.create_table(
        "chroot_system",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_chroot_system")),
    )
    op.add_column("archive", sa.Column("changed_at", sa.Double(), nullable=True))
    op.add_column("source", sa.Column("relations", sa.Text(), nullable=True))
    op.add_column("build", sa.Column("archive_state", sa.String(length=64), server_default="", nullable=False))
    op.add_column("build_queue", sa.Column("looked_at", sa.Double(), nullable=True))
    op.create_index(op.f(_INDEX), "build_queue", ["looked_at", "archive_id", "minus_score"])


def downgrade() -> None:
    op.drop_index(op.f(_INDEX), "build_queue")
    op.drop_column("build_queue", "looked_at")
    op.drop_column("build", "archive_state")
    op.drop_column("source", "relations")
    op.drop_column("archive", "changed_at")
    op.drop_table("chroot_system")
