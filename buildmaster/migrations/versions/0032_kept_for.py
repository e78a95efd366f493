"""For which other package a superseded one stays; what is to change, found at once."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("publication", sa.Column("kept_for_id", sa.Integer))
    some = sa.text("kept_for_id IS NOT NULL")
    op.create_index(
        "ix_publication_kept_for_id", "publication", ["kept_for_id"], sqlite_where=some, postgresql_where=some
    )
    changing = sa.text("state IN ('PENDING', 'LEAVING')")
    columns = ["archive_id", "series_id", "pocket", "state"]
    op.create_index("ix_publication_changing", "publication", columns, sqlite_where=changing, postgresql_where=changing)


def downgrade() -> None:
    op.drop_index("ix_publication_changing", "publication")
    op.drop_index("ix_publication_kept_for_id", "publication")
    op.drop_column("publication", "kept_for_id")
