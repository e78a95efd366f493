"""Who may read private archives; what sources a chroot has of its own; what components a suite has."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "archive_reader",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_archive_reader_archive_id"),
        sa.PrimaryKeyConstraint("id", name="pk_archive_reader"),
        sa.UniqueConstraint("archive_id", "name", name="uq_archive_reader_archive_id_name"),
    )
    op.add_column("suite", sa.Column("components", sa.String(255), nullable=False, server_default="main"))
    op.add_column("chroot_system", sa.Column("lines", sa.Text))
    op.add_column("chroot_system", sa.Column("line_keys", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("suite", "components")
    op.drop_column("chroot_system", "line_keys")
    op.drop_column("chroot_system", "lines")
    op.drop_table("archive_reader")
