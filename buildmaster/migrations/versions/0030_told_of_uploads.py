"""Who uploads is told what became of it."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_KEY = "fk_notification_upload_id"


def upgrade() -> None:
    with op.batch_alter_table("notification") as table:
        table.alter_column("build_id", existing_type=sa.Integer, nullable=True)
        table.add_column(sa.Column("upload_id", sa.Integer))
        table.create_foreign_key(_KEY, "upload", ["upload_id"], ["id"])


def downgrade() -> None:
    op.execute("DELETE FROM notification WHERE build_id IS NULL")
    with op.batch_alter_table("notification") as table:
        table.drop_constraint(_KEY, type_="foreignkey")
        table.drop_column("upload_id")
        table.alter_column("build_id", existing_type=sa.Integer, nullable=False)
