"""Publications that are held, and found by their state; suites that are to be signed anew."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_OLD = "ix_publication_archive_id_series_id_pocket_state"
_NEW = "ix_publication_state_archive_id_series_id_pocket"


def upgrade() -> None:
    op.add_column("publication", sa.Column("held_until", sa.Double))
    op.drop_index(_OLD, "publication")
    op.create_index(_NEW, "publication", ["state", "archive_id", "series_id", "pocket"])
    op.add_column("suite", sa.Column("refresh_at", sa.Double))
    op.create_index("ix_suite_refresh_at", "suite", ["refresh_at"])
    op.create_index("ix_source_file_name", "source_file", ["name"])
    op.create_table(
        "source_hold",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("hold", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_source_hold_archive_id"),
        sa.PrimaryKeyConstraint("id", name="pk_source_hold"),
        sa.UniqueConstraint("archive_id", "name", name="uq_source_hold_archive_id_name"),
    )


def downgrade() -> None:
    op.drop_table("source_hold")
    op.drop_index("ix_source_file_name", "source_file")
    op.drop_index("ix_suite_refresh_at", "suite")
    op.drop_column("suite", "refresh_at")
    op.drop_index(_NEW, "publication")
    op.create_index(_OLD, "publication", ["archive_id", "series_id", "pocket", "state"])
    op.drop_column("publication", "held_until")
